"""What resource and datum documents stand for: who reads it, where its files are, and copies of them."""

import copy
import io
import os
import pickle
import shutil
import threading
import time
import types
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import EntryPoint
from pathlib import Path

import dask.array
import event_model
import fsspec
import h5py
import numpy as np
import pytest
import tifffile
from bluesky import RunEngine, plans as bp
from ophyd import sim

import factories
from filebroker.assets import openings
from filebroker.assets.copies import copy_files, relocated
from filebroker.assets.datums import Datums
from filebroker.assets.handlers import Handlers
from filebroker.assets.mirror import Mirror
from filebroker.assets.places import inner_path, locate, moved, resolved
from filebroker.assets.suggestions import PACKAGES, advice
from filebroker.ground.documents import unpack_datum_page
from filebroker.ground.errors import (
    AssetExists,
    DuplicateHandler,
    FilebrokerWarning,
    InvalidConfig,
    InvalidDocument,
    MissingAsset,
    MissingHandler,
    NotSupported,
    UnknownDatum,
    UnreadableAsset,
)

BEGUN = factories.start()


class Ramp:
    """A handler without files: it gives what it was asked for, and counts how often it was opened and closed."""

    opened: list[str] = []
    closed: list[str] = []

    def __init__(self, path, **options):
        self.path, self.options = path, options
        Ramp.opened.append(path)

    def __call__(self, **options):
        return np.arange(options.get("index", 0) + 1)

    def close(self):
        Ramp.closed.append(self.path)


class Twice(Ramp):
    def __call__(self, **options):
        return 2 * super().__call__(**options)


@pytest.fixture(autouse=True)
def uncounted():
    Ramp.opened.clear()
    Ramp.closed.clear()


def resource(**keys):
    return factories.resource(BEGUN, **keys)


def pair(number=0, **keys):
    """A resource and one datum of it."""
    held = resource(**keys)
    return [("resource", held), ("datum", factories.datum(held, number))]


def datums(documents, **handlers):
    return Datums(documents, Handlers(handlers, discover=False))


def only(documents):
    """The datum_id of the first datum."""
    return next(doc["datum_id"] for name, doc in documents if name == "datum")


# Who reads what


def offer(monkeypatch, *entries):
    """Have the installed packages offer these handlers, and no others."""
    offers = [EntryPoint(name, value, "databroker.handlers") for name, value in entries]
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: offers)


def test_installed_packages_bring_their_handlers():
    found = Handlers()
    assert {"NPY_SEQ", "AD_HDF5", "AD_TIFF", "XSP3"} <= set(found.handler_reg)
    assert found.find("NPY_SEQ") is sim.NumpySeqHandler
    assert found.handler_reg["NPY_SEQ"] is sim.NumpySeqHandler
    assert len(found.handler_reg) == len(list(found.handler_reg))


def test_without_discovery_only_what_was_given_is_there():
    assert dict(Handlers({"RAMP": Ramp}, discover=False).handler_reg) == {"RAMP": Ramp}


def test_what_was_given_wins_over_what_is_discovered():
    assert Handlers({"NPY_SEQ": Ramp}).find("NPY_SEQ") is Ramp


@pytest.mark.parametrize("name", ["ophyd.sim.NumpySeqHandler", "ophyd.sim:NumpySeqHandler"])
def test_a_handler_may_be_a_dotted_name(name):
    assert Handlers({"X": name}, discover=False).find("X") is sim.NumpySeqHandler


def test_nothing_is_imported_before_it_is_asked_for(monkeypatch):
    offer(monkeypatch, ("A", "no_such_package:Handler"), ("B", "ophyd.sim:NumpySeqHandler"))
    handlers = Handlers({"C": "no.such.Thing"})
    assert sorted(handlers.handler_reg) == ["A", "B", "C"]
    assert "A" in handlers.handler_reg
    assert handlers.find("B") is sim.NumpySeqHandler


@pytest.mark.parametrize("spec", ["A", "C"])
def test_a_handler_that_cannot_be_imported_says_why_when_it_is_needed(monkeypatch, spec):
    offer(monkeypatch, ("A", "no_such_package:Handler"))
    handlers = Handlers({"C": "no_such_package.Handler"})
    with pytest.raises(MissingHandler, match=r"no_such_package.*ModuleNotFoundError: No module named") as caught:
        handlers.find(spec)
    assert isinstance(caught.value.__cause__, ImportError)
    handlers.register_handler(spec, Ramp)
    assert handlers.find(spec) is Ramp


def test_of_two_packages_that_offer_a_spec_the_first_is_used_and_the_other_named(monkeypatch):
    offer(monkeypatch, ("A", "ophyd.sim:NumpySeqHandler"), ("A", "other.package:Handler"))
    with pytest.warns(FilebrokerWarning, match="other.package:Handler"):
        assert Handlers().find("A") is sim.NumpySeqHandler


def test_a_package_that_is_installed_meanwhile_is_found(monkeypatch):
    offer(monkeypatch)
    handlers = Handlers()
    with pytest.raises(MissingHandler):
        handlers.find("NPY_SEQ")
    offer(monkeypatch, ("NPY_SEQ", "ophyd.sim:NumpySeqHandler"))
    assert handlers.find("NPY_SEQ") is sim.NumpySeqHandler


def test_registering_the_same_handler_again_changes_nothing_and_another_is_refused():
    handlers = Handlers({"RAMP": Ramp})
    handlers.register_handler("RAMP", Ramp)
    handlers.register_handler("NPY_SEQ", sim.NumpySeqHandler)
    for spec in ("RAMP", "NPY_SEQ"):
        with pytest.raises(DuplicateHandler, match="overwrite=True") as caught:
            handlers.register_handler(spec, Twice)
        assert isinstance(caught.value, event_model.DuplicateHandler)
    handlers.register_handler("RAMP", Twice, overwrite=True)
    assert handlers.find("RAMP") is Twice


def test_deregistering_takes_away_what_was_given_and_what_was_discovered():
    handlers = Handlers({"RAMP": Ramp})
    for spec in ("RAMP", "NPY_SEQ", "NEVER_THERE"):
        handlers.deregister_handler(spec)
        assert spec not in handlers.handler_reg
        assert handlers.handler_reg.get(spec) is None
    handlers.register_handler("NPY_SEQ", Ramp)
    assert handlers.find("NPY_SEQ") is Ramp


def test_the_mapping_of_handlers_is_live_and_cannot_be_changed():
    handlers = Handlers(discover=False)
    registered = handlers.handler_reg
    handlers.register_handler("RAMP", Ramp)
    assert dict(registered) == {"RAMP": Ramp}
    with pytest.raises(TypeError):
        registered["OTHER"] = Ramp
    assert "RAMP" in repr(registered)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda item: pickle.loads(pickle.dumps(item))])
