"""The modules that scripts import by databroker's names, and the page that lists all of them."""

import gc
import os
import pickle
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
import types
import warnings
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import bluesky.plans as bp
import bluesky.preprocessors as bpp
import doct
import numpy as np
import pytest
from bluesky import RunEngine
from ophyd.sim import SynAxis, SynGauss

import factories
import filebroker
from filebroker import Broker, FilebrokerWarning, MissingPackage, NotSupported, temp
from filebroker.core import (
    BlueskyRun,
    NotMutable,
    SingleRunCache,
    discover_handlers,
    parse_handler_registry,
    parse_transforms,
)
from filebroker.glue import read_header
from filebroker.in_memory import BlueskyInMemoryCatalog
from filebroker.pivot import pivot_timeseries, reset_time, zip_events
from filebroker.projector import (
    ProjectionError,
    Projector,
    get_run_projection,
    get_xarray_config_field,
    project_summary_dict,
    project_xarray,
)
from filebroker.utils import DOCT_NAMES, LazyMap, ensure_path_exists, get_fields, wrap_in_doct

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "databroker-api.md"

# -- the names


def rows() -> dict[str, dict[str, str]]:
    """Give what the page says of each name, by the thing that has it."""
    told: dict[str, dict[str, str]] = {}
    owner = ""
    for line in PAGE.read_text().splitlines():
        if line.startswith("## "):
            owner = line.removeprefix("## ").strip("`")
        row = re.fullmatch(r"\| (.+?) \| (same|better|left out) \| .*\|", line)
        assert row or not line.startswith("| `"), f"no row of the table: {line}"
        for name in re.findall(r"`([^`]+)`", row[1]) if row else ():
            assert name not in told.setdefault(owner, {}), f"{owner} {name} is told of twice"
            told[owner][name] = row[2]
    return told


def has_module(name: str) -> bool:
    parts = name.split(".")
    return all(find_spec(".".join(["filebroker", *parts[: n + 1]])) is not None for n in range(len(parts)))


@pytest.fixture
def owners(own_home):
    """Give what has the names of each section of the page."""
    folder = own_home / ".config" / "databroker"
    folder.mkdir(parents=True)
    (folder / "_legacy_config.yml").write_text(f"path: {own_home / 'legacy'}\n")
    db = Broker.named("example")
    things = {"db": db, "header": db[-1], "db.reg": db.reg, "db.v2": db.v2, "run": db.v2[-1]}
    things["stream"] = db.v2[-1]["primary"]
    for name in rows():
        if name.startswith("databroker"):
            things[name] = import_module("filebroker" + name.removeprefix("databroker"))
    things["With a legacy configuration"] = filebroker
    return things


def test_the_page_tells_the_truth_of_every_name(owners):
    told = rows()
    modules = told.pop("Modules")
    assert {name: has_module(name) for name in modules} == {name: row != "left out" for name, row in modules.items()}
    assert told.keys() == owners.keys()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some old names warn
        wrong = [
            f"{owner}.{name}: {row}"
            for owner, names in told.items()
            for name, row in names.items()
            if hasattr(owners[owner], name) != (row != "left out")
        ]
    assert wrong == []
    assert sum(map(len, told.values())) > 300


def test_legacy_names_are_in_both_modules(owners):
    legacy = import_module("filebroker.databroker")
    assert all(hasattr(legacy, name) for name in rows()["With a legacy configuration"])
    with pytest.warns(UserWarning, match="get_events"):
        assert list(legacy.get_events([])) == []


@pytest.mark.parametrize(
    "statement",
    [
        "from databroker.queries import TimeRange; TimeRange('2020')",
        "from databroker.utils import normalize_human_friendly_time, LazyMap, get_fields, CONFIG_SEARCH_PATH",
        "from databroker.core import BlueskyRun, discover_handlers, parse_handler_registry, SingleRunCache",
        "from databroker.v1 import Broker, temp; assert isinstance(temp(), Broker)",
        "from databroker.v2 import Broker, temp; assert isinstance(temp(), Broker)",
        "import databroker.projector; databroker.projector.project_xarray",
        "import databroker.in_memory, databroker.pivot, databroker.glue, databroker.discovery, databroker.broker",
        "import databroker._drivers.msgpack as d; assert hasattr(d, 'BlueskyMsgpackCatalog')",
        "import databroker._drivers.msgpack, databroker._drivers.mongo_normalized; assert isinstance("
        "databroker.temp().v2, databroker._drivers.msgpack.BlueskyMsgpackCatalog)",
        "from databroker import Broker, temp, list_configs, ALL; import databroker.databroker",
        "import databroker; databroker.v2.temp(); databroker.queries.TimeRange; databroker.utils.list_configs()",
    ],
)
def test_a_script_that_imports_databroker_runs_unchanged(statement):
    code = f"import sys, filebroker; sys.modules['databroker'] = filebroker; {statement}"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    exec(re.sub(r"(?<![.\w])databroker", "filebroker", statement), {})  # with the word replaced


