"""Long runs: segments become pages in the background, and the pages of a stream can be read as one table."""

import os
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import factories as make
from equality import first_difference
from filebroker import Broker, Catalog, SealWarning
from filebroker.storing import recorder


@pytest.fixture(autouse=True)
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    defaults = {**recorder.Recorder.__init__.__kwdefaults__, "segment_documents": 10}
    monkeypatch.setattr(recorder.Recorder.__init__, "__kwdefaults__", defaults)


def record(root: Path, values: list, *, dtype: str = "number", stopped: bool = True) -> list:
    begun = make.start()
    described = make.descriptor(begun, {"det": dtype})
    events = [("event", make.event(described, number, {"det": value})) for number, value in enumerate(values, 1)]
    documents = [("start", begun), ("descriptor", described), *events]
    documents += [("stop", make.stop(begun))] if stopped else []
    catalog = Catalog(root)
    for pair in documents:
        catalog.insert(*pair)
    return documents


def pages(root: Path) -> list[Path]:
    return sorted(root.glob("*/*/*/*/primary/*.parquet"))


def test_a_long_run_has_several_pages_and_one_table(tmp_path: Path) -> None:
    documents = record(tmp_path, [number * 0.5 for number in range(95)])
    assert len(pages(tmp_path)) > 5
    assert len({pq.read_schema(page).remove_metadata() for page in pages(tmp_path)}) == 1
    header = Broker(tmp_path)[-1]
    assert not first_difference(documents, list(header._run.documents()))
    assert header.table()["det"].tolist() == [number * 0.5 for number in range(95)]
    assert header.table().index.tolist() == list(range(1, 96))
    assert list(header.data("det")) == [number * 0.5 for number in range(95)]
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(("journal", "docs."))]


UNEVEN: dict[str, list[Any]] = {
    "integers, then floats": [1] * 30 + [0.5] * 30,
    "none, then floats": [None] * 30 + [0.5] * 30,
    "numbers, then strings": [1.5] * 30 + ["off"] * 30,
    "arrays of two shapes": [np.zeros((20, 20), "u2")] * 30 + [np.ones((10, 20), "u2")] * 30,
    "short lists, then deep ones": [[1.0]] * 30 + [[[1.0]]] * 30,
}


@pytest.mark.parametrize("values", UNEVEN.values(), ids=UNEVEN)
def test_pages_of_different_types_are_made_alike(tmp_path: Path, values: list) -> None:
    documents = record(tmp_path, values)
    found = pages(tmp_path)
    assert len({pq.read_schema(page).remove_metadata() for page in found}) == 1
    if len(found) == 1:
        assert found[0].name != "00000.parquet"  # a published name is never written again
    expected = [(name, _listed(doc)) for name, doc in documents]
    header = Broker(tmp_path)[-1]
    assert not first_difference(expected, list(header._run.documents()))
    assert len(pd.read_parquet(found[0].parent)) == len(header.table()) == 60
    for found, value in zip(header.data("det"), values, strict=True):
        assert type(found) is type(value)
        if isinstance(value, np.ndarray):
            assert found.dtype == value.dtype
            assert np.array_equal(found, value)
        else:
            assert found == value


def _listed(doc: dict) -> dict:
    if not isinstance(doc.get("data", {}).get("det"), np.ndarray):
        return doc
    return {**doc, "data": {"det": doc["data"]["det"].tolist()}}


def test_a_run_in_progress_is_read_across_segments(tmp_path: Path) -> None:
    documents = record(tmp_path, [number * 0.5 for number in range(47)], stopped=False)
    header = Broker(tmp_path, read_only=True)[-1]
    assert not first_difference(documents, list(header._run.documents()))
    assert len(header.table()) == 47
    assert dict(header.stop.items()) == {}


def test_a_failure_in_the_background_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from filebroker.storing import sealing

    real, failures = sealing.commit_segment, []

    def failing(*args: Any, **kwargs: Any) -> Any:
        if len(failures) < 3:
            failures.append(True)
            raise sealing.filesystem.StorageError(28, "no space left on the device")
        return real(*args, **kwargs)

    monkeypatch.setattr(sealing, "commit_segment", failing)
    with pytest.warns(UserWarning, match=r"grows beyond .* They are safe; it is tried again later"):
        documents = record(tmp_path, [number * 0.5 for number in range(47)])
    assert len(failures) == 3
    assert not first_difference(documents, list(Catalog(tmp_path).newest(1).documents()))


def test_the_journal_is_forced_to_the_disk_in_the_background(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (synced.append(descriptor), real(descriptor)))
    record(tmp_path, [0.5], stopped=False)
    for _ in range(100):
        if synced:
            break
        time.sleep(0.02)
    assert synced


def test_the_journal_is_forced_to_the_disk_before_insert_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = []
    monkeypatch.setattr(os, "fsync", synced.append)
    catalog = Catalog(tmp_path, sync="always")
    for count, pair in enumerate(make.run(5)[:-1], start=1):
        catalog.insert(*pair)
        assert len(synced) >= count


def test_a_journal_that_cannot_be_forced_to_the_disk_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = make.run(5)
    catalog = Catalog(tmp_path, sync="always")
    catalog.insert(*documents[0])

    def failing(descriptor: int) -> None:
        raise OSError(5, "input/output error")

    monkeypatch.setattr(os, "fsync", failing)
    for _ in range(2):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SealWarning)
            with pytest.raises(OSError, match=r"cannot go on writing to"):
                catalog.insert(*documents[1])
    assert [name for name, _ in Catalog(tmp_path, read_only=True).newest(1).documents()] == ["start"]