def test_a_copy_of_the_handlers_has_registrations_and_roots_of_its_own(duplicate):
    handlers = Handlers({"RAMP": Ramp}, {"/a": "/b"})
    handlers.deregister_handler("NPY_SEQ")
    other = duplicate(handlers)
    assert other.find("RAMP") is Ramp
    assert other.root_map == {"/a": "/b"}
    assert "NPY_SEQ" not in other.handler_reg
    assert "AD_TIFF" in other.handler_reg
    other.register_handler("RAMP", Twice, overwrite=True)
    other.root_map["/c"] = "/d"
    assert handlers.find("RAMP") is Ramp
    assert handlers.root_map == {"/a": "/b"}


def test_the_state_is_another_one_after_each_change_and_after_no_other_call():
    handlers = Handlers({"RAMP": Ramp}, {"/data": "/mnt"}, discover=False)
    known = {handlers.state()}
    changes = [
        lambda: handlers.register_handler("NEW", Ramp),
        lambda: handlers.register_handler("NEW", Twice, overwrite=True),
        lambda: handlers.deregister_handler("NEW"),
        lambda: handlers.root_map.update({"/data": "/elsewhere"}),
        lambda: handlers.root_map.update({Path("/more"): Path("/mnt")}),
        lambda: handlers.root_map.clear(),
    ]
    for number, change in enumerate(changes, 2):
        change()
        known.add(handlers.state())
        assert len(known) == number
    handlers.register_handler("RAMP", Ramp)
    handlers.find("RAMP")
    assert handlers.state() in known
    assert pickle.loads(pickle.dumps(handlers)).state() == copy.copy(handlers).state() == handlers.state()


def test_the_mapping_that_was_given_is_left_alone():
    given, roots = {"RAMP": Ramp}, {"/a": "/b"}
    handlers = Handlers(given, roots)
    handlers.deregister_handler("RAMP")
    handlers.root_map.clear()
    assert given == {"RAMP": Ramp}
    assert roots == {"/a": "/b"}


def test_the_packages_that_are_named_bring_the_handlers_that_they_are_said_to():
    from importlib.metadata import distribution

    for package in ("area-detector-handlers", "ophyd"):
        offered = {entry.name for entry in distribution(package).entry_points if entry.group == "databroker.handlers"}
        assert offered == {spec for spec, name in PACKAGES.items() if name == package}


def test_a_missing_handler_is_event_models_error_and_names_the_package():
    with pytest.raises(MissingHandler, match="pip install area-detector-handlers") as caught:
        Handlers(discover=False).find("AD_TIFF")
    assert isinstance(caught.value, event_model.UndefinedAssetSpecification)
    assert isinstance(caught.value, KeyError)


def test_for_an_unknown_spec_the_advice_is_code_that_works():
    handlers = Handlers(discover=False)
    code = "\n".join(line.removeprefix("    ") for line in advice("OURS").splitlines()[1:])
    exec(code, {"db": types.SimpleNamespace(reg=handlers)})
    assert handlers.find("OURS")("path", anything=1)(index=2) is None


# Where the files are

PLACES = {
    "as recorded": ("/data", "2024/a.h5", {}, "/data/2024/a.h5"),
    "the root moved": ("/data", "2024/a.h5", {"/data": "/mnt"}, "/mnt/2024/a.h5"),
    "a separator at the end of the key": ("/data", "2024/a.h5", {"/data/": "/mnt/"}, "/mnt/2024/a.h5"),
    "a separator at the end of the root": ("/data/", "2024/a.h5", {"/data": "/mnt"}, "/mnt/2024/a.h5"),
    "the beginning of the root": ("/data/run1", "a.h5", {"/data": "/mnt"}, "/mnt/run1/a.h5"),
    "more than the root": ("/data", "2024/a.h5", {"/data/2024": "/mnt"}, "/mnt/a.h5"),
    "the longest key": ("/data/run1", "a.h5", {"/data": "/x", "/data/run1": "/y", "/": "/z"}, "/y/a.h5"),
    "no part of a name": ("/database", "a.h5", {"/data": "/mnt"}, "/database/a.h5"),
    "everything": ("/", "data/a.h5", {"/": "/mnt"}, "/mnt/data/a.h5"),
    "a root that is not absolute": ("data", "a.h5", {"data": "/mnt"}, "/mnt/a.h5"),
    "no root": ("", "data/a.h5", {"": "/mnt"}, "/mnt/data/a.h5"),
    "no root and an absolute path": ("", "/data/a.h5", {"": "/mnt"}, "/data/a.h5"),
    "no root, an absolute path and a store": ("", "/data/a.h5", {"": "s3://bucket"}, "/data/a.h5"),
    "no root, and its path moved": ("", "/data/a.h5", {"/data": "/mnt"}, "/mnt/a.h5"),
    "an absolute path, which the root is no part of": ("/", "/data/a.h5", {"/data": "/mnt"}, "/mnt/a.h5"),
    "a template": ("/data", "img_%6.6d.tiff", {"/data": "/mnt"}, "/mnt/img_%6.6d.tiff"),
    "a template of another kind": ("/data", "{}_{:03d}.tif", {"/data": "/mnt"}, "/mnt/{}_{:03d}.tif"),
    "a directory": ("/data", "2024/", {"/data": "/mnt"}, "/mnt/2024/"),
    "an object store": ("/data", "2024/a.h5", {"/data": "s3://bucket/x"}, "s3://bucket/x/2024/a.h5"),
    "a store without a bucket": ("/data", "2024/a.h5", {"/data": "memory://"}, "memory://2024/a.h5"),
    "recorded on a store": ("s3://bucket", "a.h5", {}, "s3://bucket/a.h5"),
    "a store that was fetched": ("s3://bucket/x", "a.h5", {"s3://bucket": "/mnt"}, "/mnt/x/a.h5"),
    "a URL of a file": ("file://localhost/data", "%s_%d.tif", {"/data": "file:///mnt"}, "/mnt/%s_%d.tif"),
}


@pytest.mark.parametrize(("root", "path", "root_map", "expected"), PLACES.values(), ids=PLACES)
@pytest.mark.skipif(os.name == "nt", reason="paths of posix")
def test_the_root_map_moves_paths(root, path, root_map, expected):
    assert locate({"root": root, "resource_path": path, "path_semantics": "posix"}, root_map).path == expected