def test_importing_filebroker_imports_none_of_this_and_nothing_heavy():
    code = """
        import sys, filebroker
        assert not {name for name in sys.modules if name.startswith("filebroker.")}, sys.modules.keys()
        import filebroker.core, filebroker.v1, filebroker.v2, filebroker.queries, filebroker.projector
        import filebroker.in_memory, filebroker.pivot, filebroker.glue, filebroker.discovery
        heavy = {"xarray", "dask", "h5py", "tifffile", "PIL", "pims", "intake", "glue"}
        assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=60)


# -- drivers


def test_catalogs_are_what_apstools_and_apsbits_ask_for():
    kinds = [
        getattr(import_module(f"filebroker._drivers.{module}"), name)
        for module, name in [
            ("msgpack", "BlueskyMsgpackCatalog"),
            ("jsonl", "BlueskyJSONLCatalog"),
            ("mongo_normalized", "BlueskyMongoCatalog"),
            ("mongo_embedded", "BlueskyMongoCatalog"),
        ]
    ]
    db = temp()
    for kind in kinds:
        assert isinstance(db.v2, kind)
        assert isinstance(db.v2.search({}), kind)
        assert not isinstance(db, kind)
        assert not isinstance({}, kind)
        with pytest.raises(NotSupported, match="insert"):
            kind("/data/*.msgpack")
    engine = RunEngine()
    engine.subscribe(db.v2.v1.insert)  # as apsbits does with such a catalog
    engine(bp.count([SynAxis(name="motor")]))
    assert len(db.v2) == 1


# -- utils


def test_values_of_a_lazy_map_are_made_once_and_when_asked_for():
    made = []
    lazy = LazyMap({key: partial(lambda key: made.append(key) or key * 2, key) for key in "ab"})
    assert "a" in lazy
    assert len(lazy) == 2
    assert list(lazy) == ["a", "b"]
    assert "0 made" in repr(lazy)
    assert made == []
    assert lazy["a"] == lazy["a"] == "aa"
    assert made == ["a"]
    with pytest.raises(KeyError):
        lazy["c"]


def test_a_lazy_map_grows_and_never_changes():
    lazy = LazyMap(a=lambda: 1)
    with pytest.raises(TypeError, match="'a'"):
        lazy.add({"a": lambda: 2, "b": lambda: 2})
    assert dict(lazy) == {"a": 1}
    lazy.add(b=lambda: lazy["a"] + 1)
    assert dict(lazy) == {"a": 1, "b": 2}


def test_a_lazy_map_can_be_pickled_and_is_made_once_by_many_threads():
    lazy = LazyMap(x=partial(int, "1"))
    assert dict(pickle.loads(pickle.dumps(lazy))) == {"x": 1} == dict(lazy)
    gate, made = threading.Barrier(8), []
    counted = LazyMap(x=lambda: time.sleep(0.02) or made.append(1) or 5)

    def look():
        gate.wait()
        assert counted["x"] == 5

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [1]


def test_the_fields_of_a_run_or_a_stream():
    header = Broker.named("example")[-1]
    assert get_fields(header) == header.fields()
    assert get_fields(header, "primary") == {"det", "motor", "motor_setpoint"}
    assert get_fields(header, "nope") == set()
    assert get_fields({"descriptors": [{"data_keys": {"a": {}}}]}, "primary") == {"a"}  # a stream without a name


def test_a_path_is_made_and_may_exist(tmp_path):
    ensure_path_exists(tmp_path / "a" / "b")
    ensure_path_exists(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    with pytest.raises(FileExistsError):
        ensure_path_exists(tmp_path / "a", exist_ok=False)


def test_the_names_of_documents_are_those_that_wrapping_gives():
    for name, label in DOCT_NAMES.items():
        wrapped = wrap_in_doct(name, {"uid": "84d9ee44"})
        assert isinstance(wrapped, doct.Document)
        assert wrapped._name == label


def test_the_search_path_follows_the_home(own_home):
    from filebroker import utils

    assert str(own_home / ".config" / "databroker") in utils.CONFIG_SEARCH_PATH
    with pytest.raises(AttributeError):
        utils.no_such_name  # noqa: B018


# -- core


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Install a package that offers a handler, and one that cannot be imported."""
    folder = tmp_path / "odd-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: odd\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[databroker.handlers]\nODD = odd:Handler\nBROKEN = odd.nothing:Handler\n")
    (tmp_path / "odd.py").write_text("class Handler:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("odd", None)


def test_discovered_handlers_are_classes_in_a_dict_of_ones_own(package):
    with pytest.warns(FilebrokerWarning, match=r"odd.nothing:Handler"):
        found = discover_handlers()
    assert found.pop("ODD").__name__ == "Handler"
    assert "BROKEN" not in found
    with pytest.warns(FilebrokerWarning):
        assert "ODD" in discover_handlers()
    with pytest.raises(ModuleNotFoundError):
        discover_handlers(skip_failures=False)


def test_handlers_and_transforms_by_name_are_imported():
    parsed = parse_handler_registry({"A": "doct.Document", "B": "doct:Document", "C": int})
    assert parsed == {"A": doct.Document, "B": doct.Document, "C": int}
    with pytest.raises(ImportError):
        parse_handler_registry({"A": "no.such.Thing"})
    assert parse_transforms({"start": "doct.Document"})["start"] is doct.Document
    with pytest.raises(NotImplementedError):
        parse_transforms({"event": dict})


def test_the_documents_of_a_run_are_of_the_classes_of_core():
    start = Broker.named("example").v2[-1].metadata["start"]
    assert type(start) is import_module("filebroker.core").Start
    with pytest.raises(NotMutable):
        start["uid"] = "other"


# -- one run


def test_a_plan_looks_at_its_own_run():
    motor = SynAxis(name="motor")
    det = SynGauss("det", motor, "motor", center=0, Imax=1)
    seen = []

    def plan():
        cache = SingleRunCache()

        @bpp.subs_decorator(cache.callback)
        def inner():
            assert "in progress" in repr(cache)
            yield from bp.rel_scan([det], motor, -1, 1, 11)
            seen.append((cache, cache.retrieve()))

        yield from inner()

    engine = RunEngine()
    (uid,) = engine(plan())
    cache, run = seen.pop()
    assert isinstance(run, BlueskyRun)
    assert cache.retrieve() is run
    assert uid in repr(cache)
    del cache
    gc.collect()  # the run needs the cache no more
    table = run.primary.read()["motor"].to_dataframe()
    assert table["motor"].tolist() == pytest.approx(np.linspace(-1, 1, 11).tolist())
    assert run.metadata["stop"]["exit_status"] == "success"


def test_a_cache_gives_no_run_before_its_end_and_takes_no_second():
    cache = SingleRunCache(transforms={"start": lambda doc: {**doc, "sample": "mended"}})
    documents = factories.run()
    for name, doc in documents[:-1]:
        cache.callback(name, doc)
        assert cache.retrieve() is None
    cache.callback(*documents[-1])
    assert cache.retrieve().metadata["start"]["sample"] == "mended"
    with pytest.raises(ValueError, match="one run"):
        cache.callback("start", factories.start())


@pytest.mark.parametrize("kind", [SingleRunCache, BlueskyInMemoryCatalog])
def test_only_the_usual_filler_is_accepted(kind):
    import event_model

    kind(filler_class=event_model.Filler)
    kind(filler_class="event_model.Filler")
    with pytest.raises(NotSupported, match="handler"):
        kind(filler_class=partial(event_model.Filler, coerce="delayed"))


# -- many runs, from functions


class Generator:
    """Gives documents, and counts how often it is asked."""

    def __init__(self, documents):
        self.documents, self.calls = documents, []

    def __call__(self, *arguments, **keywords):
        self.calls.append((arguments, keywords))
        yield from self.documents


def upserted(catalog, documents):
    generator = Generator(documents)
    stop = documents[-1][1] if documents[-1][0] == "stop" else None
    catalog.upsert(documents[0][1], stop, generator, [1], {"two": 2})
    return generator


def test_functions_are_called_once_and_not_before_a_run_is_needed():
    catalog = BlueskyInMemoryCatalog()
    generators = [upserted(catalog, factories.run(scan_id=number, time=factories.T0 + number)) for number in range(3)]
    assert [generator.calls for generator in generators] == [[]] * 3
    assert [run.metadata["start"]["scan_id"] for run in catalog.values()] == [2, 1, 0]
    assert catalog[-1]["primary"].to_dask()["det"].values.tolist() == [0.5] * 3
    assert len(catalog) == 3
    assert [generator.calls for generator in generators] == [[((1,), {"two": 2})]] * 3


def test_runs_from_functions_are_searched_and_have_a_v1():
    catalog = BlueskyInMemoryCatalog(name="mine", metadata={"about": "tests"})
    for sample in ("LaB6", "CeO2"):
        upserted(catalog, factories.run(sample=sample))
    found = catalog.search({"sample": "CeO2"})
    assert [run.metadata["start"]["sample"] for run in found.values()] == ["CeO2"]
    assert len(catalog.search({}).search({"sample": {"$ne": "CeO2"}})) == 1
    assert len(catalog.v1[-1].table()) == 3
    assert catalog.v1.v2 is catalog is catalog.v2
    assert catalog.name == "mine"
    assert catalog.metadata["about"] == "tests"


def test_a_query_leaves_runs_out():
    catalog = BlueskyInMemoryCatalog(query={"sample": "LaB6"})
    for sample in ("LaB6", "CeO2"):
        upserted(catalog, factories.run(sample=sample))
    assert [run.metadata["start"]["sample"] for run in catalog.values()] == ["LaB6"]


def test_a_run_is_replaced_by_another_of_its_uid():
    catalog = BlueskyInMemoryCatalog()
    begun, other = factories.run(rows=1, uid="f1", sample="first"), factories.run(uid="f2", time=1.0)
    upserted(catalog, begun)
    upserted(catalog, other)
    assert len(catalog["f1"].primary.read()["det"]) == 1
    upserted(catalog, factories.run(rows=2, uid="f1", sample="second"))
    assert len(catalog["f1"].primary.read()["det"]) == 2
    assert [run.metadata["start"].get("sample") for run in catalog.values()] == ["second", None]
    assert len(catalog.search({"sample": "first"})) == 0


@pytest.mark.parametrize("rows", [2, 3000])
def test_a_run_that_is_held_stays_as_it_was_when_it_is_replaced(rows):
    catalog = BlueskyInMemoryCatalog()
    first, second = factories.run(rows=rows, uid="f1"), factories.run(rows=3, uid="f1")
    upserted(catalog, first)
    other = upserted(catalog, factories.run(uid="f2", time=1.0))
    held, stream = catalog["f1"], catalog["f1"].primary
    place = Path(catalog.v1.catalog.folder.local)
    upserted(catalog, second)
    assert len(catalog["f1"].primary.read()["det"]) == 3
    assert len(held.primary.read()["det"]) == len(stream.read()["det"]) == rows
    assert len(list(held.documents(fill="no"))) > 2
    assert len(catalog["f2"].primary.read()["det"]) == 3
    assert len(other.calls) == 1
    assert place.exists()
    del held, stream
    gc.collect()
    assert not place.exists()


def test_a_replaced_run_without_links_is_copied(monkeypatch):
    def refuse(old, new):
        raise OSError("no links here")

    monkeypatch.setattr("os.link", refuse)
    catalog = BlueskyInMemoryCatalog()
    for documents in (factories.run(uid="f1"), factories.run(uid="f2")):
        upserted(catalog, documents)
    assert len(catalog) == 2
    upserted(catalog, factories.run(rows=1, uid="f1"))
    assert sorted(len(run.primary.read()["det"]) for run in catalog.values()) == [1, 3]


def test_a_copy_of_a_catalog_in_memory_replaces_its_own_run_alone():
    catalog = of_catalog()
    copy = pickle.loads(pickle.dumps(catalog))
    upserted(copy, factories.run(rows=1, uid="f1"))
    assert len(copy["f1"].primary.read()["det"]) == 1
    assert len(catalog["f1"].primary.read()["det"]) == 3


def test_a_document_may_be_modified_after_a_cache_took_it():
    cache, documents = SingleRunCache(), factories.run(rows=1, uid="f1")
    for name, doc in documents:
        cache.callback(name, doc)
        if name == "event":
            doc["data"]["det"] = 55
    assert cache.retrieve().primary.read()["det"].values.tolist() == [0.5]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_that_is_forked_while_a_catalog_in_memory_is_read_does_not_wait():
    catalog = of_catalog()
    assert len(catalog) == 1
    entered, leave = threading.Event(), threading.Event()

    def slow():
        entered.set()
        leave.wait(30)
        yield from factories.run(uid="f2")

    catalog.upsert(factories.start(uid="f2"), None, slow)
    reader = threading.Thread(target=len, args=[catalog])
    reader.start()
    entered.wait(30)
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        os._exit(len(catalog))
    try:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    finally:
        leave.set()
        reader.join()


def test_the_error_of_a_function_is_told_once_and_hides_no_other_run():
    def broken():
        yield "start", bad
        raise OSError("the disk is gone")

    bad = factories.start(uid="f0")
    catalog = BlueskyInMemoryCatalog()
    catalog.upsert(bad, None, broken)
    upserted(catalog, factories.run(uid="f1"))
    with pytest.raises(OSError, match="the disk is gone"):
        catalog["f1"]
    assert len(catalog["f1"].primary.read()["det"]) == 3
    assert catalog["f0"].metadata["stop"] is None


def test_functions_may_give_pages_arrays_and_no_stop():
    begun = factories.start()
    primary = factories.descriptor(begun, {"spectrum": factories.data_key("array", shape=[4])})
    page = factories.event_page(primary, (1, 2), {"spectrum": [np.arange(4), np.arange(4) + 1]})
    catalog = BlueskyInMemoryCatalog()
    upserted(catalog, [("start", begun), ("descriptor", primary), ("event_page", page)])
    run = catalog[-1]
    assert run.metadata["stop"] is None
    assert run.primary.read()["spectrum"].values.tolist() == [[0, 1, 2, 3], [1, 2, 3, 4]]


class Constant:
    """Reads the same number from any file."""

    def __init__(self, path, value):
        self.value = value

    def __call__(self, index):
        return np.full((2, 2), self.value + index)


def test_runs_from_functions_are_filled_by_their_handlers():
    begun = factories.start()
    image = factories.data_key("array", shape=[2, 2], external="FILESTORE:")
    primary = factories.descriptor(begun, {"image": image})
    held = factories.resource(begun, spec="CONSTANT", resource_kwargs={"value": 5})
    datum = factories.datum(held, 1)
    event = factories.event(primary, 1, {"image": datum["datum_id"]})
    documents = [("start", begun), ("descriptor", primary), ("resource", held), ("datum", datum), ("event", event)]
    documents.append(("stop", factories.stop(begun)))
    catalog = BlueskyInMemoryCatalog(handler_registry={"CONSTANT": Constant}, root_map={"/nowhere": "/elsewhere"})
    upserted(catalog, documents)
    assert catalog[-1].primary.to_dask()["image"].values.tolist() == [[[6, 6], [6, 6]]]
    assert dict(catalog.root_map) == {"/nowhere": "/elsewhere"}
    assert list(catalog.handler_registry) == ["CONSTANT"]
    assert "NPY_SEQ" in BlueskyInMemoryCatalog().handler_registry  # without any, what is installed
    cache = SingleRunCache(handler_registry={"CONSTANT": Constant})
    for name, doc in documents:
        cache.callback(name, doc)
    assert cache.retrieve().primary.read()["image"].values.tolist() == [[[6, 6], [6, 6]]]


def test_nothing_is_left_of_a_catalog_in_memory():
    catalog = BlueskyInMemoryCatalog()
    upserted(catalog, factories.run())
    place = Path(catalog.v1.catalog.folder.local)
    run = catalog[-1]
    del catalog
    gc.collect()
    assert len(run.primary.read()["det"]) == 3
    del run
    gc.collect()
    assert not place.exists()


def of_cache():
    cache = SingleRunCache()
    for name, doc in factories.run(uid="f1"):
        cache.callback(name, doc)
    return cache


def of_catalog(**options):
    catalog = BlueskyInMemoryCatalog(name="mine", metadata={"about": "tests"}, **options)
    documents = factories.run(uid="f1")
    catalog.upsert(documents[0][1], documents[-1][1], lambda: iter(documents))
    return catalog


#: For a thing that can be pickled, how the run is found in it.
PICKLED = {
    "the run of a cache": (lambda: of_cache().retrieve(), lambda run: run),
    "a cache": (of_cache, SingleRunCache.retrieve),
    "a cache that gave its run": (lambda: (cache := of_cache(), cache.retrieve())[0], SingleRunCache.retrieve),
    "a run": (lambda: of_catalog()[-1], lambda run: run),
    "a catalog": (of_catalog, lambda catalog: catalog["f1"]),
    "a catalog that was asked": (lambda: (catalog := of_catalog(), len(catalog))[0], lambda catalog: catalog["f1"]),
    "a catalog with a query": (lambda: of_catalog(query={"uid": "f1"}), lambda catalog: catalog[-1]),
    "a search": (lambda: of_catalog().search({"uid": "f1"}), lambda found: found[-1]),
    "its broker": (lambda: of_catalog().v1, lambda broker: broker["f1"].v2),
}


@pytest.mark.parametrize("what", PICKLED)
def test_runs_in_memory_can_be_pickled(what):
    make, find = PICKLED[what]
    thing = make()
    copy = find(pickle.loads(pickle.dumps(thing)))
    assert copy == find(thing)
    assert copy.primary.read()["det"].values.tolist() == [0.5] * 3


def test_runs_in_memory_can_be_read_by_another_process(tmp_path):
    things = {what: make() for what, (make, _) in PICKLED.items()}
    file = tmp_path / "pickled"
    file.write_bytes(pickle.dumps(things))
    code = """
        import pickle, sys
        for what, thing in pickle.load(open(sys.argv[1], "rb")).items():
            run = thing if hasattr(thing, "uid") else thing.retrieve() if hasattr(thing, "retrieve") else thing["f1"].v2
            assert run.uid == "f1", what
            assert run.primary.read()["det"].values.tolist() == [0.5] * 3, what
    """
    arguments = [sys.executable, "-W", "error", "-c", textwrap.dedent(code), str(file)]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    for what, (_, find) in PICKLED.items():  # nothing was taken away
        assert len(find(things[what]).primary.read()["det"]) == 3


def test_a_pickled_catalog_in_memory_is_still_one():
    catalog = of_catalog()
    copy = pickle.loads(pickle.dumps(catalog))
    assert (copy.name, copy.metadata, copy.v1.v2 is copy) == ("mine", {"about": "tests"}, True)
    upserted(copy, factories.run(uid="f2", time=factories.T0 + 60))
    assert list(copy) == ["f2", "f1"]


def test_an_error_of_a_function_is_told_when_its_catalog_is_pickled():
    def broken():
        raise OSError("the disk is gone")
        yield

    catalog = of_catalog()
    catalog.upsert(factories.start(uid="f0"), None, broken)
    with pytest.raises(OSError, match="the disk is gone"):
        pickle.dumps(catalog)
    assert list(pickle.loads(pickle.dumps(catalog))) == ["f1"]


# -- projections

LINKED = {
    "who": {"type": "linked", "location": "start", "field": "operator"},
    "x": {"type": "linked", "location": "event", "stream": "primary", "field": "motor"},
    "unit": {
        **{"type": "linked", "location": "configuration", "stream": "primary", "config_index": 0},
        **{"config_device": "stage", "field": "unit"},
    },
}


def doubled(run, field, *, plus):
    return run["primary"].to_dask()[field] * 2 + plus


@pytest.fixture
def projected():
    """Give a run with one projection, and its start document."""

    def make(projections):
        db = temp()
        begun = factories.start(operator="Chen", projections=projections)
        configuration = {"stage": {"data": {"unit": "mm"}, "timestamps": {"unit": 0.0}, "data_keys": {}}}
        primary = factories.descriptor(begun, ["motor"], configuration=configuration)
        again = factories.descriptor(begun, ["motor"], configuration={"stage": {"data": {"unit": "um"}}})
        events = [("event", factories.event(doc, n, {"motor": float(n)})) for n, doc in ((1, primary), (2, again))]
        documents = [("start", begun), ("descriptor", primary), ("descriptor", again), *events]
        for name, doc in [*documents, ("stop", factories.stop(begun))]:
            db.insert(name, doc)
        return db.v2[-1]

    return make


def projection(name="nxsas", **fields):
    return {"name": name, "version": "2020.1", "configuration": {}, "projection": fields}


def test_a_run_is_projected_onto_a_dataset(projected):
    run = projected([projection(**LINKED)])
    dataset, issues = project_xarray(run)
    assert issues == []
    assert dataset.attrs == {"who": "Chen"}
    assert dataset["x"].values.tolist() == [1.0, 2.0]
    assert dataset["x"].chunks is not None  # lazy
    assert get_xarray_config_field(dataset, "x", 0, "stage", "unit") == "mm"
    assert "configuration" not in run["primary"].to_dask()["motor"].attrs


def test_the_configuration_of_each_descriptor_can_be_asked_for_in_any_order(projected):
    second = {**LINKED["unit"], "config_index": 1}
    dataset, issues = project_xarray(projected([projection(late=second, x=LINKED["x"], early=LINKED["unit"])]))
    assert issues == []
    assert [get_xarray_config_field(dataset, "x", index, "stage", "unit") for index in (0, 1)] == ["mm", "um"]


def calculated(under="itself", **how):
    field = {"type": "calculated", "location": "event", "stream": "primary", "field": "y"}
    return field | (how if under == "itself" else {"calculation": how})


@pytest.mark.parametrize("under", ["itself", "calculation"])
def test_calculated_fields_are_what_their_function_gives(projected, under):
    monkey = types.ModuleType("of_this_test")
    monkey.doubled = doubled
    sys.modules["of_this_test"] = monkey
    how = {"callable": "of_this_test:doubled", "args": ["motor"], "kwargs": {"plus": 1}}
    try:
        run = projected([projection(y=calculated(under, **how))])
        dataset, issues = project_xarray(run, projection=get_run_projection(run))
    finally:
        del sys.modules["of_this_test"]
    assert issues == []
    assert dataset["y"].values.tolist() == [3.0, 5.0]


@pytest.mark.parametrize(
    ("field", "issue"),
    [
        ({"type": "linked", "location": "start", "field": "nope"}, "no 'nope'"),
        ({"type": "linked", "location": "nowhere", "field": "x"}, "Unknown location"),
        ({"type": "linked", "location": "event", "stream": "nope", "field": "motor"}, "stream 'nope'"),
        ({"type": "linked", "location": "event", "stream": "primary", "field": "nope"}, "no 'nope'"),
        ({"type": "linked", "location": "event", "field": "motor"}, "missing"),
        ({**LINKED["unit"], "config_index": 7}, "descriptor 7"),
        ({**LINKED["unit"], "config_device": "nope"}, "device 'nope'"),
        ({**LINKED["unit"], "stream": "nope"}, "stream 'nope'"),
        ({**LINKED["unit"], "config_index": -1}, "config_index=-1"),
        ({**LINKED["unit"], "config_index": "a"}, "config_index='a'"),
        ({**LINKED["unit"], "config_index": None}, "config_index=None"),
        ({**LINKED["unit"], "config_device": ["stage"]}, "device ['stage']"),
        ({**LINKED["unit"], "field": None}, "no None"),
        ({"type": "linked", "location": "start", "field": ["sample"]}, "no ['sample']"),
        ({"type": "linked", "location": "event", "stream": "primary", "field": ["motor"]}, "no text"),
        ({"type": "linked", "location": "event", "stream": {}, "field": "motor"}, "no text"),
        ("primary:motor", "'primary:motor'"),
        (None, "None"),
    ],
)
def test_what_a_projection_asks_for_in_vain_is_an_issue_that_names_it(projected, field, issue):
    run = projected([projection(odd=field, x=LINKED["x"])])
    dataset, issues = project_xarray(run)
    assert list(dataset) == ["x"]
    assert len(issues) == 1
    assert issue in issues[0]
    assert "odd" in issues[0]
    assert run.metadata["start"]["uid"] in issues[0]


# What a start document may not do: decide what is executed where it is looked at.


@pytest.mark.parametrize("under", ["itself", "calculation"])
@pytest.mark.parametrize("name", [None, "nxsas"])
@pytest.mark.parametrize("look", [project_xarray, Projector(event_field_cb=print).project])
def test_no_function_is_called_or_imported_because_a_document_asks_for_it(
    projected, tmp_path, monkeypatch, under, name, look
):
    (tmp_path / "of_a_stranger.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    run = projected([projection(y=calculated(under, callable="of_a_stranger:run", kwargs={"executable": "/bin/sh"}))])
    with pytest.raises(ProjectionError) as caught:
        look(run, projection_name=name)
    assert "'of_a_stranger:run'" in str(caught.value)
    assert run.metadata["start"]["uid"] in str(caught.value)
    consent = re.search(r"project_xarray\(.*\)$", str(caught.value))[0]
    with pytest.raises(SystemExit, match="imported"):  # what it tells to write does call it
        eval(consent, {"project_xarray": project_xarray, "get_run_projection": get_run_projection, "run": run})


def test_a_program_named_by_a_document_does_not_run(tmp_path):
    db, begun = temp(), factories.start()
    begun["projections"] = [projection(y=calculated(callable="subprocess:run", kwargs={"executable": "/bin/sh"}))]
    documents = [("start", begun)]
    for name in ("sh", "-c", f"touch {tmp_path / 'made'}"):  # a run goes over into the names of its streams
        described = factories.descriptor(begun, ["det"], name=name)
        documents += [("descriptor", described), ("event", factories.event(described, 1))]
    for name, doc in [*documents, ("stop", factories.stop(begun))]:
        db.insert(name, doc)
    with pytest.raises(ProjectionError, match="subprocess:run"):
        project_xarray(db.v2[-1])
    assert not (tmp_path / "made").exists()


def test_what_calls_nothing_is_projected_beside_a_calculated_field(projected):
    run = projected([projection(who=LINKED["who"], y=calculated(callable="of_a_stranger:run"))])
    assert project_summary_dict(run) == ({"who": "Chen"}, [])


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({}, "None, which cannot be imported"),
        ({"callable": 5}, "5, which cannot be imported"),
        ({"callable": "list"}, "'list', which cannot be imported"),
        ({"callable": ".os:getcwd"}, "which cannot be imported"),
        ({"callable": "os:sep"}, "no function"),
        ({"callable": "builtins:list", "args": "abc"}, "args='abc'"),
        ({"callable": "builtins:list", "kwargs": ["abc"]}, r"kwargs=\['abc'\]"),
        ({"calculation": None}, "no mapping, but None"),
        ({"calculation": "builtins:list"}, "no mapping, but 'builtins:list'"),
    ],
)
def test_a_calculation_that_cannot_be_done_is_named(projected, how, message):
    with pytest.raises(ProjectionError, match=message):
        project_xarray(projected([]), projection=projection(y=calculated(**how)))


