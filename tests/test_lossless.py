"""Whatever is inserted comes back: the same documents, in the same order, with the same values and types."""

import tempfile
import uuid
from pathlib import Path
from typing import Any

import event_model
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from hypothesis.extra import numpy as hnp

from equality import first_difference, same
from filebroker import Catalog
from filebroker.ground import codec
from filebroker.storing import recorder

# ---------------------------------------------------------------------------------- values as found in the wild

integers = st.one_of(
    st.integers(-5, 5),
    st.integers(),
    st.sampled_from([2**53, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 10**30]),
)
floats = st.one_of(st.floats(), st.sampled_from([0.0, -0.0, 1.0, float("nan"), float("inf"), -float("inf"), 5e-324]))
text = st.one_of(st.text(max_size=6), st.sampled_from(["", "\x00", "null", "NaN", "i", "é", "😀", "\ud800", '"crc":"']))
numpy_scalars = st.one_of(
    floats.map(np.float64),
    st.floats(width=32).map(np.float32),
    st.floats(width=16).map(np.float16),
    st.integers(0, 255).map(np.uint8),
    st.integers(-(2**63), 2**63 - 1).map(np.int64),
    st.integers(0, 2**64 - 1).map(np.uint64),
    st.booleans().map(np.bool_),
    st.text(max_size=3).map(np.str_),
)
arrays = hnp.arrays(
    dtype=st.one_of(
        hnp.integer_dtypes(endianness="?"),
        hnp.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
        hnp.boolean_dtypes(),
        hnp.unicode_string_dtypes(max_len=3),
    ),
    shape=hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
)
scalars = st.one_of(st.none(), st.booleans(), integers, floats, text, numpy_scalars)
anything = st.recursive(
    st.one_of(scalars, arrays),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.tuples(inner, inner), st.dictionaries(text, inner, max_size=3)
    ),
    max_leaves=6,
)

COLUMNS = {
    "floats": floats,
    "integers": integers,
    "booleans": st.booleans(),
    "strings": text,
    "numpy floats": floats.map(np.float64),
    "singles": st.floats(width=32).map(np.float32),
    "numbers": st.one_of(floats, integers),
    "mixed": st.one_of(floats, integers, text, st.none(), st.booleans()),
    "lists of floats": st.lists(floats, max_size=4),
    "lists of integers": st.lists(integers, max_size=4),
    "nested lists": st.lists(st.lists(floats, max_size=3), max_size=3),
    "anything": anything,
    "none": st.none(),
}
NUMERIC = ["<u2", ">i4", "<f4", "<f8", "|b1", "|u1", "<f2", "<u8", "<i8"]


@st.composite
def columns(draw: Any, rows: int) -> list:
    """Values of one data key: mostly uniform, sometimes not quite."""
    kind = draw(st.sampled_from([*COLUMNS, "arrays", "ragged arrays"]))
    if kind == "arrays":
        shape = draw(hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=12))
        values = hnp.arrays(draw(st.sampled_from(NUMERIC)), shape)
    elif kind == "ragged arrays":
        shapes = hnp.array_shapes(min_dims=1, max_dims=draw(st.integers(1, 2)), min_side=0, max_side=5)
        values = hnp.arrays(draw(st.sampled_from(NUMERIC)), shapes)
    else:
        values = COLUMNS[kind]
    odd = draw(st.sampled_from([None, None, st.none(), anything]))
    return [draw(odd if odd is not None and draw(st.integers(0, 3)) == 0 else values) for _ in range(rows)]


keys = st.lists(
    st.one_of(
        st.sampled_from(["det", "motor", "time", "seq_num", "_uid", "_x.det", "_i", "a.b", "_ts.det", "", "_data.det"]),
        st.text(st.characters(codec="utf-8"), max_size=5),
    ),
    max_size=4,
    unique=True,
)


@st.composite
def runs(draw: Any) -> list[tuple[str, dict]]:
    """A whole run: two streams, one with two descriptors, events and event pages, interleaved."""
    uid, time = str(uuid.UUID(int=draw(st.integers(0, 2**128 - 1)))), draw(st.floats(0, 4e9))
    start = {"uid": uid, "time": time, "scan_id": draw(integers), "metadata": draw(anything)}
    documents: list[tuple[str, dict]] = [("start", start)]
    sequence = 0
    for number in range(draw(st.integers(1, 3))):
        stream = draw(st.sampled_from(["primary", "../x", "naïve stream"]))
        names = draw(keys)
        data_keys = {name: {"source": "s", "dtype": "number", "shape": []} for name in names}
        descriptor = {"uid": f"d{number}", "time": time, "run_start": uid, "name": stream, "data_keys": data_keys}
        documents.append(("descriptor", descriptor))
        rows = draw(st.integers(1, 6))
        values = {name: draw(columns(rows)) for name in names}
        stamps = {
            name: draw(st.lists(st.one_of(st.floats(1e9, 2e9), st.integers(0, 5)), min_size=rows, max_size=rows))
            for name in names
        }
        events = []
        for row in range(rows):
            sequence += 1
            event = {
                "uid": draw(st.one_of(st.uuids().map(str), st.just(f"event {sequence}"))),
                "time": time + row,
                "data": {name: values[name][row] for name in names},
                "timestamps": {name: stamps[name][row] for name in names},
                "seq_num": sequence,
                "filled": draw(st.sampled_from([{}, {}, {"det": False}])),
                "descriptor": f"d{number}",
            }
            if draw(st.integers(0, 5)) == 0:
                del event["filled"]
            if draw(st.integers(0, 9)) == 0:
                event["extra"] = draw(anything)
            events.append(event)
        if draw(st.booleans()) and not any("extra" in event for event in events):
            documents.append(("event_page", page_of(events, draw(st.booleans()))))
        else:
            documents += [("event", event) for event in events]
    documents.append(("stop", {"uid": "stop", "time": time, "run_start": uid, "exit_status": "success"}))
    return documents


