"""The contract in stores: the same answers wherever a catalog is, while it is recorded and read elsewhere."""

import base64
import contextlib
import dataclasses
import itertools
import json
import logging
import os
import pickle
import re
import shutil
import subprocess
import sys
import threading
import traceback
import uuid
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd
import pytest
import xarray
from aiohttp import web
from bluesky import RunEngine, plan_stubs as bps, plans as bp, preprocessors as bpp
from event_model import sanitize_doc
from ophyd import sim

import factories
from equality import first_difference, same
from factories import T0
from filebroker import (
    Broker,
    CatalogNotFound,
    DuplicateDocument,
    InvalidConfig,
    ReadOnlyCatalog,
    RecoveryWarning,
    StorageError,
    StoreUnreachable,
    UploadWarning,
    temp,
)
from filebroker.commands import main as cli
from filebroker.ground.stores import Store
from filebroker.queries import TextQuery, TimeRange
from filebroker.storing.recorder import Recorder
from filebroker.storing.uploader import Uploader
from servers import Proxy, WebServer, new_bucket, options_for

Pair = tuple[str, dict[str, Any]]
DAY = 86400.0
_numbers = itertools.count(1)


@dataclasses.dataclass
class Place:
    """Where a catalog is, and who opens it: each machine has a home of its own, and so a cache and a staging."""

    url: str
    options: dict[str, Any]
    homes: Path

    def open(self, machine: str = "here", **options: Any) -> Broker:
        """Open the catalog as somebody on a machine would who has not seen it."""
        home = self.homes / machine
        home.mkdir(exist_ok=True)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("HOME", str(home))
            broker = Broker(self.url, storage_options=self.options, **options)
            _ = broker.catalog.library  # now, while this is the home
        return broker


def make_place(kind: str, homes: Path, endpoint: str) -> Place:
    """Give a new place: on the local disk, in memory or in S3."""
    homes.mkdir(exist_ok=True)
    number = next(_numbers)
    match kind:
        case "local":
            return Place(str(homes / "catalog"), {}, homes)
        case "memory":
            return Place(f"memory://contract-{uuid.uuid4().hex}/beamtime", {}, homes)
        case _:
            return Place(f"s3://{new_bucket(endpoint)}/beamtime {number}", options_for(endpoint), homes)