WINDOWS = {
    "a drive": ("Z:\\data", "2024\\img_%d.tif", {"Z:\\data": "/mnt"}, "/mnt/2024/img_%d.tif"),
    "a drive in another case": ("Z:\\Data", "a.tif", {"z:/data/": "/mnt"}, "/mnt/a.tif"),
    "a whole drive": ("Z:\\data", "2024\\a.tif", {"Z:": "/mnt"}, "/mnt/data/2024/a.tif"),
    "a share": ("\\\\server\\share", "a\\b.tif", {"\\\\server\\share": "/mnt"}, "/mnt/a/b.tif"),
    "a store": ("Z:\\data", "2024\\a.tif", {"Z:\\data": "s3://bucket"}, "s3://bucket/2024/a.tif"),
    "slashes": ("Z:/data", "2024/a.tif", {"Z:\\data": "/mnt"}, "/mnt/2024/a.tif"),
    "a directory": ("Z:\\data", "2024\\", {"Z:\\data": "/mnt"}, "/mnt/2024/"),
    "a root of posix": ("/data", "2024\\a.tif", {}, "/data/2024/a.tif"),
    "no root": ("", "2024\\a.tif", {"": "/mnt"}, "/mnt/2024/a.tif"),
    "a drive that is not mapped": ("Z:\\data", "2024\\a.tif", {}, "Z:\\data\\2024\\a.tif"),
}


@pytest.mark.parametrize("semantics", ["windows", "nt"])
@pytest.mark.parametrize(("root", "path", "root_map", "expected"), WINDOWS.values(), ids=WINDOWS)
@pytest.mark.skipif(os.name == "nt", reason="what such paths become on posix")
def test_paths_of_windows_become_paths_of_this_machine(semantics, root, path, root_map, expected):
    assert locate({"root": root, "resource_path": path, "path_semantics": semantics}, root_map).path == expected


def test_a_backslash_in_a_posix_path_is_part_of_a_name():
    assert locate({"root": "/data", "resource_path": "a\\b"}, {"/data": "/mnt"}).path == "/mnt/a\\b"


def test_keys_and_values_of_the_root_map_may_be_path_objects():
    assert moved("/data/a", {Path("/data"): Path("/mnt")})[0] == "/mnt/a"


def test_a_url_of_a_file_is_moved_like_its_path():
    assert moved("file://localhost/data/a%20b", {"/data": "/mnt"}) == ("/mnt/a b", "/data")
    assert moved("file:///data/a", {"file://localhost/data": "/mnt"}) == ("/mnt/a", "file://localhost/data")
    assert moved("file:///data/a", {}) == ("/data/a", None)


def test_relative_places_are_relative_to_the_file_that_names_them():
    given = {"/a": "images", "/b": "../x", "/c": "/abs", "/d": "s3://bucket/x"}
    expected = {"/a": "/etc/images", "/b": "/x", "/c": "/abs", "/d": "s3://bucket/x"}
    assert resolved(given, "/etc") == expected
    with pytest.raises(InvalidConfig, match="images"):
        resolved(given, None)
    assert resolved({"/c": "/abs"}, None) == {"/c": "/abs"}


@pytest.mark.parametrize(
    ("root", "path", "semantics", "inner"),
    [
        ("/data", "2024/a", "posix", "2024/a"),
        ("/data/", "2024/a", "posix", "2024/a"),
        ("/", "/data/a", "posix", "data/a"),
        ("", "/data/a", "posix", "data/a"),
        ("/data", "/data/2024/a", "posix", "2024/a"),
        ("Z:\\data", "2024\\a", "windows", "2024/a"),
        ("s3://bucket", "a", "posix", "a"),
    ],
)
def test_the_path_below_the_root_has_slashes_and_none_at_its_beginning(root, path, semantics, inner):
    assert inner_path({"root": root, "resource_path": path, "path_semantics": semantics}) == inner


# Loading data


@pytest.fixture(scope="module")
def scanned(tmp_path_factory):
    """A scan by the real RunEngine with a detector that writes a file for each event."""
    folder = tmp_path_factory.mktemp("frames")
    numbers = iter(range(100))
    camera = sim.SynSignalWithRegistry(
        name="camera", func=lambda: np.full((4, 5), next(numbers)), save_path=str(folder)
    )
    documents = []
    RunEngine({})(bp.count([camera], 3), lambda name, doc: documents.append((name, doc)))
    return folder, documents


def frames(documents):
    return [doc["data"]["camera"] for name, doc in documents if name == "event"]


def test_what_a_detector_has_written_is_read(scanned):
    _, documents = scanned
    loaded = Datums(documents, Handlers())
    ids = frames(documents)
    assert len(loaded) == len(ids) == 3
    assert all(datum_id in loaded for datum_id in ids)
    means = [loaded.load(datum_id).mean() for datum_id in ids]
    assert means == [means[0], means[0] + 1, means[0] + 2]
    assert loaded.load(ids[0]).shape == (4, 5)
    assert loaded.resources == [doc for name, doc in documents if name == "resource"]


@pytest.mark.parametrize("maker", ["img", "direct_img", "direct_img_list"])
def test_the_simulated_detectors_of_ophyd_are_read(maker, tmp_path):
    detector = getattr(sim.hw(), maker)
    detector.save_path = str(tmp_path)
    documents = []
    RunEngine({})(bp.count([detector], 2), lambda name, doc: documents.append((name, doc)))
    loaded = Datums(documents, Handlers())
    external = [
        key
        for name, doc in documents
        if name == "descriptor"
        for key in doc["data_keys"]
        if "external" in doc["data_keys"][key]
    ]
    values = [loaded.load(doc["data"][key]) for name, doc in documents if name == "event" for key in external]
    assert [value.shape for value in values] == ([(10, 10)] * 2 if maker == "img" else [])


def test_a_datum_page_gives_what_single_datums_give():
    held = resource(spec="RAMP")
    page = factories.datum_page(held, range(5))
    loaded = datums([("resource", held), ("datum_page", page)], RAMP=Ramp)
    assert [len(loaded.load(f"{held['uid']}/{number}")) for number in range(5)] == [1, 2, 3, 4, 5]
    assert loaded.resource_of(f"{held['uid']}/3") is held


def test_a_page_without_arguments_is_read():
    held = resource(spec="RAMP")
    page = {"datum_id": ["a", "b"], "resource": held["uid"], "datum_kwargs": {}}
    assert list(datums([("datum_page", page), ("resource", held)], RAMP=Ramp).load("b")) == [0]


@pytest.mark.parametrize("column", [[5], [5, 6, 7], 5, "56"])
def test_a_page_whose_columns_differ_in_length_gives_an_error_for_its_own_data_alone(column):
    held = resource(spec="RAMP")
    page = factories.datum_page(held, (0, 1), datum_kwargs={"index": column})
    loaded = datums([("resource", held), ("datum_page", page), ("datum", factories.datum(held, 7))], RAMP=Ramp)
    assert len(loaded.load(f"{held['uid']}/7")) == 8
    with pytest.raises(UnreadableAsset, match=rf"datum '{held['uid']}/0'.*'index'.*but 2 in datum_id"):
        loaded.load(f"{held['uid']}/0")
    with pytest.raises(InvalidDocument, match="but 2 in datum_id"):
        list(unpack_datum_page(page))