def test_arguments_of_a_calculation_may_be_null(projected):
    how = {"callable": "builtins:len", "args": None, "kwargs": None}
    dataset, _ = project_xarray(projected([]), projection=projection(y=calculated(**how)))
    assert dataset["y"].item() == 1


@pytest.mark.parametrize("odd", [{}, {"name": "nxsas"}, {"projection": None}, {"projection": ["x"]}, ["x"], "nxsas"])
def test_what_is_no_projection_is_refused_by_name(projected, odd):
    with pytest.raises(ProjectionError, match="this has none: "):
        project_xarray(projected([]), projection=odd)


@pytest.mark.parametrize("odd", ["nxsas", 5, {"name": "nxsas"}, ["nxsas"], [None]])
def test_what_a_start_document_has_instead_of_projections_is_named(projected, odd):
    run = projected(odd)
    for look in (get_run_projection, project_xarray, project_summary_dict):
        with pytest.raises(ProjectionError, match=re.escape(repr(odd))):
            look(run, projection_name="nxsas")


def test_the_summary_takes_from_the_start_document_alone(projected):
    run = projected([projection(**LINKED, plan={"type": "linked", "location": "start", "field": "plan_name"})])
    assert project_summary_dict(run) == ({"who": "Chen", "plan": "count"}, [])
    assert project_summary_dict(run, return_fields=["plan"]) == ({"plan": "count"}, [])
    assert project_summary_dict(run, projection=projection(a=LINKED["who"])) == ({"a": "Chen"}, [])


