"""Programs that others wrote read our runs as they read databroker's: bluesky's callbacks, event-model's routers, and
the clients that are installed here (exporters, databroker-pack, apstools, WrightTools, bluesky-widgets, TiledWriter).

What a program makes of a run is compared with what it makes of the documents as the RunEngine emitted them.
"""

import contextlib
import copy
import importlib
import io
import json
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import event_model
import numpy as np
import pytest
from bluesky import RunEngine, plan_stubs as bps, plans as bp, preprocessors as bpp
from bluesky.callbacks import CollectThenCompute, LiveTable
from bluesky.callbacks.broker import BrokerCallbackBase, make_restreamer, post_run, verify_files_saved
from bluesky.callbacks.json_writer import JSONLinesWriter, JSONWriter
from bluesky.run_engine import Dispatcher
from ophyd import sim

import factories
import filebroker
from filebroker import Broker, temp

RUNS = ("scan", "grid", "images", "everything", "failed")

#: Packages of others may warn of what they please.
THEIRS = pytest.mark.filterwarnings("default")


def failing(detector):
    yield from bps.open_run({"plan_name": "failing"})
    yield from bps.trigger_and_read([detector])
    raise OSError("the beam is gone")


def plans(hw):
    supplies = bpp.SupplementalData(baseline=[hw.motor1, hw.det2], monitors=[hw.signal])
    return {
        "scan": bp.scan([hw.det], hw.motor, -1, 1, 5, md={"purpose": "align the mirror"}),
        "grid": bp.grid_scan([hw.det4], hw.motor1, -1, 1, 3, hw.motor2, -1, 1, 4, False),
        "images": bp.count([hw.img], 3),
        "everything": supplies(bp.scan([hw.det, hw.img], hw.motor, 0, 1, 4)),
        "failed": failing(hw.det),
    }


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A catalog of five runs, the uid of each, and what the RunEngine emitted."""
    hw = sim.hw(save_path=str(tmp_path_factory.mktemp("images")))
    db = Broker(tmp_path_factory.mktemp("catalog"))
    db.reg.register_handler("NPY_SEQ", sim.NumpySeqHandler, overwrite=True)
    engine, emitted, uids = RunEngine({}), {}, {}
    for key, plan in plans(hw).items():
        documents = emitted.setdefault(key, [])
        keep = partial(
            lambda kept, name, doc: kept.append((name, event_model.sanitize_doc(copy.deepcopy(doc)))), documents
        )
        with contextlib.suppress(OSError):
            engine(plan, {"all": [keep, db.insert]})
        uids[key] = documents[0][1]["uid"]
    yield SimpleNamespace(db=db, emitted=emitted, uids=uids, engine=engine, hw=hw)
    db.close()


@pytest.fixture
def databroker(monkeypatch):
    """Filebroker, under the name of databroker."""
    names = ("", ".core", ".queries", ".utils", ".v1", ".v2", ".broker", ".discovery", ".in_memory", ".projector")
    for name in (*names, "._drivers", "._drivers.msgpack", "._drivers.mongo_normalized"):
        monkeypatch.setitem(sys.modules, f"databroker{name}", importlib.import_module(f"filebroker{name}"))
    return filebroker


def collected(feed):
    """Gather what is fed to a callback."""
    found = []
    feed(lambda name, doc: found.append((name, doc)))
    return found


def singles(documents):
    """Unpack pages."""
    for name, doc in documents:
        if name == "event_page":
            yield from (("event", event) for event in event_model.unpack_event_page(doc))
        elif name == "datum_page":
            yield from (("datum", datum) for datum in event_model.unpack_datum_page(doc))
        else:
            yield name, doc


#: How a client may get at the documents of a run.
WAYS = {
    "documents": lambda db, uid: db[uid].documents(),
    "get_documents": lambda db, uid: db.get_documents(db[uid]),
    "restream": lambda db, uid: db.restream(db[uid]),
    "process": lambda db, uid: collected(partial(db.process, db[uid])),
    "v2": lambda db, uid: singles(db.v2[uid].documents(fill="no")),
}


def identified(documents):
    """Give documents by name and identity, because their order across streams is that of time."""
    return {(name, doc.get("uid", doc.get("datum_id"))): doc for name, doc in documents}


# Callbacks of bluesky


def table_of(documents, folder):
    """Give the lines that LiveTable prints."""
    lines = []
    table = LiveTable(["det", "motor"], out=lines.append)
    Dispatched(table).feed(documents)
    return lines


def json_of(documents, folder):
    write = JSONWriter(str(folder), "run.json")
    Dispatched(write).feed(documents)
    return identified((item["name"], item["doc"]) for item in json.loads(Path(folder, "run.json").read_text()))


def json_lines_of(documents, folder):
    write = JSONLinesWriter(str(folder), "run.jsonl")
    Dispatched(write).feed(documents)
    items = map(json.loads, Path(folder, "run.jsonl").read_text().splitlines())
    return identified((item["name"], item["doc"]) for item in items)


def computed_of(documents, folder):
    class Sums(CollectThenCompute):
        def compute(self):
            self.sums = [sum(v for v in event["data"].values() if isinstance(v, float)) for event in self._events]
            self.names = [doc["name"] for doc in self._descriptors]

    sums = Sums()
    Dispatched(sums).feed(documents)
    return sorted(sums.sums), sorted(sums.names)


class Dispatched:
    """Calls back as the RunEngine does."""

    def __init__(self, callback):
        self._dispatcher = Dispatcher()
        self._dispatcher.subscribe(callback)

    def feed(self, documents):
        for name, doc in documents:
            self._dispatcher.process(event_model.DocumentNames[name], doc)


CALLBACKS = {
    "LiveTable": (table_of, ("scan", "failed")),
    "JSONWriter": (json_of, RUNS[:-1]),
    "JSONLinesWriter": (json_lines_of, RUNS),
    "CollectThenCompute": (computed_of, RUNS),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("callback", "run"), [(name, run) for name, (_, runs) in CALLBACKS.items() for run in runs])
def test_a_callback_makes_of_a_run_what_it_makes_of_the_live_documents(lab, callback, run, way, tmp_path):
    make = CALLBACKS[callback][0]
    for folder in ("live", "later"):
        (tmp_path / folder).mkdir()
    live = make(lab.emitted[run], tmp_path / "live")
    later = make(WAYS[way](lab.db, lab.uids[run]), tmp_path / "later")
    assert later == live


@THEIRS
def test_best_effort_callback_finds_the_peaks_of_a_run(lab, monkeypatch):
    pytest.importorskip("scipy")
    pytest.importorskip("matplotlib").use("Agg")
    from bluesky.callbacks.best_effort import BestEffortCallback

    found = []
    for documents in (lab.emitted["scan"], lab.db[lab.uids["scan"]].documents()):
        callback = BestEffortCallback()
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            Dispatched(callback).feed(documents)
        found.append((printed.getvalue(), callback.peaks["com"]["det"], callback.peaks["max"]["det"]))
    assert found[0] == found[1]
    assert found[0][1] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("before", [True, False])
def test_a_callback_after_the_run_gets_all_of_it_also_before_it_is_recorded(lab, before):
    """Callbacks are called in the order in which they were subscribed; the stop document may be on its way yet."""
    db, found = temp(), []
    after = post_run(lambda name, doc: found.append((name, doc)), db)
    subscribed = {"start": [db.insert], "descriptor": [db.insert], "event": [db.insert]}
    subscribed["stop"] = [after, db.insert] if before else [db.insert, after]
    lab.engine(bp.count([lab.hw.det], 3), subscribed)
    names = [name for name, _ in found]
    assert names == ["start", "descriptor", "event", "event", "event", "stop"]
    db.close()


def test_saved_files_are_verified(lab, capsys):
    stop = lab.emitted["everything"][-1][1]
    verify_files_saved("stop", stop, lab.db)
    assert "Failed" not in capsys.readouterr().out
    without = temp()
    for name, doc in lab.emitted["scan"][:1]:
        without.insert(name, doc)
    verify_files_saved("stop", stop, without)
    assert "Failed" in capsys.readouterr().out
    without.close()


def test_a_restreamer_plays_the_run_that_it_is_told_of(lab):
    found = []
    make_restreamer(lambda name, doc: found.append(name), lab.db)(lab.uids["images"])
    assert found == [name for name, _ in lab.emitted["images"]]


def test_a_callback_for_images_gets_them_when_a_filled_run_is_processed(lab):
    class Shapes(BrokerCallbackBase):
        shapes: list = []

        def event(self, doc):
            super().event(doc)
            self.shapes.append(np.shape(doc["data"]["img"]))

    lab.db.process(lab.db[lab.uids["images"]], Shapes(("img",), db=lab.db), fill=True)
    assert Shapes.shapes == [(10, 10)] * 3


# Routers and schemas of event-model


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("run", RUNS)
def test_documents_are_valid_for_event_model(lab, run, way):
    for name, doc in WAYS[way](lab.db, lab.uids[run]):
        event_model.schema_validators[event_model.DocumentNames[name]].validate(doc)


@pytest.mark.parametrize("fill", ["no", "delayed", "yes"])
@pytest.mark.parametrize("run", RUNS)
def test_pages_are_valid_for_event_model(lab, run, fill):
    for name, doc in lab.db.v2[lab.uids[run]].documents(fill=fill):
        event_model.schema_validators[event_model.DocumentNames[name]].validate(doc)


@pytest.mark.parametrize("way", WAYS)
def test_a_filler_fills_as_we_do(lab, way):
    uid = lab.uids["everything"]
    with event_model.Filler({"NPY_SEQ": sim.NumpySeqHandler}, inplace=False) as filler:
        filled = [filler(name, doc) for name, doc in WAYS[way](lab.db, uid)]
    ours = {event["uid"]: event for event in lab.db[uid].events(fill=True)}
    theirs = [doc for name, doc in filled if name == "event" and "img" in doc["data"]]
    assert len(theirs) == 4
    for event in theirs:
        np.testing.assert_array_equal(event["data"]["img"], ours[event["uid"]]["data"]["img"])
        event_model.verify_filled(event_model.pack_event_page(ours[event["uid"]]))


@pytest.mark.parametrize("pages", [True, False])
def test_a_run_router_serves_many_runs_at_once(lab, pages):
    seen = []

    class Events(event_model.SingleRunDocumentRouter):
        def event_page(self, doc):
            seen.append((self.get_start()["scan_id"], self.get_stream_name(doc), len(doc["seq_num"])))

        def event(self, doc):
            self.event_page(event_model.pack_event_page(doc))

    router = event_model.RunRouter([lambda name, doc: ([Events()], [])], {"NPY_SEQ": sim.NumpySeqHandler})
    for run in RUNS:
        header = lab.db[lab.uids[run]]
        for name, doc in lab.db.v2[header.uid].documents(fill="no") if pages else header.documents():
            router(name, doc)
    expected = [
        (lab.db[uid].start["scan_id"], stream)
        for uid in lab.uids.values()
        for stream in lab.db[uid].stream_names
        for _ in lab.db[uid].events(stream)
    ]
    assert sorted(item[:2] for item in seen) == sorted(expected)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, dict, lambda doc: doc.copy()])
def test_who_copies_a_document_may_change_the_copy(lab, way, copied):
    """TiledWriter among others copies a document in order to take keys out of it."""
    for name, doc in WAYS[way](lab.db, lab.uids["images"]):
        own = copied(doc)
        own["added"] = own.pop("uid", None)
        assert "added" not in doc, name


def test_events_of_a_stream_keep_their_order_when_the_clock_steps_back():
    """Consumers count frames in the order of the events of a stream."""
    db = temp()
    begun = factories.start()
    described = factories.descriptor(begun)
    other = factories.descriptor(begun, ["temperature"], name="monitor")
    events = [
        factories.event(described, number) | {"time": begun["time"] + when} for number, when in ((1, 1), (2, 3), (3, 2))
    ]
    events.append(factories.event(other, 1) | {"time": begun["time"] + 2.5})
    for name, doc in [("start", begun), ("descriptor", described), ("descriptor", other)]:
        db.insert(name, doc)
    for doc in events:
        db.insert("event", doc)
    db.insert("stop", factories.stop(begun))
    assert [event["seq_num"] for event in db[-1].events()] == [1, 2, 3]
    order = [doc["uid"] for name, doc in db[-1].documents() if name == "event"]
    assert [uid for uid in order if uid != events[-1]["uid"]] == [event["uid"] for event in events[:3]]
    db.close()


# Clients that may be installed


def exported(suitcase, documents, folder):
    """Give the files that an exporter writes."""
    folder.mkdir()
    suitcase.export(documents, str(folder), file_prefix="run-")
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@THEIRS
@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("exporter", ["csv", "json_metadata", "tiff_series", "tiff_stack"])
def test_exporters_write_the_files_that_they_write_of_the_live_documents(lab, exporter, run, tmp_path):
    suitcase = pytest.importorskip(f"suitcase.{exporter}")
    uid = lab.uids[run]
    with event_model.Filler({"NPY_SEQ": sim.NumpySeqHandler}, inplace=False) as filler:
        live = exported(suitcase, [filler(name, doc) for name, doc in lab.emitted[run]], tmp_path / "live")
    found = {
        "v1": exported(suitcase, lab.db[uid].documents(fill=True), tmp_path / "v1"),
        "v2": exported(suitcase, lab.db.v2[uid].documents(fill="yes"), tmp_path / "v2"),
        "delayed": exported(suitcase, lab.db.v2[uid].documents(fill="delayed"), tmp_path / "delayed"),
    }
    for way, files in found.items():
        assert {name: sorted(content) for name, content in files.items()} == {
            name: sorted(content) for name, content in live.items()
        }, way


@THEIRS
@pytest.mark.parametrize("exporter", ["jsonl", "msgpack"])
@pytest.mark.parametrize("pages", [False, True])
def test_what_an_exporter_writes_can_be_recorded_again(lab, exporter, pages, tmp_path):
    suitcase = pytest.importorskip(f"suitcase.{exporter}")
    again = temp()
    for run, uid in lab.uids.items():
        documents = lab.db.v2[uid].documents(fill="no") if pages else lab.db[uid].documents()
        (path,) = suitcase.export(documents, str(tmp_path), file_prefix=run)["all"]
        for name, doc in read_back(exporter, path):
            again.insert(name, doc)
        found, expected = identified(again[uid].documents()), identified(lab.db[uid].documents())
        assert json.loads(json.dumps(list(found.values()))) == json.loads(json.dumps(list(expected.values())))
    again.close()


def read_back(exporter, path):
    if exporter == "jsonl":
        return map(json.loads, Path(path).read_text().splitlines())
    import msgpack
    import msgpack_numpy

    return msgpack.Unpacker(io.BytesIO(Path(path).read_bytes()), object_hook=msgpack_numpy.decode)


@THEIRS
@pytest.mark.parametrize("external", [None, "fill", "ignore"])
def test_databroker_pack_packs_a_catalog_with_its_files(lab, databroker, external, tmp_path):
    pack = pytest.importorskip("databroker_pack")
    handlers = {"NPY_SEQ": sim.NumpySeqHandler}
    artifacts, files, failures, _ = pack.export_catalog(
        lab.db.v2, str(tmp_path), external=external, handler_registry=handlers, strict=True
    )
    assert len(artifacts["all"]) == len(RUNS)
    assert not failures
    again = temp()
    again.reg.register_handler("NPY_SEQ", sim.NumpySeqHandler, overwrite=True)
    for (_, root, name), paths in files.items():
        moved, copies, _ = pack.copy_external_files(tmp_path / "external", root, name, paths, strict=True)
        assert len(copies) == 7
        again.reg.root_map[name] = str(moved)
    for path in artifacts["all"]:
        for name, doc in read_back("msgpack", path):
            again.insert(name, doc)
    assert {run.uid for run in again()} == set(lab.uids.values())
    if external != "ignore":
        for run in ("images", "everything"):
            images = [list(db[lab.uids[run]].data("img")) for db in (lab.db, again)]
            np.testing.assert_array_equal(*images)
    again.close()


@THEIRS
@pytest.mark.parametrize("v1", [True, False])
def test_apstools_lists_runs_and_reads_their_data(lab, databroker, v1):
    pytest.importorskip("apstools")
    from apstools import utils

    db, scan, uid = lab.db if v1 else lab.db.v2, lab.uids["scan"], lab.uids["everything"]
    listed = utils.ListRuns(cat=lab.db.v2, keys="scan_id exit_status", sortby="scan_id", reverse=False).parse_runs()
    assert listed == {"scan_id": [1, 2, 3, 4, 5], "exit_status": ["success"] * 4 + ["fail"]}
    assert utils.getRunData(scan, db=db, use_v1=v1)["motor"].tolist() == [-1, -0.5, 0, 0.5, 1]
    assert utils.getRunDataValue(scan, "motor", idx="mean", db=db, use_v1=v1) == 0
    assert "motor1" in utils.listRunKeys(uid, "motor1", stream="baseline", db=db, use_v1=v1)
    assert len(utils.db_query(lab.db.v2, {"since": "2020-01-01", "plan_name": "scan"})) == 2
    assert utils.getDatabase(db).name == utils.getCatalog(db).name == lab.db.v2.name
    target = temp()
    utils.copy_filtered_catalog(lab.db.v2, target.v2, {"plan_name": "scan"})
    assert {run.uid for run in target()} == {scan, uid}
    target.close()


@THEIRS
def test_apstools_replays_headers_and_runs(lab, databroker):
    utils = pytest.importorskip("apstools.utils")
    names = []
    for catalog in (lab.db, lab.db.v2):
        utils.replay([catalog[lab.uids["scan"]], catalog[-1]], callback=lambda name, doc: names.append(name))
    assert names.count("start") == names.count("stop") == 4
    assert names.count("event") == 12


@THEIRS
def test_wrighttools_reads_streams(lab):
    wright = pytest.importorskip("WrightTools")
    assert wright.data.from_databroker(lab.db.v2[lab.uids["grid"]]).shape == (3, 4)
    assert wright.data.from_databroker(lab.db.v2[lab.uids["everything"]], dataset="baseline").shape == (2,)


@THEIRS
def test_the_search_of_bluesky_widgets_finds_runs_and_their_text(lab, databroker):
    search = pytest.importorskip("bluesky_widgets.models.search")
    model = search.RunSearch(lab.db.v2, columns=(("scan",), lambda run: (run.metadata["start"]["scan_id"],)))
    results = model.search_results
    assert [results.get_data(row, 0) for row in range(5)] == [5, 4, 3, 2, 1]
    results.selected_rows.extend([1, 4])
    assert list(results.selection_as_catalog) == [lab.uids["everything"], lab.uids["scan"]]
    assert model.search_input.text_search_supported
    model.search_input.text = "mirror"
    assert list(results.catalog) == [lab.uids["scan"]]


@THEIRS
@pytest.mark.parametrize("run", RUNS)
def test_tiledwriter_writes_what_it_writes_of_the_live_documents(lab, run, tmp_path):
    writer = pytest.importorskip("bluesky_tiled_plugins").TiledWriter
    tree = pytest.importorskip("tiled.catalog").in_memory(
        writable_storage={"filesystem": str(tmp_path), "sql": f"duckdb:///{tmp_path}/tables.db"},
        readable_storage=[lab.hw.img.save_path],
    )
    from tiled.client import Context, from_context
    from tiled.server.app import build_app

    uid, found = lab.uids[run], []
    with Context.from_app(build_app(tree)) as context:
        client = from_context(context)
        for documents in (lab.emitted[run], lab.db[uid].documents(), lab.db.v2[uid].documents(fill="no")):
            write = writer(client)
            for name, doc in copy.deepcopy(documents) if documents is lab.emitted[run] else documents:
                write(name, doc)
            node = client[uid]
            streams = node.get("streams", node)
            found.append({s: {k: np.asarray(streams[s][k].read()).tolist() for k in streams[s]} for s in streams})
            client.delete_contents(uid, recursive=True, external_only=False)
    assert found[1] == found[2] == found[0]
    assert set(found[0]) == set(lab.db[uid].stream_names)