def test_a_datum_id_that_is_no_string_is_passed_over():
    held = resource(spec="RAMP")
    page = factories.datum_page(held, range(4), datum_id=[["a"], None, {"b": 1}, "c"])
    loaded = datums([("resource", held), ("datum_page", page)], RAMP=Ramp)
    assert (len(loaded), len(loaded.load("c"))) == (1, 4)
    assert ["a"] not in loaded
    with pytest.raises(UnknownDatum, match=r"\['a'\]"):
        loaded.load(["a"])


def test_other_documents_are_passed_over():
    run = factories.run()
    assert len(datums(run)) == 0
    assert datums(run).resources == []


def test_a_handler_is_called_as_event_model_calls_it():
    held = resource(spec="ANY", root="/data", resource_path="x/y", resource_kwargs={"gain": 2})
    calls = []

    def handler(*args, **options):
        calls.append((args, options))
        return lambda *args, **options: calls.append((args, options))

    documents = [("resource", held), ("datum", factories.datum(held, 7, datum_kwargs={"point": 7}))]
    datums(documents, ANY=handler).load(only(documents))
    assert calls == [(("/data/x/y",), {"gain": 2}), ((), {"point": 7})]


def test_a_resource_is_opened_once_and_kept():
    held = resource(spec="RAMP")
    documents = [("resource", held), *(("datum", factories.datum(held, number)) for number in range(5))]
    loaded = datums(documents, RAMP=Ramp)
    assert [len(loaded.load(f"{held['uid']}/{number}")) for number in range(5)] == [1, 2, 3, 4, 5]
    assert len(Ramp.opened) == 1
    loaded.close()
    assert len(Ramp.closed) == 1
    assert len(loaded.load(f"{held['uid']}/0")) == 1


def test_the_handlers_that_were_not_used_for_long_are_closed(monkeypatch):
    monkeypatch.setattr(openings, "LIMIT", 3)
    documents = [item for number in range(6) for item in pair(spec="RAMP", resource_path=f"file{number}")]
    loaded = datums(documents, RAMP=Ramp)
    for name, doc in documents:
        if name == "datum":
            loaded.load(doc["datum_id"])
    assert Ramp.closed == ["/nowhere/file0", "/nowhere/file1", "/nowhere/file2"]
    assert len(loaded.load(only(documents))) == 1
    assert Ramp.opened[-1] == "/nowhere/file0"


def test_the_limit_of_open_handlers_is_that_of_the_process(monkeypatch):
    monkeypatch.setattr(openings, "LIMIT", 2)
    kept = []
    for number in range(4):
        documents = pair(spec="RAMP", resource_path=f"file{number}")
        kept.append(datums(documents, RAMP=Ramp))
        kept[-1].load(only(documents))
    assert Ramp.closed == ["/nowhere/file0", "/nowhere/file1"]


def test_a_handler_that_cannot_be_closed_is_a_warning(monkeypatch):
    class Stuck(Ramp):
        def close(self):
            raise OSError("stuck")

    documents = pair(spec="STUCK")
    loaded = datums(documents, STUCK=Stuck)
    loaded.load(only(documents))
    with pytest.warns(FilebrokerWarning, match="stuck"):
        loaded.close()


def test_another_handler_or_root_is_used_from_the_next_loading_on():
    documents = pair(3, spec="RAMP", root="/data", resource_path="x")
    handlers = Handlers({"RAMP": Ramp}, discover=False)
    loaded = Datums(documents, handlers)
    assert list(loaded.load(only(documents))) == [0, 1, 2, 3]
    handlers.register_handler("RAMP", Twice, overwrite=True)
    assert list(loaded.load(only(documents))) == [0, 2, 4, 6]
    assert Ramp.closed == ["/data/x"]
    handlers.root_map["/data"] = "/mnt"
    loaded.load(only(documents))
    assert Ramp.opened == ["/data/x", "/data/x", "/mnt/x"]
    handlers.deregister_handler("RAMP")
    with pytest.raises(MissingHandler):
        loaded.load(only(documents))


def test_what_a_handler_gives_is_passed_on():
    import pandas as pd

    table = pd.DataFrame({"a": [1, 2]})
    for value in ([1, 2], (table, table), table, "text", 3, None):
        documents = pair(spec="ANY")
        given = datums(documents, ANY=lambda path, value=value: lambda index: value).load(only(documents))
        assert type(given) is type(value)
        assert given is value or len(given) == len(value)


def test_data_that_would_be_read_later_are_read_before_their_file_is_closed(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["data"] = np.arange(6).reshape(2, 3)

    class Late:
        def __init__(self, path):
            self.file = h5py.File(path)

        def __call__(self, index):
            lazy = dask.array.from_array(self.file["data"])[index]
            return [lazy, self.file["data"]] if index else lazy

        def close(self):
            self.file.close()

    held = resource(spec="LATE", root=str(tmp_path), resource_path="a.h5")
    documents = [("resource", held), ("datum", factories.datum(held, 0)), ("datum", factories.datum(held, 1))]
    loaded = datums(documents, LATE=Late)
    first, (second, whole) = (loaded.load(f"{held['uid']}/{number}") for number in (0, 1))
    loaded.close()
    assert all(type(value) is np.ndarray for value in (first, second, whole))
    assert first.tolist() == [0, 1, 2]
    assert second.tolist() == [3, 4, 5]
    assert whole.shape == (2, 3)


def test_pickled_datums_load_the_same_and_leave_open_files_behind(scanned):
    _, documents = scanned
    loaded = Datums(documents, Handlers())
    first = frames(documents)[0]
    value = loaded.load(first)
    other = pickle.loads(pickle.dumps(loaded))
    assert np.array_equal(other.load(first), value)
    assert other.resources == loaded.resources


def test_one_thread_at_a_time_calls_a_handler():
    inside, seen = [], []

    class Alone(Ramp):
        def __call__(self, index):
            inside.append(index)
            threading.Event().wait(0.002)
            seen.append(len(inside))
            inside.remove(index)
            return index

    held = resource(spec="ALONE")
    documents = [("resource", held), *(("datum", factories.datum(held, number)) for number in range(20))]
    loaded = datums(documents, ALONE=Alone)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(loaded.load, [f"{held['uid']}/{number}" for number in range(20)])) == list(range(20))
    assert set(seen) == {1}
    assert len(Ramp.opened) == 1


def test_many_threads_load_from_many_resources_while_handlers_are_closed(monkeypatch):
    monkeypatch.setattr(openings, "LIMIT", 2)
    documents = [item for number in range(8) for item in pair(number, spec="RAMP", resource_path=f"file{number}")]
    ids = [doc["datum_id"] for name, doc in documents if name == "datum"]
    loaded = datums(documents, RAMP=Ramp)
    with ThreadPoolExecutor(8) as pool:
        lengths = list(pool.map(lambda datum_id: len(loaded.load(datum_id)), ids * 25))
    assert lengths == [1, 2, 3, 4, 5, 6, 7, 8] * 25