def test_a_projection_is_found_by_name_or_as_the_only_one(projected):
    one, other = projection("one"), projection("other")
    assert get_run_projection(projected([one])) == one
    both = projected([one, other])
    assert get_run_projection(both) is None
    assert get_run_projection(both, "other") == other
    assert get_run_projection(both, "nope") is None
    with pytest.raises(KeyError, match="2 projections named 'one'"):
        get_run_projection(projected([one, one]), "one")


def test_a_run_without_projections_says_so():
    run = Broker.named("example").v2[-1]
    assert get_run_projection(run) is None
    assert get_run_projection(run, "nxsas") is None
    with pytest.raises(ProjectionError, match="has no projections; pass one"):
        project_xarray(run, projection_name="nxsas")


def test_a_function_that_cannot_be_imported_is_named(projected):
    run = projected([projection(y=calculated(callable="no.such:thing"))])
    with pytest.raises(ProjectionError, match=r"no\.such:thing.*cannot be imported"):
        project_xarray(run, projection=get_run_projection(run))
    Projector().project(run)  # no one asks for it


# -- events taken apart and put together


def arrays(length=3, count=2):
    keys = {
        "a": {"source": "sim", "dtype": "array", "shape": [length]},
        "g": {"source": "sim", "dtype": "array", "shape": [length, 2]},
        "d": {"source": "sim", "dtype": "number", "shape": []},
    }
    descriptor = {"uid": "d1", "run_start": "r1", "time": 0.0, "data_keys": keys}
    for number in range(count):
        data = {"a": [number * length + n for n in range(length)], "g": np.ones((length, 2)) * number, "d": number}
        yield {
            **{"uid": f"e{number}", "time": float(number), "descriptor": descriptor, "seq_no": number},
            **{"data": data, "timestamps": dict.fromkeys(data, 1.5)},
        }