def page_of(events: list[dict], filled: bool) -> dict:
    page = {"descriptor": events[0]["descriptor"]}
    for key in ("uid", "time", "seq_num"):
        page[key] = [event[key] for event in events]
    for part in ("data", "timestamps"):
        page[part] = {name: [event[part][name] for event in events] for name in events[0][part]}
    if filled:
        page["filled"] = {"det": [False] * len(events)}
    return page


def sanitized(documents: list[tuple[str, dict]]) -> list[tuple[str, dict]]:
    return [(name, event_model.sanitize_doc(doc)) for name, doc in documents]


def insert_all(catalog: Catalog, documents: list[tuple[str, dict]]) -> None:
    for name, doc in documents:
        catalog.insert(name, doc)


# ---------------------------------------------------------------------------------------------- the properties

slow = settings(
    deadline=None,
    suppress_health_check=list(HealthCheck),
    max_examples=150,
    print_blob=False,
    report_multiple_bugs=True,
)


@slow
@given(runs())
def test_a_sealed_run_gives_back_what_was_inserted(documents: list) -> None:
    expected = sanitized(documents)
    with tempfile.TemporaryDirectory() as root:
        catalog = Catalog(root, sync="never")
        insert_all(catalog, documents)
        run = Catalog(root).newest(1)
        assert run.state == "sealed"
        assert not first_difference(expected, list(run.documents()))
        for stream in run.stream_names:  # tables can be made of whatever was stored
            assert len(run[stream].to_pandas()) == len(list(run[stream].events()))


@slow
@given(runs(), st.integers(1, 4))
def test_a_live_run_and_a_recovered_one_give_back_what_was_inserted(documents: list, limit: int) -> None:
    documents = documents[:-1]
    expected = sanitized(documents)
    with tempfile.TemporaryDirectory() as root, pytest.MonkeyPatch.context() as patch:
        patch.setattr(recorder.Recorder.__init__, "__kwdefaults__", {**KWARGS, "segment_documents": limit})
        catalog = Catalog(root, sync="never")
        insert_all(catalog, documents)
        live = Catalog(root, read_only=True).newest(1)
        assert live.state == "live"
        assert not first_difference(expected, list(live.documents()))
        catalog.close()
        with pytest.warns(UserWarning, match="cut short"):
            recovered = Catalog(root).newest(1)
        assert recovered.state == "interrupted"
        assert not first_difference(expected, list(recovered.documents()))


KWARGS = dict(recorder.Recorder.__init__.__kwdefaults__)


@slow
@given(anything)
def test_the_codec_agrees_with_event_model(value: Any) -> None:
    expected = event_model.sanitize_doc({"value": value})
    assert same(expected, codec.loads(codec.dumps({"value": value})))
    assert same(expected, codec.plain({"value": value}))


# ------------------------------------------------------------------------------- runs recorded by other people

DATA = Path(__file__).parents[2] / "shared" / "data"


def recorded_files() -> list[Path]:
    return sorted([*DATA.glob("bluesky-tutorials/*.jsonl"), *DATA.glob("apstools-2025/*.json")])


def read_recorded(path: Path) -> list[tuple[str, dict]]:
    import json

    content = path.read_text()
    rows = [json.loads(line) for line in content.splitlines()] if path.suffix == ".jsonl" else json.loads(content)
    return [(name, doc) for name, doc in rows]


@pytest.mark.skipif(not DATA.is_dir(), reason="the runs recorded by others are not here")
def test_there_are_24_recorded_runs() -> None:
    assert len(recorded_files()) == 24


@pytest.mark.parametrize("path", recorded_files(), ids=lambda path: path.stem)
def test_recorded_runs_come_back(path: Path, tmp_path: Path) -> None:
    documents = read_recorded(path)
    catalog = Catalog(tmp_path)
    insert_all(catalog, documents)
    run = Catalog(tmp_path).newest(1)
    assert not first_difference(documents, list(run.documents()))
    for stream in run.stream_names:
        descriptors = {doc["uid"] for doc in run[stream].descriptors}
        assert len(run[stream].to_pandas()) == sum(
            len(doc["seq_num"]) if name == "event_page" else 1
            for name, doc in documents
            if name in ("event", "event_page") and doc["descriptor"] in descriptors
        )