# What area detectors write


@pytest.fixture
def hdf5(tmp_path):
    """An HDF5 file of an area detector, six frames, two for each point."""
    stack = np.arange(6 * 2 * 3, dtype="u2").reshape(6, 2, 3)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["/entry/data/data"] = stack
    held = resource(spec="AD_HDF5", root=str(tmp_path), resource_path="a.h5", resource_kwargs={"frame_per_point": 2})
    points = [factories.datum(held, number, datum_kwargs={"point_number": number}) for number in range(4)]
    return stack, held, [("resource", held), *(("datum", point) for point in points)]


@pytest.mark.parametrize("spec", ["AD_HDF5", "AD_HDF5_SWMR"])
def test_an_hdf5_file_of_an_area_detector_is_read(hdf5, spec):
    stack, held, documents = hdf5
    held["spec"] = spec
    if spec == "AD_HDF5_SWMR":
        with h5py.File(Path(held["root"], "a.h5"), "w", libver="latest") as file:
            file["/entry/data/data"] = stack
    loaded = Datums(documents, Handlers())
    for number in range(3):
        value = loaded.load(f"{held['uid']}/{number}")
        assert type(value) is np.ndarray
        assert value.dtype == stack.dtype
        assert np.array_equal(value, stack[2 * number : 2 * number + 2])
    assert loaded.files_of(held) == [str(Path(held["root"], "a.h5"))]


def test_frames_that_were_written_since_a_file_was_opened_are_read(hdf5):
    stack, held, documents = hdf5
    loaded = Datums(documents, Handlers())
    loaded.load(only(documents))
    with pytest.raises(UnreadableAsset, match=r"AreaDetectorHDF5Handler cannot read .*slicing") as caught:
        loaded.load(f"{held['uid']}/3")
    assert isinstance(caught.value.__cause__, ValueError)
    loaded.load(only(documents))
    path = Path(held["root"], "a.h5")
    path.unlink()
    with h5py.File(path, "w") as file:
        file["/entry/data/data"] = np.concatenate([stack, stack])
    assert np.array_equal(loaded.load(f"{held['uid']}/3"), stack[:2])


@pytest.fixture
def tiffs(tmp_path):
    """A sequence of TIFF files, one for each point; the template is among the resource's arguments."""
    options = {"template": "%s%s_%6.6d.tiff", "filename": "img", "frame_per_point": 1}
    held = resource(spec="AD_TIFF", root=str(tmp_path), resource_path="2024/05", resource_kwargs=options)
    folder = tmp_path / "2024" / "05"
    folder.mkdir(parents=True)
    for number in range(3):
        tifffile.imwrite(folder / f"img_{number:06d}.tiff", np.full((2, 3), number, "u1"))
    points = [factories.datum(held, number, datum_kwargs={"point_number": number}) for number in range(3)]
    return folder, held, [("resource", held), *(("datum", point) for point in points)]


def test_a_sequence_of_tiff_files_is_read(tiffs):
    folder, held, documents = tiffs
    loaded = Datums(documents, Handlers())
    assert [loaded.load(f"{held['uid']}/{number}").max() for number in range(3)] == [0, 1, 2]
    assert loaded.load(only(documents)).shape == (1, 2, 3)
    assert loaded.files_of(held) == [str(folder / f"img_{number:06d}.tiff") for number in range(3)]


def test_files_that_moved_are_found_through_the_root_map(tiffs, tmp_path):
    folder, held, documents = tiffs
    handlers = Handlers()
    loaded = Datums(documents, handlers)
    (folder.parent).rename(tmp_path / "elsewhere")
    with pytest.raises(MissingAsset):
        loaded.load(f"{held['uid']}/2")
    handlers.root_map[f"{held['root']}/2024"] = str(tmp_path / "elsewhere")
    assert loaded.load(f"{held['uid']}/2").max() == 2


@pytest.mark.skipif(os.name == "nt", reason="what such paths become on posix")
def test_files_that_a_windows_machine_wrote_are_read_here(tiffs, tmp_path):
    _, held, documents = tiffs
    held |= {"root": "Z:\\camera", "resource_path": "2024\\05", "path_semantics": "windows"}
    handlers = Handlers(root_map={"Z:\\camera": str(tmp_path)})
    assert Datums(documents, handlers).load(f"{held['uid']}/1").max() == 1


# What cannot be read


def test_a_datum_that_the_run_does_not_tell_of_is_named():
    with pytest.raises(UnknownDatum, match="'nothing'") as caught:
        datums([]).load("nothing")
    assert isinstance(caught.value, event_model.UnresolvableForeignKeyError)
    assert isinstance(caught.value, KeyError | ValueError)


def test_a_datum_without_its_resource_is_named():
    documents = pair()[1:]
    loaded = datums(documents)
    with pytest.raises(UnknownDatum, match=f"'{documents[0][1]['resource']}', which is not in the run"):
        loaded.resource_of(only(documents))
    assert only(documents) in loaded


def test_a_missing_handler_names_the_resource():
    documents = pair(spec="AD_TIFF")
    with pytest.raises(MissingHandler, match=rf"'{documents[0][1]['uid']}'.* pip install area-detector-handlers"):
        datums(documents).load(only(documents))


def remedied(error, handlers):
    """Do what the message of an error says."""
    line = str(error).split("If the files are elsewhere: ")[1]
    return line.replace("db.reg.root_map", "root_map"), {"root_map": handlers.root_map}


@pytest.mark.parametrize("which", ["hdf5", "tiffs", "scanned"])
def test_a_missing_file_names_the_path_the_root_and_the_line_that_would_mend_it(which, request, tmp_path):
    *_, documents = request.getfixturevalue(which)
    documents = copy.deepcopy(documents)
    held = next(doc for name, doc in documents if name == "resource")
    there, held["root"] = held["root"], "/no/such/root"
    first = next(doc["datum_id"] for name, doc in documents if name == "datum")
    handlers = Handlers()
    loaded = Datums(documents, handlers)
    with pytest.raises(MissingAsset) as caught:
        loaded.load(first)
    message = str(caught.value)
    path = {"hdf5": "a.h5", "tiffs": "2024/05/img_000000.tiff"}.get(which, f"{held['resource_path']}_0.npy")
    for part in (f"/no/such/root/{path}", held["uid"], held["spec"], "db.reg.root_map['/no/such/root'] = "):
        assert part in message
    assert isinstance(caught.value, event_model.DataNotAccessible)
    assert isinstance(caught.value, FileNotFoundError)
    assert isinstance(caught.value.__cause__, FileNotFoundError)
    line, names = remedied(caught.value, handlers)
    exec(line.replace("<where it is now>", there), names)
    assert loaded.load(first) is not None