def test_arrays_are_taken_apart_into_events():
    made = list(pivot_timeseries(arrays(), ["a", "g"], ["d"]))
    assert [event["seq_no"] for event in made] == list(range(6))
    assert [event["data"]["a"] for event in made] == list(range(6))
    assert [event["data"]["d"] for event in made] == [0, 0, 0, 1, 1, 1]
    assert [event["data"]["_ind"] for event in made] == [0, 1, 2] * 2
    keys = made[4]["descriptor"]["data_keys"]
    assert keys.keys() == made[4]["data"].keys() == made[4]["timestamps"].keys()
    assert (keys["a"]["shape"], keys["a"]["dtype"], keys["a"]["source"]) == ((), "number", "e1")
    assert (keys["g"]["shape"], keys["g"]["dtype"]) == ((2,), "array")
    assert keys["d"] == next(arrays())["descriptor"]["data_keys"]["d"]
    assert len({event["uid"] for event in made}) == 6
    assert list(pivot_timeseries([], ["a"])) == []


@pytest.mark.parametrize(("pivot", "static"), [(["a"], ["a"]), (["d"], [])])
def test_what_cannot_be_taken_apart_is_refused(pivot, static):
    with pytest.raises(RuntimeError):
        list(pivot_timeseries(arrays(), pivot, static))