@pytest.fixture(params=["local", "memory", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path, s3_endpoint: str) -> Place:
    return make_place(request.param, tmp_path / "homes", s3_endpoint)


# -- what is recorded


class Frames:
    """A handler of images of 2 x 3 pixels, all of the frame's number."""

    def __init__(self, path: str, **kwargs: Any) -> None:
        self._files = np.load(path)

    def __call__(self, index: int) -> Any:
        return self._files[index]


def engine_runs() -> list[list[Pair]]:
    """Run plans with the real RunEngine; give the documents of each run."""
    engine, hw = RunEngine({"beamline": "BL-7", "operator": "Ana Ångström"}), sim.hw()
    emitted: list[Pair] = []
    engine.subscribe(lambda name, doc: emitted.append((name, doc)))
    supplies = bpp.SupplementalData(baseline=[hw.motor1, hw.det2], monitors=[hw.signal])

    def failing() -> Iterator[Any]:
        yield from bps.open_run({"plan_name": "failing"})
        yield from bps.trigger_and_read([hw.det])
        raise RuntimeError("the beam is gone")

    engine(bp.scan([hw.det], hw.motor, -1, 1, 5), sample="LaB6 on glass", purpose="alignment of the hutch")
    engine(bp.count([hw.det, hw.det1], num=3), sample={"name": "CeO2", "layers": [1, 2]})
    engine.preprocessors.append(supplies)
    grid = bp.grid_scan([hw.det4], hw.motor1, 0, 1, 2, hw.motor2, 0, 1, 3, snake_axes=False)
    engine(grid, sample="copper foil")
    engine.preprocessors.remove(supplies)
    with contextlib.suppress(RuntimeError):
        engine(bpp.finalize_wrapper(failing(), bps.close_run("abort", "the beam is gone")))
    starts = [number for number, (name, _) in enumerate(emitted) if name == "start"]
    return [emitted[first:last] for first, last in zip(starts, [*starts[1:], None], strict=True)]


def hand_made(images: Path) -> list[list[Pair]]:
    """Make a run of odd values, one of external images, and one without a stop document."""
    np.save(images, np.arange(12).reshape(2, 2, 3))
    begun = factories.start(uid="fodd", scan_id=101, plan_name="odd", number=2**60, nothing=None, ratio=1e-300)
    keys = {"s": "string", "a": "array", "flag": "boolean", "n": "integer", "x": "number"}
    keys["image"] = factories.data_key("array", shape=[2, 3])
    described = factories.descriptor(begun, keys)
    rows = [
        {"s": "öffen", "a": [1, 2, 3], "flag": True, "n": 2**60, "x": 0.1, "image": [[1, 2, 3], [4, 5, 6]]},
        {"s": "", "a": [4, 5, 6], "flag": False, "n": -3, "x": float("nan"), "image": [[0, 0, 0], [7, 8, 9]]},
    ]
    odd = [("event", factories.event(described, number, row)) for number, row in enumerate(rows, 1)]

    shown = factories.start(uid="fimages", scan_id=102, time=T0 + DAY, plan_name="images")
    external = {"image": factories.data_key("array", shape=[2, 3], external="FILESTORE:"), "det": "number"}
    primary = factories.descriptor(shown, external)
    held = factories.resource(shown, spec="FRAMES", root=str(images.parent), resource_path=images.name)
    filed: list[Pair] = [("resource", held)]
    for number in (1, 2):
        item = factories.datum(held, number - 1)
        data = {"image": item["datum_id"], "det": number / 4}
        filed += [("datum", item), ("event", factories.event(primary, number, data))]

    live = factories.run(3, uid="flive", scan_id=103, time=T0 + 2 * DAY, plan_name="unfinished")[:-1]
    return [
        [("start", begun), ("descriptor", described), *odd, ("stop", factories.stop(begun, {"primary": 2}))],
        [("start", shown), ("descriptor", primary), *filed, ("stop", factories.stop(shown, {"primary": 2}))],
        live,
    ]


@dataclasses.dataclass
class Recorded:
    """Runs, and the broker of a local disk that knows them, with which others are compared."""

    runs: list[list[Pair]]
    local: Broker

    @property
    def uids(self) -> list[str]:
        return [documents[0][1]["uid"] for documents in self.runs]


def insert_all(db: Broker, runs: list[list[Pair]]) -> None:
    db.reg.register_handler("FRAMES", Frames, overwrite=True)
    for documents in runs:
        for name, doc in documents:
            db.insert(name, doc)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    homes = tmp_path_factory.mktemp("recorded")
    runs = hand_made(homes / "images.npy") + engine_runs()
    local = make_place("local", homes, "").open()
    insert_all(local, runs)
    yield Recorded(runs, local)
    local.close()


#: Where a catalog is, and what has become of the recording when it is asked: nothing is up; all is; and it is read on
#: another machine.
STATES = [
    (kind, state)
    for kind in ("local", "memory", "s3")
    for state in ("staged", "uploaded", "elsewhere", "elsewhere read-only")
    if kind != "local" or state != "staged"
]


@dataclasses.dataclass
class Opened:
    """A broker, and the home of its machine."""

    db: Broker
    home: Path


@contextlib.contextmanager
def recording(place: Place, runs: list[list[Pair]], *, is_up: bool) -> Iterator[Broker]:
    """Give the broker that recorded runs, before or after they went up."""
    wake = Uploader.wake
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Uploader, "wake", lambda self: None if self.staging.url == place.url else wake(self))
        db = place.open()
        insert_all(db, runs)
        if is_up:
            db.catalog.flush(60)
        yield db
    db.close()


@pytest.fixture(scope="module", params=STATES, ids=" ".join)
def opened(
    request: pytest.FixtureRequest, recorded: Recorded, tmp_path_factory: pytest.TempPathFactory, s3_endpoint: str
) -> Iterator[Opened]:
    """Give a broker of each place, in each state."""
    kind, state = request.param
    place = make_place(kind, tmp_path_factory.mktemp("homes"), s3_endpoint)
    with recording(place, recorded.runs, is_up=state != "staged") as db:
        if not state.startswith("elsewhere"):
            yield Opened(db, place.homes / "here")
            return
        db = place.open("elsewhere", read_only="read-only" in state)
        db.reg.register_handler("FRAMES", Frames, overwrite=True)
        yield Opened(db, place.homes / "elsewhere")
        db.close()