def test_a_missing_file_below_a_mapped_root_names_the_key_that_moved_it():
    documents = pair(spec="NPY_SEQ", root="/data/a", resource_path="x")
    loaded = Datums(documents, Handlers(root_map={"/data": "/mnt"}))
    with pytest.raises(MissingAsset, match=r"'/mnt/a/x_0.npy'.*'/data/a/x'.*root_map\['/data'\] = "):
        loaded.load(only(documents))


@pytest.mark.parametrize("root", ["", "/"])
def test_without_a_root_the_line_names_the_directory(root):
    documents = pair(spec="NPY_SEQ", root=root, resource_path="/data/a/x")
    with pytest.raises(MissingAsset, match=r"root_map\['/data/a'\] = "):
        Datums(documents, Handlers()).load(only(documents))


def fails(error):
    def handler(path, **options):
        raise error

    return handler


@pytest.mark.parametrize("error", [KeyError("entry"), PermissionError(13, "denied"), ValueError("no TIFF"), OSError(5)])
def test_any_other_error_of_a_handler_names_it_and_is_kept_as_the_cause(error, tmp_path):
    (tmp_path / "images").touch()
    documents = pair(spec="BAD", root=str(tmp_path))
    with pytest.raises(UnreadableAsset, match=f"fails.*handler cannot read .*{type(error).__name__}") as caught:
        datums(documents, BAD=fails(error)).load(only(documents))
    assert caught.value.__cause__ is error
    assert isinstance(caught.value, event_model.DataNotAccessible)
    assert not isinstance(caught.value, MissingAsset)


def test_an_oserror_without_a_number_means_a_missing_file_only_if_nothing_is_there(tmp_path):
    documents = pair(spec="BAD", root=str(tmp_path), resource_path="img")
    loaded = datums(documents, BAD=fails(OSError("cannot open")))
    with pytest.raises(MissingAsset, match="img"):
        loaded.load(only(documents))
    (tmp_path / "img_0.cbf").touch()
    with pytest.raises(UnreadableAsset, match="cannot open"):
        loaded.load(only(documents))


def test_a_missing_file_is_recognised_behind_the_error_of_a_handler(tmp_path):
    (tmp_path / "images").touch()
    documents = pair(spec="BAD", root=str(tmp_path))

    def wrapped(path, **options):
        try:
            Path("/no/such/calibration").read_bytes()
        except OSError as error:
            raise ValueError("cannot start") from error

    def unrelated(path, **options):
        try:
            Path("/no/such/calibration").read_bytes()
        except OSError:
            raise ValueError("cannot start") from None

    with pytest.raises(MissingAsset, match="'/no/such/calibration'"):
        datums(documents, BAD=wrapped).load(only(documents))
    with pytest.raises(UnreadableAsset, match="cannot start"):
        datums(documents, BAD=unrelated).load(only(documents))


def test_a_file_that_is_not_hdf5_cannot_be_read(hdf5):
    _, held, documents = hdf5
    Path(held["root"], "a.h5").write_bytes(b"no HDF5")
    with pytest.raises(UnreadableAsset, match=r"AreaDetectorHDF5Handler.*OSError"):
        Datums(documents, Handlers()).load(only(documents))


def test_after_a_failure_the_next_loading_tries_again(tiffs):
    folder, held, documents = tiffs
    loaded = Datums(documents, Handlers())
    path = folder / "img_000001.tiff"
    content = path.read_bytes()
    path.unlink()
    with pytest.raises(MissingAsset):
        loaded.load(f"{held['uid']}/1")
    path.write_bytes(content)
    assert loaded.load(f"{held['uid']}/1").max() == 1


def test_with_patience_a_file_that_is_written_late_is_waited_for(tiffs):
    folder, held, documents = tiffs
    path = folder / "img_000001.tiff"
    content = path.read_bytes()
    path.unlink()
    threading.Timer(0.1, path.write_bytes, [content]).start()
    loaded = Datums(documents, Handlers(), patience=30.0)
    assert loaded.load(f"{held['uid']}/1").max() == 1


def test_patience_is_not_spent_on_what_time_does_not_mend(monkeypatch):
    monkeypatch.setattr("filebroker.assets.datums.time.sleep", lambda seconds: pytest.fail("waited"))
    documents = pair(spec="BAD")
    handlers = Handlers({"BAD": fails(ValueError("no"))}, discover=False)
    with pytest.raises(UnreadableAsset):
        Datums(documents, handlers, patience=30.0).load(only(documents))


def test_patience_ends(scanned, monkeypatch):
    _, documents = scanned
    waits = []
    monkeypatch.setattr("filebroker.assets.datums.time.sleep", waits.append)
    loaded = Datums(documents, Handlers(root_map={str(scanned[0]): "/nowhere"}), patience=1.0)
    with pytest.raises(MissingAsset):
        loaded.load(frames(documents)[0])
    assert waits[:3] == [0.002, 0.004, 0.008]
    assert max(waits) <= 1.0


def test_a_handler_that_tells_no_files_is_named():
    held = resource(spec="RAMP")
    with pytest.raises(NotSupported, match=r"Ramp.*'RAMP'.*get_file_list"):
        datums([("resource", held)], RAMP=Ramp).files_of(held)


# Files on an object store


@pytest.fixture
def store():
    memory = fsspec.filesystem("memory")
    yield memory
    memory.rm("/", recursive=True) if memory.ls("/") else None


def test_a_file_on_an_object_store_is_read_through_a_local_copy(hdf5, store):
    stack, held, documents = hdf5
    content = Path(held["root"], "a.h5").read_bytes()
    store.pipe("/bucket/single/a.h5", content)
    handlers = Handlers(root_map={held["root"]: "memory://bucket/single"})
    Path(held["root"], "a.h5").unlink()
    loaded = Datums(documents, handlers)
    assert np.array_equal(loaded.load(only(documents)), stack[:2])
    assert loaded.files_of(held) == ["memory://bucket/single/a.h5"]


def test_a_sequence_on_an_object_store_is_fetched_frame_by_frame(scanned, store, monkeypatch):
    folder, documents = scanned
    for path in folder.iterdir():
        store.pipe(f"/bucket/frames/{path.name}", path.read_bytes())
    fetched = []
    original = type(store).get_file
    monkeypatch.setattr(
        type(store), "get_file", lambda self, path, *rest, **more: [fetched.append(path), original(self, path, *rest)]
    )
    loaded = Datums(documents, Handlers(root_map={str(folder): "memory://bucket/frames"}))
    first, _, third = frames(documents)
    assert loaded.load(third).mean() == loaded.load(third).mean()
    assert len(fetched) == 1
    assert loaded.load(first).mean() + 2 == loaded.load(third).mean()
    assert len(fetched) == 2