def test_arrays_of_different_lengths_cannot_be_taken_apart_together():
    events = list(arrays())
    events[0]["descriptor"]["data_keys"]["g"]["shape"] = [4, 2]
    with pytest.raises(RuntimeError, match="'g': 4"):
        list(pivot_timeseries(events, ["a", "g"]))


def scalars(fields, count=3, run="r1", uid=None):
    descriptor = {"uid": uid or fields, "run_start": run, "data_keys": {field: {} for field in fields}}
    for number in range(count):
        yield {
            **{"descriptor": descriptor, "data": dict.fromkeys(fields, number)},
            "timestamps": dict.fromkeys(fields, 0.5),
        }


@pytest.mark.parametrize("lazy", [True, False])
def test_streams_are_put_together(lazy):
    made = list(zip_events(scalars("ab"), scalars("c"), lazy=lazy))
    assert [event["data"] for event in made] == [dict.fromkeys("abc", number) for number in range(3)]
    assert all(event["descriptor"]["data_keys"].keys() == event["timestamps"].keys() == set("abc") for event in made)
    assert len({event["descriptor"]["uid"] for event in made}) == 1


@pytest.mark.parametrize("lazy", [True, False])
@pytest.mark.parametrize(
    "streams",
    [
        lambda: (scalars("a"), scalars("b", count=2)),
        lambda: (scalars("ab"), scalars("bc")),
        lambda: (scalars("a"), scalars("b", run="r2")),
        lambda: (scalars("ab", 4), [*scalars("c"), *scalars("c", 1, uid="other")]),
    ],
)
def test_streams_that_do_not_fit_are_refused(streams, lazy):
    with pytest.raises(RuntimeError):
        list(zip_events(*streams(), lazy=lazy))


@pytest.mark.parametrize(("source", "expected"), [("timestamps", 1.5), ("data", 1)])
def test_events_get_the_time_of_a_field(source, expected):
    first, second = arrays()
    assert next(reset_time([second], "d", source))["time"] == expected
    assert second["time"] == 1.0
    assert first is not second


# -- glue


def test_without_glue_the_package_to_install_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "glue", None)
    with pytest.raises(MissingPackage, match="glueviz"):
        read_header(Broker.named("example")[-1])


def test_streams_are_given_to_glue(monkeypatch):
    class Data:
        def __init__(self, label):
            self.label, self.components = label, {}

        def add_component(self, values, name):
            self.components[name] = values

    module = types.ModuleType("glue.core.data")
    module.Data = Data
    for name in ("glue", "glue.core"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "glue.core.data", module)
    header = Broker.named("example")[-1]
    read = {data.label: data.components for data in read_header(header)}
    assert read.keys() == {f"{stream}_{header.uid}" for stream in ("baseline", "primary")}
    assert list(read[f"primary_{header.uid}"]) == list(header.table().columns)