@pytest.fixture
def db(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> Broker:
    """Give a broker of each place in each state, and its machine."""
    monkeypatch.setenv("HOME", str(opened.home))
    return opened.db


def plain(value: Any) -> Any:
    """Give what was answered as something that can be compared: the runs by their uids."""
    match value:
        case pd.DataFrame() | pd.Series() | xarray.Dataset():
            return value
        case np.ndarray():
            return value.dtype.str, value.tolist()
        case dict():
            return {key: plain(item) for key, item in value.items()}
        case list() | tuple() | set():
            return [plain(item) for item in value]
        case str() | int() | float() | None:
            return value
    if hasattr(value, "uid"):
        return value.uid
    return plain(list(value))


def assert_equal(one: Any, other: Any) -> None:
    if isinstance(one, pd.DataFrame):
        pd.testing.assert_frame_equal(one, other, check_exact=True)
    elif isinstance(one, pd.Series):
        pd.testing.assert_series_equal(one, other, check_exact=True)
    elif isinstance(one, xarray.Dataset):
        assert {key: item.dtype for key, item in one.variables.items()} == {
            key: item.dtype for key, item in other.variables.items()
        }
        xarray.testing.assert_identical(one, other)
    elif isinstance(one, list) and one and not isinstance(one[0], (str, int, float, dict, type(None))):
        assert len(one) == len(other)
        for mine, theirs in zip(one, other, strict=True):
            assert_equal(mine, theirs)
    else:
        assert same(one, other), f"{one!r}\nis not\n{other!r}"


EVERY = ["fodd", "fimages", "flive", 1, 2, 3, 4]
#: What a user of databroker v1 or v2 asks; the newest run is the failing one, and three were made by hand.
QUESTIONS: dict[str, Callable[[Broker], Any]] = {
    "newest": lambda db: db[-1],
    "newest three": lambda db: db[-3:],
    "prefix": lambda db: db["fodd"[:3]],
    "scan_id": lambda db: [db[number] for number in (1, 2, 3, 101)],
    "several": lambda db: db[[1, "fimag", -2]],
    "all": lambda db: list(db()),
    "count": lambda db: len(list(db())),
    "v2 count": lambda db: len(db.v2),
    "v2 order": lambda db: list(db.v2),
    "plan_name": lambda db: db(plan_name="scan"),
    "nested": lambda db: db(**{"sample.name": "CeO2"}),
    "operator": lambda db: db(num_points={"$gte": 3}),
    "combined": lambda db: db(**{"$or": [{"plan_name": "odd"}, {"scan_id": 3}]}),
    "nothing": lambda db: db(plan_name="no such plan"),
    "data_key": lambda db: db(data_key="image"),
    "words": lambda db: db("LaB6"),
    "phrase": lambda db: db('"of the hutch"'),
    "folded words": lambda db: db("angstrom"),
    "text query": lambda db: db.v2.search(TextQuery("copper")),
    "since": lambda db: db(since=T0 + DAY / 2, until=T0 + 1.5 * DAY),
    "since a day": lambda db: db(since="2025-11-22", until="2025-11-24", plan_name="images"),
    "time range": lambda db: db.v2.search(TimeRange(until=T0 + DAY / 2)),
    "start": lambda db: [dict(db[key].start) for key in EVERY],
    "stop": lambda db: [dict(db[key].stop or {}) for key in EVERY],
    "descriptors": lambda db: [[dict(doc) for doc in db[key].descriptors] for key in EVERY],
    "streams": lambda db: [sorted(db[key].stream_names) for key in EVERY],
    "fields": lambda db: [sorted(db[key].fields(name)) for key in EVERY for name in sorted(db[key].stream_names)],
    "devices": lambda db: [sorted(db[key].devices()) for key in EVERY],
    "configuration": lambda db: db[1].config_data("motor"),
    "tables": lambda db: [db[key].table(name) for key in EVERY for name in sorted(db[key].stream_names)],
    "column": lambda db: db["fodd"].table(fields=["x"]),
    "filled table": lambda db: db["fimages"].table(fill=True),
    "get_table": lambda db: db.get_table(db[[1, 3]]),
    "events": lambda db: [[dict(doc) for doc in db[key].events()] for key in EVERY],
    "filled events": lambda db: [event["data"]["image"] for event in db["fimages"].events(fill=True)],
    "data": lambda db: list(db[1].data("det")),
    "image data": lambda db: list(db["fimages"].data("image")),
    "baseline": lambda db: db[3].table("baseline"),
    "read": lambda db: db.v2[1].primary.read(),
    "read images": lambda db: db.v2["fimages"].primary.read(),
    "lazy": lambda db: db.v2["fimages"].primary.to_dask().compute(),
    "odd dataset": lambda db: db.v2["fodd"].primary.read(),
    "v2 metadata": lambda db: [
        json.loads(json.dumps(db.v2[key].metadata, sort_keys=True)) for key in ("fodd", "flive")
    ],
    "lazy column": lambda db: db.v2.search({"plan_name": "odd"})[-1].primary.to_dask()[["x"]].compute(),
    "keys seen": lambda db: db.keys_seen(),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_every_place_gives_the_answer_of_a_local_disk(question: str, db: Broker, recorded: Recorded) -> None:
    expected, found = plain(QUESTIONS[question](recorded.local)), plain(QUESTIONS[question](db))
    assert_equal(expected, found)
    if question not in ("nothing",):
        assert len(found) if hasattr(found, "__len__") else found


def texts(pairs: Any) -> list[Pair]:
    """Give documents as JSON carries them."""
    return [(name, sanitize_doc(dict(doc))) for name, doc in pairs]


def test_documents_come_out_as_they_went_in(db: Broker, recorded: Recorded) -> None:
    for documents in recorded.runs:
        uid = documents[0][1]["uid"]
        found = texts(db[uid].plain_documents())
        assert not first_difference(texts(recorded.local[uid].plain_documents()), found)
        assert in_any_order(found) == in_any_order(texts(documents))


def in_any_order(pairs: list[Pair]) -> list[str]:
    return sorted(json.dumps(pair, sort_keys=True) for pair in pairs)


def test_runs_know_their_state(db: Broker, recorded: Recorded) -> None:
    states = {"live" if uid == "flive" else "sealed" for uid in recorded.uids}
    assert {db[uid].state for uid in recorded.uids} == states
    assert db["flive"].state == "live"


@pytest.mark.parametrize(
    ("key", "error"),
    [
        *[("no-such-uid", KeyError), (99, KeyError), (-99, IndexError), ("", ValueError), (None, TypeError)],
        *[(slice(-99, None), IndexError), (slice(None), ValueError), (["no-such-uid"], KeyError)],
    ],
)
def test_keys_of_no_run_are_the_same_errors_everywhere(key: Any, error: type[Exception], db: Broker) -> None:
    with pytest.raises(error):
        db[key]


def test_headers_and_brokers_travel_to_other_processes(db: Broker, recorded: Recorded) -> None:
    broker, header, results = pickle.loads(pickle.dumps((db, db["fodd"], db(plan_name="scan"))))
    assert [found.uid for found in broker()] == [found.uid for found in recorded.local()]
    assert_equal(header.table(), recorded.local["fodd"].table())
    assert [found.uid for found in results] == [found.uid for found in recorded.local(plan_name="scan")]


def test_runs_are_exported_with_all_documents(db: Broker, recorded: Recorded) -> None:
    copy = temp()
    db.export([db["fodd"], db["fimages"], db[3]], copy)
    for uid in ("fodd", "fimages", db[3].uid):
        assert not first_difference(texts(recorded.local[uid].plain_documents()), texts(copy[uid].plain_documents()))
    copy.close()


def test_what_is_derived_is_made_anew_with_the_same_answers(db: Broker, recorded: Recorded) -> None:
    db.catalog.clear_cache()
    assert [found.uid for found in db("LaB6")] == [found.uid for found in recorded.local("LaB6")]
    found = db.refresh()
    assert not any((found.added, found.changed, found.removed, found.unreadable))
    db.catalog.reindex()
    assert [found.uid for found in db()] == [found.uid for found in recorded.local()]
    assert_equal(db[1].table(), recorded.local[1].table())


def test_external_files_stay_where_they_are(db: Broker) -> None:
    folder = db.catalog.folder
    found = [str(path) for path in Path(folder.url).rglob("*")] if folder.remote is None else folder.remote.tree("")
    assert not [name for name in found if name.endswith("npy")]
    if folder.remote is not None:
        assert not [name for name in found if not re.match(r"filebroker\.json|_index/|_live/|\d{4}/\d\d/\d\d/", name)]


# -- what is recorded again, or by two


def test_what_was_recorded_elsewhere_is_not_recorded_again(place: Place) -> None:
    documents = factories.run(3, uid="fonce")
    with contextlib.closing(place.open()) as db:
        insert_all(db, [documents, documents])
        with pytest.raises(DuplicateDocument, match="fonce"):
            db.insert("start", {**documents[0][1], "sample": "another"})
        db.catalog.flush(30)
        insert_all(db, [documents])
        with pytest.raises(DuplicateDocument, match="fonce"):
            db.insert("start", {**documents[0][1], "sample": "another"})
        db.catalog.flush(30)
        assert [header.uid for header in db()] == ["fonce"]
    assert len(place.open("elsewhere").v2) == 1


def test_runs_recorded_by_two_machines_are_seen_by_both(place: Place) -> None:
    with contextlib.closing(place.open("one")) as one, contextlib.closing(place.open("two")) as two:
        for number in range(3):
            for db, name in ((one, "one"), (two, "two")):
                insert_all(db, [factories.run(2, uid=f"f{name}{number}", time=T0 + number, scan_id=number)])
                db.catalog.flush(30)
        for db in (one, two):
            settle(db)
            assert sorted(header.uid for header in db()) == sorted(
                f"f{name}{number}" for name in ("one", "two") for number in range(3)
            )
            assert_equal(db["ftwo1"].table(), one["ftwo1"].table())


def settle(db: Broker) -> None:
    """Have a broker look at its store now, although it did so a moment ago."""
    db.catalog.library.ledger.files(fresh=True)


def test_a_broker_for_reading_records_nothing(place: Place) -> None:
    with contextlib.closing(place.open()) as db:
        insert_all(db, [factories.run(uid="fone")])
        db.catalog.flush(30)
    other = place.open("elsewhere", read_only=True)
    with pytest.raises(ReadOnlyCatalog, match="reading"):
        other.insert(*factories.run()[0])
    assert not other.refresh().added


def test_an_empty_place_becomes_a_catalog_with_the_first_document(place: Place) -> None:
    with pytest.raises(CatalogNotFound):
        place.open("reader", read_only=True)
    with contextlib.closing(place.open()) as db:
        assert list(db()) == []
        insert_all(db, [factories.run(uid="fone")])
        db.catalog.flush(30)
    assert place.open("reader", read_only=True)["fone"].state == "sealed"


# -- how a place is named


def write_config(directory: str, place: Place, **content: Any) -> None:
    os.makedirs(directory, exist_ok=True)
    text = {"path": place.url, "storage_options": place.options, **content}
    with open(os.path.join(directory, "beamtime.yml"), "w") as file:
        json.dump(text, file)  # which is YAML, too


def intake_file(place: Place) -> dict[str, Any]:
    args = {"path": place.url, "storage_options": place.options}
    return {"sources": {"beamtime": {"driver": "filebroker", "args": args}}}


@pytest.mark.parametrize("kind", ["configuration", "Intake catalog"])
def test_named_catalogs_may_be_anywhere(kind: str, place: Place, own_home: Path) -> None:
    with contextlib.closing(place.open()) as db:
        insert_all(db, [factories.run(uid="fone", sample="LaB6")])
        db.catalog.flush(30)
    directory = own_home / ".config" / "filebroker"
    write_config(str(directory), place)
    if kind == "Intake catalog":
        (directory / "beamtime.yml").write_text(json.dumps(intake_file(place)))
    named = Broker.named("beamtime")
    assert [header.uid for header in named("LaB6")] == ["fone"]
    assert named.name == "beamtime"


def test_a_file_url_is_the_local_disk(tmp_path: Path) -> None:
    local = make_place("local", tmp_path / "homes", "")
    with contextlib.closing(Broker(f"file://{local.url}")) as db:
        insert_all(db, [factories.run(uid="fone")])
    assert_equal(local.open()["fone"].table(), Broker(f"file://{local.url}", read_only=True)["fone"].table())


@pytest.mark.parametrize("cache", ["simplecache", "filecache", "blockcache"])
def test_a_cache_of_fsspec_before_a_store_gives_nothing_stale(
    cache: str, tmp_path: Path, s3_endpoint: str, own_home: Path
) -> None:
    place = make_place("s3", tmp_path / "homes", s3_endpoint)
    with contextlib.closing(place.open()) as db:
        insert_all(db, [factories.run(uid="fone")])
        db.catalog.flush(30)
        options = {"s3": place.options, cache: {"cache_storage": str(own_home / "fsspec")}}
        reader = Broker(f"{cache}::{place.url}", storage_options=options, read_only=True)
        assert [header.uid for header in reader()] == ["fone"]
        insert_all(db, [factories.run(5, uid="ftwo", time=T0 + DAY)])
        db.catalog.flush(30)
        settle(reader)
        assert [header.uid for header in reader()] == ["ftwo", "fone"]
        assert_equal(reader[-1].table(), db["ftwo"].table())


# -- web servers


@pytest.fixture(scope="module")
def web_copy(recorded: Recorded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """Give a broker that reads a copy of the local catalog from a web server."""
    copy = tmp_path_factory.mktemp("web") / "beamtime"
    shutil.copytree(recorded.local.catalog.folder.url, copy)
    with WebServer(copy.parent) as server:
        db = make_place("local", copy.parent / "homes", "")
        db.url = f"{server.url}/beamtime"
        broker = db.open()
        broker.reg.register_handler("FRAMES", Frames, overwrite=True)
        yield broker
        broker.close()


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_web_server_gives_the_answer_of_a_local_disk(question: str, web_copy: Broker, recorded: Recorded) -> None:
    assert_equal(plain(QUESTIONS[question](recorded.local)), plain(QUESTIONS[question](web_copy)))


def test_nothing_is_recorded_to_a_web_server(web_copy: Broker) -> None:
    with pytest.raises(ReadOnlyCatalog, match=r"nothing can be written to http://.*; record locally and copy"):
        web_copy.insert(*factories.run()[0])
    with pytest.raises(ReadOnlyCatalog):
        web_copy.catalog.seal_interrupted()


def test_pythons_own_web_server_will_do(recorded: Recorded, own_home: Path) -> None:
    served = subprocess.Popen(
        [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1"],
        cwd=os.path.dirname(recorded.local.catalog.folder.url),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with served:
        try:
            assert served.stdout is not None
            found = re.search(rb"http://127.0.0.1:\d+", served.stdout.readline())
            assert found is not None
            db = Broker(f"{found[0].decode()}/catalog")
            assert [header.uid for header in db("LaB6")] == [header.uid for header in recorded.local("LaB6")]
            assert_equal(db[3].table(), recorded.local[3].table())
            assert len(db.v2) == len(recorded.runs)
        finally:
            served.kill()


# -- recording


@pytest.fixture
def proxy(s3_endpoint: str) -> Iterator[Proxy]:
    with Proxy(s3_endpoint) as made:
        yield made


def behind(proxy: Proxy, endpoint: str, homes: Path) -> Place:
    """Give a place in S3 behind a proxy."""
    place = make_place("s3", homes, endpoint)
    return dataclasses.replace(place, options=options_for(proxy.url))


def test_recording_waits_for_no_request(
    proxy: Proxy, s3_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = behind(proxy, s3_endpoint, tmp_path / "homes")
    db = place.open()
    monkeypatch.setenv("FILEBROKER_TIMEOUT", "1")
    proxy.fault("", "hang")
    askers = set()
    run = Store._run

    def noting(self: Store, *args: Any, **options: Any) -> Any:
        askers.add(threading.current_thread())
        return run(self, *args, **options)

    monkeypatch.setattr(Store, "_run", noting)
    engine, hw = RunEngine(), sim.hw()
    emitted: list[Pair] = []
    engine.subscribe(db.insert)
    engine.subscribe(lambda name, doc: emitted.append((name, doc)))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", UploadWarning)
        engine(bp.scan([hw.det], hw.motor, -1, 1, 5))
        engine(bp.count([hw.det], num=3))
    assert {item.category for item in told} <= {UploadWarning}
    assert threading.main_thread() not in askers
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UploadWarning)
        with pytest.raises(StoreUnreachable, match="is not uploaded yet, and safe in"):
            db.catalog.flush(1.5)
    assert askers
    proxy.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UploadWarning)
        db.catalog.flush(60)
    assert not db.catalog.folder.names("_live")
    elsewhere = place.open("elsewhere", read_only=True)
    assert len(elsewhere.v2) == 2
    found = [*texts(elsewhere[1].plain_documents()), *texts(elsewhere[2].plain_documents())]
    assert in_any_order(found) == in_any_order(texts(emitted))
    db.close()


_RECORDER = """
import sys
sys.path.insert(0, sys.argv[1])
import factories
from filebroker import Broker
from filebroker.storing.recorder import Recorder
Recorder.__init__.__kwdefaults__["segment_documents"] = 10
db = Broker(sys.argv[2], storage_options={"key": "testing", "secret": "testing", "endpoint_url": sys.argv[3]})
begun = factories.start(uid=sys.argv[4])
described = factories.descriptor(begun, uid="described")
db.insert("start", begun)
db.insert("descriptor", described)
for number in range(1, 36):
    db.insert("event", factories.event(described, number, {"det": number / 8}))
if sys.argv[5] == "flush":
    db.catalog.flush(60)
print("acknowledged", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def recorder_process(place: Place, uid: str, deed: str = "") -> Iterator[subprocess.Popen[bytes]]:
    """Have another process on this machine record a long run; it is killed at the end."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            _RECORDER,
            os.path.dirname(__file__),
            place.url,
            place.options["endpoint_url"],
            uid,
            deed,
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"HOME": str(place.homes / "here")},
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"acknowledged\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("deed", ["", "flush"])
def test_nothing_is_lost_when_the_recording_process_is_killed(deed: str, s3_endpoint: str, tmp_path: Path) -> None:
    place = make_place("s3", tmp_path / "homes", s3_endpoint)
    (place.homes / "here").mkdir()
    with recorder_process(place, "flong", deed):
        pass
    if deed:  # another machine sees what was up
        assert len(list(place.open("elsewhere", read_only=True)["flong"].events())) == 35
    with pytest.warns(RecoveryWarning, match="was cut short; its 37 documents were sealed"):
        db = place.open()
    db.catalog.flush(60)
    other = place.open("another", read_only=True)
    assert other["flong"].state == "interrupted"
    assert other["flong"].table()["det"].tolist() == [number / 8 for number in range(1, 36)]
    assert not db.catalog.folder.names("_live")
    db.close()


def test_readers_elsewhere_see_a_long_run_grow(
    s3_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("filebroker.cataloging.run._GROWING_SECONDS", 0.0)
    monkeypatch.setitem(Recorder.__init__.__kwdefaults__, "segment_documents", 10)
    place = make_place("s3", tmp_path / "homes", s3_endpoint)
    db = place.open()
    begun = factories.start(uid="flong")
    described = factories.descriptor(begun)
    insert_all(db, [[("start", begun), ("descriptor", described)]])
    other = None
    for number in range(1, 40):
        db.insert("event", factories.event(described, number, {"det": number / 8}))
        if number % 13 == 0:
            db.catalog.flush(60)
            other = other or place.open("elsewhere", read_only=True)
            settle(other)
            assert other["flong"].state == "live"
            assert len(other["flong"].table()) == number
    db.insert("stop", factories.stop(begun, {"primary": 39}))
    db.catalog.flush(60)
    assert other is not None
    settle(other)
    assert other["flong"].state == "sealed"
    assert other[-1].table()["det"].tolist() == [number / 8 for number in range(1, 40)]
    db.close()


def test_of_two_machines_that_record_one_uid_one_wins(s3_endpoint: str, tmp_path: Path) -> None:
    place = make_place("s3", tmp_path / "homes", s3_endpoint)
    first, second = place.open("here"), place.open("there")
    documents = [factories.run(number + 2, uid="fcontested", sample=f"of {number}") for number in range(2)]
    insert_all(first, documents[:1])
    insert_all(second, documents[1:])
    first.catalog.flush(60)
    with pytest.warns(UploadWarning, match="fcontested"):
        second.catalog.flush(60)
    for reader in (first, place.open("elsewhere", read_only=True)):
        assert [header.start["sample"] for header in reader()] == ["of 0"]
        assert len(reader["fcontested"].table()) == 2
    aside = [path for path in (place.homes / "there").rglob("documents.jsonl") if "_conflicts" in str(path)]
    assert len(aside) == 1
    first.close()
    second.close()


# -- secrets

#: What must be shown nowhere: a key, a secret with characters that are quoted in URLs, and a token.
CANARIES = {"key": "AKIACANARYCANARY", "secret": "cana/ry+Sesame=9876", "token": "tokencanary123456"}
_VARIABLES = {"key": "MY_KEY", "secret": "MY_SECRET", "token": "MY_TOKEN"}
_PROFILE = {"aws_access_key_id": "key", "aws_secret_access_key": "secret", "aws_session_token": "token"}


def given(way: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Give credentials in one of the ways that there are."""
    match way:
        case "directly":
            return dict(CANARIES)
        case "by variables":
            for name, variable in _VARIABLES.items():
                monkeypatch.setenv(variable, CANARIES[name])
            return {name: {"env": variable} for name, variable in _VARIABLES.items()}
        case "by the environment":
            for name, kind in _PROFILE.items():
                monkeypatch.setenv(name.upper(), CANARIES[kind])
            return {}
        case _:
            lines = [f"{name} = {CANARIES[kind]}\n" for name, kind in _PROFILE.items()]
            (home / "credentials").write_text(f"[beamline]\n{''.join(lines)}")
            monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(home / "credentials"))
            return {"profile": "beamline"}


def assert_no_canary(data: bytes | str, where: str) -> None:
    text = data.encode(errors="replace") if isinstance(data, str) else data
    for canary in CANARIES.values():
        for form in (canary, quote(canary, safe=""), base64.b64encode(canary.encode()).decode().rstrip("=")[:-1]):
            assert form.encode() not in text, f"{form} in {where}"


class EchoingProxy(Proxy):
    """Tells those it refuses what they sent, as servers do."""

    async def _answer(self, request: web.Request, action: str) -> web.StreamResponse:
        if action == "echo":
            sent = " ".join(request.headers.get(name, "") for name in ("X-Amz-Security-Token", "Authorization"))
            text = f"<Error><Code>SignatureDoesNotMatch</Code><Message>{sent} is wrong</Message></Error>"
            return web.Response(status=403, text=text, content_type="application/xml")
        return await super()._answer(request, action)


@pytest.mark.parametrize("way", ["directly", "by variables", "by the environment", "by a profile"])
def test_credentials_are_shown_and_kept_nowhere(
    way: str,
    s3_endpoint: str,
    tmp_path: Path,
    own_home: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG, "filebroker")
    credentials = given(way, own_home, monkeypatch)
    place = make_place("s3", tmp_path / "homes", s3_endpoint)
    with EchoingProxy(s3_endpoint) as proxy:
        place = dataclasses.replace(place, options={**credentials, "endpoint_url": proxy.url})
        with contextlib.closing(place.open()) as db:
            insert_all(db, [factories.run(3, uid=f"f{number}", time=T0 + number) for number in range(3)])
            shown = [*reprs(db), *files_below(place.homes)]
            db.catalog.flush(60)
            shown += [*reprs(db), *files_below(place.homes)]
        reader = place.open("elsewhere", read_only=True)
        assert [len(header.table()) for header in reader("count")] == [3, 3, 3]
        shown += [*reprs(reader), *files_below(place.homes), *objects(s3_endpoint, place.url)]
        assert len(shown) > 40
        if way != "directly":
            shown += [("a pickle", pickle.dumps((reader, reader["f1"], reader(), reader.catalog.of_uid("f1"))))]
        write_config(str(own_home / ".config" / "filebroker"), place)
        assert cli.main(["ls", "beamtime"]) == 0
        shown += failures(place, proxy)
        assert cli.main(["ls", "beamtime"]) == 1
    out, err = capsys.readouterr()
    assert "f1" in out
    assert "denies" in err
    shown += [("output", out), ("errors", err), ("logs", caplog.text)]
    for where, data in shown:
        assert_no_canary(data, where)


def reprs(db: Broker) -> Iterator[tuple[str, str]]:
    header, catalog = db["f1"], db.catalog
    things = [
        db,
        catalog,
        catalog.folder,
        header,
        db(),
        catalog.of_uid("f1"),
        db.v2,
        header.v2,
        catalog.library,
        db.runs,
    ]
    if catalog.folder.remote is not None:
        things += [catalog.folder.remote, catalog.folder.remote.store, catalog.folder.staged]
    for thing in things:
        yield type(thing).__name__, f"{thing!r}{thing!s}{getattr(thing, '_repr_html_', str)()}"


def files_below(directory: Path) -> Iterator[tuple[str, bytes]]:
    for path in directory.rglob("*"):
        if path.is_file():
            yield str(path), path.read_bytes()


def objects(endpoint: str, url: str) -> Iterator[tuple[str, bytes]]:
    store = Store(url, options_for(endpoint))
    for name in store.tree(""):
        yield name, store.read(name)


def failures(place: Place, proxy: Proxy) -> Iterator[tuple[str, str]]:
    """Have a store fail in every way; give what is told of it, its causes included."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FILEBROKER_TIMEOUT", "0.2")
        for action in ("hang", "reset", "500", "503", "truncate", "404", "403", "echo"):
            for first in (1, 3):
                proxy.clear()
                proxy.fault("", action, first)
                with pytest.raises(StorageError) as caught:
                    list(place.open(f"{action}-{first}", read_only=True)())
                yield action, "".join(traceback.format_exception(caught.value))


def test_credentials_in_a_url_are_refused_and_not_repeated() -> None:
    with pytest.raises(InvalidConfig) as caught:
        Broker(f"s3://{CANARIES['key']}:{CANARIES['secret']}@bucket/beamtime")
    assert_no_canary("".join(traceback.format_exception(caught.value)).replace("Broker(", ""), "the error")