def test_a_file_that_reaches_the_object_store_late_is_read_then(hdf5, store):
    stack, held, documents = hdf5
    handlers = Handlers(root_map={held["root"]: "memory://bucket/late"})
    loaded = Datums(documents, handlers)
    with pytest.raises(MissingAsset, match=r"'memory://bucket/late/a\.h5'"):
        loaded.load(only(documents))
    store.pipe("/bucket/late/a.h5", Path(held["root"], "a.h5").read_bytes())
    assert np.array_equal(loaded.load(only(documents)), stack[:2])


def test_a_file_that_is_not_on_the_object_store_is_missed_by_its_url(scanned, store):
    folder, documents = scanned
    loaded = Datums(documents, Handlers(root_map={str(folder): "memory://bucket/empty"}))
    with pytest.raises(MissingAsset, match=r"'memory://bucket/empty/.*_0.npy'"):
        loaded.load(frames(documents)[0])


def test_a_handler_that_does_not_name_its_files_cannot_read_a_sequence_on_an_object_store(store):
    documents = pair(spec="BAD", root="memory://bucket", resource_path="x")
    with pytest.raises(UnreadableAsset, match="get_file_list"):
        datums(documents, BAD=fails(ValueError("nothing here"))).load(only(documents))


def test_a_store_that_cannot_be_reached_is_named():
    documents = pair(spec="NPY_SEQ", root="nosuchprotocol://bucket")
    with pytest.raises(UnreadableAsset, match=r"nosuchprotocol://bucket/images.*cannot be reached"):
        Datums(documents, Handlers()).load(only(documents))


class Whole(Ramp):
    """A handler that opens its file once, as those of HDF5 do."""

    def __init__(self, path, **options):
        super().__init__(path, **options)
        self.values = np.load(path)

    def __call__(self, **options):
        return self.values


def upload(store, path, values, stop=None):
    content = io.BytesIO()
    np.save(content, values)
    store.pipe(path, content.getvalue()[:stop])


def remote(**handlers):
    documents = pair(spec="WHOLE", root="memory://bucket/changing", resource_path="a.npy")
    return documents, datums(documents, WHOLE=Whole)


def test_a_file_that_was_uploaded_in_part_is_fetched_again(store):
    documents, loaded = remote()
    upload(store, "/bucket/changing/a.npy", np.arange(3.0), stop=140)
    with pytest.raises(UnreadableAsset):
        loaded.load(only(documents))
    upload(store, "/bucket/changing/a.npy", np.arange(3.0))
    assert loaded.load(only(documents)).tolist() == [0, 1, 2]


@pytest.mark.parametrize("again", [lambda loaded: loaded, lambda loaded: pickle.loads(pickle.dumps(loaded))])
def test_a_file_that_was_replaced_on_an_object_store_is_fetched_again(store, again, monkeypatch):
    monkeypatch.setattr("filebroker.assets.datums._COMPARED_SECONDS", 0.0)
    documents, loaded = remote()
    for values in ([1.0, 2.0], [3.0, 4.0]):
        upload(store, "/bucket/changing/a.npy", np.array(values))
        assert again(loaded).load(only(documents)).tolist() == values
    store.rm("/bucket/changing/a.npy")
    with pytest.raises(MissingAsset, match=r"memory://bucket/changing/a\.npy"):
        again(loaded).load(only(documents))


class Listing(Whole):
    """A handler that opens a file of its own naming, and keeps it open."""

    def __init__(self, path, **options):
        Ramp.__init__(self, path, **options)
        self.values = None

    def __call__(self, **options):
        if self.values is None:
            self.values = np.load(f"{self.path}_0.npy")
        return self.values

    def get_file_list(self, kwargs):
        return [f"{self.path}_0.npy" for _ in kwargs]


def test_a_file_of_a_sequence_that_was_replaced_is_read_by_a_handler_that_is_opened_anew(store, monkeypatch):
    monkeypatch.setattr("filebroker.assets.datums._COMPARED_SECONDS", 0.0)
    documents = pair(spec="LISTING", root="memory://bucket/listed", resource_path="b")
    loaded = datums(documents, LISTING=Listing)
    for values in ([1.0, 2.0], [3.0, 4.0]):
        upload(store, "/bucket/listed/b_0.npy", np.array(values))
        assert loaded.load(only(documents)).tolist() == values


def test_a_copy_that_is_as_its_original_is_fetched_once(store, monkeypatch):
    monkeypatch.setattr("filebroker.assets.datums._COMPARED_SECONDS", 0.0)
    documents, loaded = remote()
    upload(store, "/bucket/changing/a.npy", np.arange(2.0))
    fetched, original = [], type(store).get_file
    monkeypatch.setattr(
        type(store), "get_file", lambda self, path, *rest, **more: [fetched.append(path), original(self, path, *rest)]
    )
    for _ in range(3):
        loaded.load(only(documents))
    datums(documents, WHOLE=Whole).load(only(documents))
    assert len(fetched) == 1
    assert len(Ramp.opened) == 2


def test_the_copies_that_were_not_used_for_longest_are_removed(store, monkeypatch):
    monkeypatch.setattr("filebroker.assets.mirror.MOST_BYTES", 250)
    mirror, now = Mirror(), time.time()
    paths = {}
    for age, name in ((10, "new"), (300, "old"), (200, "middle"), (0, "last")):
        store.pipe(f"/bucket/bound/{name}", bytes(100))
        paths[name], _ = mirror.path(f"memory://bucket/bound/{name}", 0.0)
        os.utime(paths[name], (now - age, now - age))
    assert [name for name, path in paths.items() if os.path.exists(path)] == ["new", "last"]
    mirror.path("memory://bucket/bound/old", 0.0)  # and is there again when it is needed
    assert os.path.exists(paths["old"])


@pytest.mark.parametrize("path", ["{}/sub/x://y/z", "../../../..{}/sub/x://y", "{}/sub/../x://y"])
def test_a_path_that_only_looks_like_a_url_makes_no_directory(tmp_path, path):
    documents = pair(spec="RAMP", root="", resource_path=path.format(tmp_path))
    datums(documents, RAMP=Ramp).load(only(documents))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="no URL"):
        Mirror().path(path.format(tmp_path), 0.0)


def test_a_handler_that_names_files_outside_of_the_mirror_makes_none(store, tmp_path):
    mirror = Mirror()
    inside, _ = mirror.path("memory://bucket/x", 0.0)
    home = Path(inside).parents[2]
    outside = f"{home}/memory{'/..' * len(home.parts)}{tmp_path}/made/x"
    assert not mirror.fetch([outside, f"{home}-other/x"], 0.0)
    assert list(tmp_path.iterdir()) == []


def test_the_datums_of_each_resource_are_looked_through_once(monkeypatch):
    class Lister(Ramp):
        def get_file_list(self, kwargs):
            return [f"{self.path}-{each['index']}" for each in kwargs]

    documents = [each for number in range(40) for each in pair(number, spec="LISTER", resource_path=f"f{number}")]
    loaded = datums(documents, LISTER=Lister)
    looks = []

    class Counted(dict):
        def items(self):
            looks.append(1)
            return super().items()

    loaded._datums = Counted(loaded._datums)
    found = [Path(*loaded.files_of(held)).name for held in loaded.resources]
    assert found == [f"f{number}-{number}" for number in range(40)]
    assert len(looks) == 1


# Copies


def test_the_files_of_a_resource_are_copied_below_another_root(tiffs, tmp_path):
    folder, held, documents = tiffs
    loaded = Datums(documents, Handlers())
    told = []
    pairs = copy_files(held, loaded.files_of(held), tmp_path / "new", lambda *args: told.append(args))
    assert pairs == [
        (str(folder / f"img_{number:06d}.tiff"), str(tmp_path / "new/2024/05" / f"img_{number:06d}.tiff"))
        for number in range(3)
    ]
    assert told == [(number, 3, *names) for number, names in enumerate(pairs)]
    for old, new in pairs:
        assert Path(new).read_bytes() == Path(old).read_bytes()
        assert Path(new).stat().st_mtime == Path(old).stat().st_mtime
    shutil.rmtree(folder)
    new_documents = [(name, relocated(doc, tmp_path / "new") if name == "resource" else doc) for name, doc in documents]
    assert Datums(new_documents, Handlers()).load(f"{held['uid']}/2").max() == 2


def test_files_beside_the_resource_path_are_copied(scanned, tmp_path):
    _, documents = scanned
    loaded = Datums(documents, Handlers())
    pairs = copy_files(loaded.resources[0], loaded.files_of(loaded.resources[0]), tmp_path)
    assert [new for _, new in pairs] == [str(tmp_path / Path(old).name) for old, _ in pairs]
    assert len(pairs) == 3


def test_without_a_root_the_whole_path_is_repeated(scanned, tmp_path):
    folder, documents = scanned
    held = dict(next(doc for name, doc in documents if name == "resource"))
    held |= {"root": "", "resource_path": str(folder / held["resource_path"])}
    loaded = Datums([("resource", held), *(item for item in documents if item[0] != "resource")], Handlers())
    with pytest.warns(UserWarning, match="has no root"):
        pairs = copy_files(held, loaded.files_of(held), tmp_path)
    assert {str(Path(new).parent) for _, new in pairs} == {f"{tmp_path}{folder}"}
    moved_there = relocated(held, tmp_path)
    assert locate(moved_there, {}).path == f"{tmp_path}{held['resource_path']}"


def test_files_that_moved_are_copied_from_where_they_are(tiffs, tmp_path):
    folder, held, documents = tiffs
    root_map = {"Z:\\camera": str(tmp_path)}
    held |= {"root": "Z:\\camera", "resource_path": "2024\\05", "path_semantics": "windows"}
    files = Datums(documents, Handlers(root_map=root_map)).files_of(held)
    pairs = copy_files(held, files, tmp_path / "new", root_map=root_map)
    assert pairs[0] == (str(folder / "img_000000.tiff"), str(tmp_path / "new/2024/05/img_000000.tiff"))
    assert relocated(held, "/new")["resource_path"] == "2024/05"
    assert relocated(held, "/new")["path_semantics"] == ("windows" if os.name == "nt" else "posix")


def test_files_on_an_object_store_are_copied(scanned, store, tmp_path):
    folder, documents = scanned
    for path in folder.iterdir():
        store.pipe(f"/bucket/copied/{path.name}", path.read_bytes())
    root_map = {str(folder): "memory://bucket/copied"}
    loaded = Datums(documents, Handlers(root_map=root_map))
    pairs = copy_files(loaded.resources[0], loaded.files_of(loaded.resources[0]), tmp_path, root_map=root_map)
    assert len(pairs) == 3
    for old, new in pairs:
        assert old.startswith("memory://bucket/copied/")
        assert Path(new).read_bytes() == (folder / Path(new).name).read_bytes()


def one_file(tmp_path, content="mine"):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "a.txt").write_text(content)
    return resource(root=str(tmp_path / "old"), resource_path="a.txt"), [str(tmp_path / "old" / "a.txt")]


def test_another_file_is_never_replaced(tmp_path):
    held, files = one_file(tmp_path)
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "a.txt").write_text("yours")
    with pytest.raises(AssetExists, match=r"new/a.txt.*not a copy of") as caught:
        copy_files(held, files, tmp_path / "new")
    assert isinstance(caught.value, FileExistsError)
    assert (tmp_path / "new" / "a.txt").read_text() == "yours"


def test_what_was_copied_before_stays(tmp_path):
    held, files = one_file(tmp_path)
    first = copy_files(held, files, tmp_path / "new")
    inode = Path(first[0][1]).stat().st_ino
    assert copy_files(held, files, tmp_path / "new") == first
    assert Path(first[0][1]).stat().st_ino == inode
    assert copy_files(held, files, tmp_path / "old") == [(files[0], files[0])]


def test_an_interrupted_copy_leaves_no_half_file(tmp_path, monkeypatch):
    held, files = one_file(tmp_path)

    def interrupted(source, path):
        Path(path).write_text("mi")
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "copy2", interrupted)
    with pytest.raises(KeyboardInterrupt):
        copy_files(held, files, tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []


def test_a_hook_that_fails_does_not_keep_files_from_being_copied(tmp_path):
    held, files = one_file(tmp_path)
    with pytest.warns(FilebrokerWarning, match="ZeroDivisionError"):
        copy_files(held, files, tmp_path / "new", lambda *args: 1 / 0)
    assert (tmp_path / "new" / "a.txt").read_text() == "mine"


def test_a_file_outside_of_the_root_is_refused(tmp_path):
    held, _ = one_file(tmp_path)
    (tmp_path / "stray.txt").touch()
    with pytest.raises(InvalidDocument, match=r"stray.txt.*not below its root"):
        copy_files(held, [str(tmp_path / "stray.txt")], tmp_path / "new")


def test_a_file_that_is_gone_is_named(tmp_path):
    held, _ = one_file(tmp_path)
    with pytest.raises(MissingAsset, match=r"gone\.txt"):
        copy_files(held, [str(tmp_path / "old" / "gone.txt")], tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []


def test_a_url_is_no_new_root(tmp_path):
    held, files = one_file(tmp_path)
    with pytest.raises(NotSupported, match="s3://bucket"):
        copy_files(held, files, "s3://bucket/x")


def test_a_relative_path_tells_where_it_was_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    place = locate({"root": "images", "resource_path": "a.h5"}, {})
    assert place.history.endswith(f"was looked for below {tmp_path}")
    assert "relative" not in locate({"root": "/images", "resource_path": "a.h5"}, {}).history
