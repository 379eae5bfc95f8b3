"""Data that detectors stream into files: stream_resource and stream_datum, as ophyd-async writes them."""

import copy
import pickle
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import event_model
import fsspec
import h5py
import numpy as np
import pytest
import tifffile
from bluesky import RunEngine, plan_stubs as bps, plans as bp, preprocessors as bpp
from ophyd.sim import motor
from ophyd_async.core import StaticPathProvider, TriggerInfo, UUIDFilenameProvider, init_devices
from ophyd_async.sim import SimBlobDetector
from PIL import Image

import factories as make
from equality import first_difference
from filebroker import temp
from filebroker.assets.formats import hdf5, images
from filebroker.assets.handlers import Handlers
from filebroker.assets.series import Series, StreamAssets
from filebroker.ground.errors import (
    AssetWarning,
    MissingAsset,
    MissingHandler,
    MissingPackage,
    UnknownDatum,
    UnreadableAsset,
)

HDF5 = "application/x-hdf5"
TIFF = "multipart/related;type=image/tiff"
JPEG = "multipart/related;type=image/jpeg"
NPY = "multipart/related;type=application/x-npy"
CSV = "text/csv;header=absent"
BYTES = "application/octet-stream"


class Streamed:
    """A run with one data key that is streamed, and the files of which are written by hand."""

    def __init__(self, shape: Sequence[int | None] = (), dtype: str = "array", **keys: Any) -> None:
        self.start = make.start()
        described = {"source": "sim", "dtype": dtype, "shape": list(shape), "external": "STREAM:"} | keys
        self.descriptor = make.descriptor(self.start, {"det": described})
        self.documents: list[tuple[str, Mapping[str, Any]]] = [("start", self.start), ("descriptor", self.descriptor)]
        self.handlers = Handlers()

    def resource(self, mimetype: str, uri: str | Path, **parameters: Any) -> event_model.ComposeStreamResourceBundle:
        uri = f"file://localhost{uri}" if isinstance(uri, Path) else uri
        bundle = event_model.compose_stream_resource(
            mimetype=mimetype, uri=uri, data_key="det", parameters=parameters, start=self.start
        )
        self.documents.append(("stream_resource", bundle.stream_resource_doc))
        return bundle

    def datum(self, bundle: Any, indices: tuple[int, int], /, first: int | None = None, **keys: Any) -> None:
        first = indices[0] + 1 if first is None else first
        doc = bundle.compose_stream_datum(
            indices={"start": indices[0], "stop": indices[1]},
            seq_nums={"start": first, "stop": first + indices[1] - indices[0]},
            descriptor=self.descriptor,
        )
        self.documents.append(("stream_datum", doc | keys))

    def series(self, *uids: str) -> Series:
        assets = StreamAssets(self.documents, self.handlers)
        return assets.series("det", uids or [self.descriptor["uid"]])


def streamed(
    mimetype: str, uri: str | Path, count: int = 3, shape: Sequence[int | None] = (), dtype: str = "array", **more: Any
) -> Series:
    """Give a series of one resource: ``count`` events that begin with its first value."""
    keys = {name: more.pop(name) for name in ("dtype_numpy",) if name in more}
    run = Streamed(shape, dtype, **keys)
    run.datum(run.resource(mimetype, uri, **more), (0, count))
    return run.series()


def frames(*shape: int) -> np.ndarray[Any, Any]:
    return np.arange(np.prod(shape), dtype="<u2").reshape(shape)


def write(path: Path, data: Any, dataset: str = "entry/data/data", **options: Any) -> Path:
    with h5py.File(path, "w") as file:
        file.create_dataset(dataset, data=data, **options)
    return path


# --- what a value is ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("declared", "in_file", "value"),
    [
        ([10, 15], (3, 10, 15), (10, 15)),
        ([1, 10, 15], (3, 10, 15), (1, 10, 15)),  # ophyd-async says how many frames an event has
        ([5, 10, 15], (15, 10, 15), (5, 10, 15)),
        ([5, 10, 15], (3, 5, 10, 15), (5, 10, 15)),
        ([10, 15], (3, 1, 10, 15), (10, 15)),
        ([7, 3], (21, 3), (7, 3)),
        ([3], (3, 3), (3,)),
        ([7], (21,), (7,)),
        ([1, 10, 15, 3], (3, 10, 15, 3), (1, 10, 15, 3)),
        ([None, 15], (3, 10, 15), (10, 15)),
        ([None, 10, 15], (6, 10, 15), (2, 10, 15)),
        ([10, 15], (8, 10, 15), (10, 15)),  # more was written than was claimed
    ],
)
def test_a_value_in_hdf5_has_the_declared_shape(
    tmp_path: Path, declared: list[int], in_file: tuple[int, ...], value: tuple[int, ...]
) -> None:
    data = frames(*in_file)
    path = write(tmp_path / "a.h5", data)
    series = streamed(HDF5, path, shape=declared, dataset="/entry/data/data")
    assert (series.shape, series.dtype) == (value, np.dtype("<u2"))
    expected = data.ravel()[: 3 * int(np.prod(value))].reshape(3, *value)
    np.testing.assert_array_equal(series.read([1, 2, 3]), expected)
    np.testing.assert_array_equal(series.load(2), expected[1])


@pytest.mark.parametrize(("declared", "in_file"), [([], (3,)), ([1], (3,)), ([], (3, 1)), ([1], (3, 1))])
def test_a_number_is_a_number_whether_its_declared_shape_is_empty_or_one(
    tmp_path: Path, declared: list[int], in_file: tuple[int, ...]
) -> None:
    path = write(tmp_path / "a.h5", frames(*in_file))
    series = streamed(HDF5, path, shape=declared, dtype="number", dataset="entry/data/data")
    assert series.shape == ()
    assert series.load(3) == 2
    assert series.read([1, 2, 3]).tolist() == [0, 1, 2]


def test_an_array_of_one_element_stays_an_array(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", frames(3))
    assert streamed(HDF5, path, shape=[1], dataset="entry/data/data").load(2).tolist() == [1]


@pytest.mark.parametrize("name", ["multiplier", "frame_per_point", "frames_per_event"])
@pytest.mark.parametrize("declared", [[10, 15], [1, 10, 15], [4, 10, 15]])
def test_the_number_of_frames_may_stand_among_the_parameters(tmp_path: Path, declared: list[int], name: str) -> None:
    data = frames(12, 10, 15)
    series = streamed(HDF5, write(tmp_path / "a.h5", data), shape=declared, dataset="entry/data/data", **{name: 4})
    assert series.shape == (4, 10, 15)
    np.testing.assert_array_equal(series.load(3), data[8:])


@pytest.mark.parametrize(
    ("declared", "in_file", "value"),
    [
        ([10, 15], (3, 15, 10), (15, 10)),
        ([1, 3, 10, 15], (3, 10, 15, 3), (1, 10, 15, 3)),  # colours come first, by ophyd-async
        ([2, 20, 20], (6, 10, 15), (2, 10, 15)),
        ([2, 10, 15], (3, 10, 15), (10, 15)),  # the file has one frame an event
        ([], (3, 10, 15), (10, 15)),
    ],
)
def test_the_file_is_right_if_the_declared_shape_is_wrong_and_that_is_said_once(
    tmp_path: Path, declared: list[int], in_file: tuple[int, ...], value: tuple[int, ...]
) -> None:
    run = Streamed(declared)
    data = frames(*in_file)
    run.datum(run.resource(HDF5, write(tmp_path / "a.h5", data), dataset="entry/data/data"), (0, 3))
    assets = StreamAssets(run.documents, Handlers())
    series = assets.series("det", [run.descriptor["uid"]])
    with pytest.warns(AssetWarning, match=r"'det'.*declares") as caught:
        assert series.load(1).shape == value
    assert [warning.filename for warning in caught] == [__file__]
    assert series.shape == value
    np.testing.assert_array_equal(series.read([1, 2, 3]).ravel(), data.ravel())
    assets.series("det", [run.descriptor["uid"]]).load(3)


def test_records_and_text_are_read_as_they_are(tmp_path: Path) -> None:
    records = np.array([(1, 2.5), (3, 4.5)], dtype=[("a", "<i4"), ("b", "<f8")])
    kind = [["a", "<i4"], ["b", "<f8"]]
    series = streamed(HDF5, write(tmp_path / "a.h5", records), 2, dtype_numpy=kind, dataset="entry/data/data")
    assert series.dtype == records.dtype
    assert series.load(2) == records[1]
    texts = write(tmp_path / "b.h5", ["open", "shut"], dtype=h5py.string_dtype())
    assert streamed(HDF5, texts, 2, dtype="string", dataset="entry/data/data").read([1, 2]).tolist() == ["open", "shut"]


@pytest.mark.parametrize(
    ("parameters", "value"),
    [
        ({"slice": ":,0"}, (15,)),
        ({"slice": [":", "2:6", "::5"]}, (4, 3)),
        ({"slice": "(:, 2:3)", "squeeze": True}, (15,)),
    ],
)
def test_a_part_of_a_dataset_may_be_chosen(tmp_path: Path, parameters: dict[str, Any], value: tuple[int, ...]) -> None:
    data = frames(3, 10, 15)
    path = write(tmp_path / "a.h5", data)
    series = streamed(HDF5, path, shape=value, dataset="entry/data/data", **parameters)
    key = eval(f"np.s_[{parameters['slice'].strip('()') if isinstance(parameters['slice'], str) else ':,2:6,::5'}]")
    np.testing.assert_array_equal(series.read([2, 3]), data[key].reshape(3, *value)[1:])


def test_a_slice_may_put_the_events_on_another_axis(tmp_path: Path) -> None:
    data = frames(1, 3, 10)
    series = streamed(HDF5, write(tmp_path / "a.h5", data), shape=[10], dataset="entry/data/data", slice="0,:,:")
    np.testing.assert_array_equal(series.read([1, 3]), data[0][[0, 2]])


def test_the_dataset_may_be_called_path_or_be_the_only_one(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", frames(3, 2))
    assert streamed(HDF5, path, shape=[2], path="entry/data/data").load(2).tolist() == [2, 3]
    assert streamed(HDF5, path, shape=[2]).load(2).tolist() == [2, 3]


# --- which events have a value ------------------------------------------------------------------------------------


def test_an_event_that_no_stream_datum_speaks_of_has_no_value(tmp_path: Path) -> None:
    run = Streamed([2])
    bundle = run.resource(HDF5, write(tmp_path / "a.h5", frames(5, 2)), dataset="entry/data/data")
    run.datum(bundle, (0, 2))
    run.datum(bundle, (2, 5), first=6)
    series = run.series()
    assert series.seq_nums == [range(1, 3), range(6, 9)]
    assert [number for number in range(10) if number in series] == [1, 2, 6, 7, 8]
    assert series.read([8, 1, 6]).tolist() == [[8, 9], [0, 1], [4, 5]]
    with pytest.raises(UnknownDatum, match=r"event 4 has no value of 'det'.*1 to 2, 6 to 8") as caught:
        series.load(4)
    assert isinstance(caught.value, event_model.UnresolvableForeignKeyError)


def test_what_was_said_last_holds_if_stream_datums_overlap(tmp_path: Path) -> None:
    run = Streamed()
    bundle = run.resource(HDF5, write(tmp_path / "a.h5", frames(10)), dataset="entry/data/data")
    run.datum(bundle, (0, 5))
    run.datum(bundle, (0, 5))
    run.datum(bundle, (8, 10), first=3)
    series = run.series()
    assert series.read([1, 2, 3, 4, 5]).tolist() == [0, 1, 8, 9, 4]
    uids = [doc["uid"] for name, doc in run.documents if name == "stream_datum"]
    assert [series.datum_of(number) for number in (2, 3)] == [uids[1], uids[2]]


def test_a_stream_datum_of_no_known_resource_or_of_another_descriptor_is_passed_over(tmp_path: Path) -> None:
    run = Streamed()
    bundle = run.resource(HDF5, write(tmp_path / "a.h5", frames(3)), dataset="entry/data/data")
    run.datum(bundle, (0, 1))
    run.datum(bundle, (1, 2), stream_resource="unheard of")
    run.datum(bundle, (2, 3), descriptor="another")
    assert run.series().seq_nums == [range(1, 2)]
    assert run.series(run.descriptor["uid"], "another").read([1, 3]).tolist() == [0, 2]


def test_keys_are_those_that_are_written_or_declared_in_the_order_of_the_descriptor() -> None:
    begun = make.start()
    later, never = ({"source": "sim", "dtype": "array", "shape": [2], "external": "STREAM:"} for _ in range(2))
    keys = {"never": never, "motor": "number", "det": later, "old": make.data_key(external="FILESTORE:")}
    described = make.descriptor(begun, keys)
    run = Streamed()
    run.descriptor = described
    bundle = run.resource(NPY, "images")
    run.datum(bundle, (0, 1))
    assets = StreamAssets([("descriptor", described), *run.documents], Handlers())
    assert assets.keys([described["uid"]]) == ["never", "det"]
    empty = assets.series("never", [described["uid"]])
    assert (empty.shape, empty.dtype, empty.seq_nums) == ((2,), np.dtype("f8"), [])
    assert empty.read([]).shape == (0, 2)


def test_several_descriptors_of_a_stream_make_one_series(tmp_path: Path) -> None:
    run = Streamed()
    bundle = run.resource(HDF5, write(tmp_path / "a.h5", frames(4)), dataset="entry/data/data")
    run.datum(bundle, (0, 2))
    first = run.descriptor
    run.descriptor = make.descriptor(run.start, first["data_keys"])
    run.documents.append(("descriptor", run.descriptor))
    run.datum(bundle, (2, 4))
    assert run.series(first["uid"], run.descriptor["uid"]).read([1, 2, 3, 4]).tolist() == [0, 1, 2, 3]
    assert run.series(run.descriptor["uid"]).seq_nums == [range(3, 5)]


def test_each_descriptor_declares_its_own_values(tmp_path: Path) -> None:
    run = Streamed([1, 4])
    data = frames(8, 4)
    run.datum(run.resource(HDF5, write(tmp_path / "a.h5", data[:2]), dataset="entry/data/data"), (0, 2))
    first = run.descriptor
    described = first["data_keys"]["det"] | {"shape": [3, 4]}
    run.descriptor = make.descriptor(run.start, {"det": described})
    run.documents.append(("descriptor", run.descriptor))
    run.datum(run.resource(HDF5, write(tmp_path / "b.h5", data[2:]), dataset="entry/data/data"), (0, 2), first=3)
    series = run.series(first["uid"], run.descriptor["uid"])
    assert [series.load(number).shape for number in (1, 2, 3, 4)] == [(1, 4), (1, 4), (3, 4), (3, 4)]
    np.testing.assert_array_equal(series.load(4), data[5:])
    assert [value.shape for value in series.read([2, 3])] == [(1, 4), (3, 4)]


@pytest.mark.parametrize("goes_on", [False, True])
def test_several_files_make_one_series_whether_or_not_their_indices_go_on(tmp_path: Path, goes_on: bool) -> None:
    run = Streamed([2])
    data = frames(6, 2)
    for place in range(3):
        path = write(tmp_path / f"{place}.h5", data[2 * place : 2 * place + 2])
        begin = 2 * place if goes_on else 0
        run.datum(run.resource(HDF5, path, dataset="entry/data/data"), (begin, begin + 2), first=2 * place + 1)
    series = run.series()
    np.testing.assert_array_equal(series.read([1, 2, 3, 4, 5, 6]), data)
    assert series.load(5).tolist() == data[4].tolist()


@pytest.mark.parametrize("goes_on", [False, True])
def test_several_sequences_of_files_make_one_series(tmp_path: Path, goes_on: bool) -> None:
    run = Streamed([2])
    data = frames(6, 2)
    for place, (first, last) in enumerate([(0, 2), (2, 6)]):  # both sequences count their files from 0
        for number, value in enumerate(data[first:last]):
            np.save(tmp_path / f"{place}_{number}.npy", value)
        indices = (first, last) if goes_on else (0, last - first)
        bundle = run.resource(NPY, f"{tmp_path}/", template=f"{place}_{{:d}}.npy")
        run.datum(bundle, indices, first=first + 1)
    np.testing.assert_array_equal(run.series().read([1, 2, 3, 4, 5, 6]), data)


# --- sequences of files ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        ({"template": "scan_{:06d}.tiff"}, "scan_000001.tiff"),  # ophyd-async
        ({"template": "%s%s_%6.6d.tiff", "filename": "scan"}, "scan_000001.tiff"),  # areaDetector
        ({"template": "{:s}_%d.tif", "filename": "scan"}, "scan_1.tif"),
        ({"template": "%s_%-4d.tif"}, "_1   .tif"),
        ({"template": "/scan_%+03d.tif"}, "scan_+01.tif"),
    ],
)
def test_templates_of_either_style_name_files(tmp_path: Path, parameters: dict[str, str], name: str) -> None:
    image = frames(10, 15)
    tifffile.imwrite(tmp_path / name, image)
    for uri in (f"{tmp_path}/", str(tmp_path)):  # with and without the separator that should be there
        run = Streamed([10, 15])
        run.datum(run.resource(TIFF, uri, **parameters), (1, 2), first=1)
        np.testing.assert_array_equal(run.series().load(1), image)


def test_an_image_is_read_from_tiff_jpeg_and_npy(tmp_path: Path) -> None:
    data = np.full((3, 16, 16), 60, "u1") + np.arange(3, dtype="u1")[:, None, None] * 50
    for number, image in enumerate(data):
        tifffile.imwrite(tmp_path / f"{number}.tif", image)
        Image.fromarray(image).save(tmp_path / f"{number}.jpg")
        np.save(tmp_path / f"img_{number}.npy", image)
    for mimetype, uri, template in (
        (TIFF, f"{tmp_path}/", "{}.tif"),
        (JPEG, f"{tmp_path}/", "%d.jpg"),
        (NPY, f"{tmp_path}/img", ""),
        (NPY, f"{tmp_path}/", "img_{:d}.npy"),
    ):
        series = streamed(mimetype, uri, shape=[1, 16, 16], template=template)
        assert (series.shape, series.dtype) == ((1, 16, 16), np.dtype("u1"))
        np.testing.assert_allclose(series.read([3, 1, 2])[:, 0], data[[2, 0, 1]], atol=2)
        assert series.load(2).shape == (1, 16, 16)


@pytest.mark.parametrize(
    ("in_file", "declared", "parameters"),
    [
        ((10, 15), [4, 10, 15], {"chunk_shape": [1, 10, 15]}),  # one file a frame, as areaDetector writes them
        ((10, 15), [10, 15], {"multiplier": 4}),
        ((10, 15), [4, 10, 15], {"files_per_datum": 4}),
        ((4, 10, 15), [4, 10, 15], {}),  # pages
        ((2, 10, 15), [4, 10, 15], {"files_per_datum": 2}),
        ((2, 10, 15), [4, 10, 15], {"chunk_shape": [2, 10, 15]}),
    ],
)
def test_a_value_may_be_in_several_files_or_on_several_pages(
    tmp_path: Path, in_file: tuple[int, ...], declared: list[int], parameters: dict[str, Any]
) -> None:
    data = frames(3, 4, 10, 15)
    for number, part in enumerate(data.reshape(-1, *in_file)):
        tifffile.imwrite(tmp_path / f"{number}.tif", part, photometric="minisblack")
    series = streamed(TIFF, f"{tmp_path}/", shape=declared, template="{}.tif", **parameters)
    assert series.shape == (4, 10, 15)
    np.testing.assert_array_equal(series.load(3), data[2])
    np.testing.assert_array_equal(series.read([1, 2, 3]), data)


def test_one_file_a_value_counts_if_more_are_declared_and_not_there(tmp_path: Path) -> None:
    data = frames(3, 10, 15)
    for number, part in enumerate(data):
        np.save(tmp_path / f"img_{number}.npy", part)
    with pytest.warns(AssetWarning, match="declares"):
        np.testing.assert_array_equal(streamed(NPY, f"{tmp_path}/img", shape=[2, 10, 15]).read([1, 2, 3]), data)


def test_each_value_may_have_an_hdf5_file_of_its_own(tmp_path: Path) -> None:
    data = frames(3, 10, 15)
    for number, image in enumerate(data):
        write(tmp_path / f"{number}.h5", image)
    series = streamed(HDF5, f"{tmp_path}/", shape=[1, 10, 15], template="{}.h5", dataset="entry/data/data")
    np.testing.assert_array_equal(series.read([1, 2, 3])[:, 0], data)


def test_images_that_differ_in_size_are_given_one_by_one(tmp_path: Path) -> None:
    for number, size in enumerate([(2, 3), (3, 2), (4, 4)]):
        np.save(tmp_path / f"img_{number}.npy", np.full(size, number))
    series = streamed(NPY, f"{tmp_path}/img", shape=[None, None])
    together = series.read([1, 2, 3])
    assert together.dtype == object
    assert [value.shape for value in together] == [(2, 3), (3, 2), (4, 4)]
    assert series.load(2).tolist() == [[1, 1], [1, 1], [1, 1]]


def test_colours_are_where_the_file_has_them(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((16, 20, 3), "u1")).save(tmp_path / "0.jpg")
    series = streamed(JPEG, f"{tmp_path}/", 1, shape=[1, 3, 16, 20], template="{}.jpg")
    with pytest.warns(AssetWarning):
        assert series.load(1).shape == (1, 16, 20, 3)


@pytest.mark.parametrize("template", ["{:d}_{:d}.tif", "{name}.tif", "{:q}.tif"])
def test_a_template_that_asks_for_more_is_named(tmp_path: Path, template: str) -> None:
    with pytest.raises(UnreadableAsset, match="template"):
        streamed(TIFF, f"{tmp_path}/", template=template).load(1)


# --- tables and bytes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("declared", "rows"), [([3], 1), ([1, 3], 1), ([7, 3], 7)])
def test_rows_of_a_table_make_values(tmp_path: Path, declared: list[int], rows: int) -> None:
    data = np.arange(2 * rows * 3, dtype=float).reshape(-1, 3)
    np.savetxt(tmp_path / "a.csv", data, delimiter=",")
    series = streamed(CSV, tmp_path / "a.csv", 2, shape=declared)
    assert series.shape == tuple(declared)
    np.testing.assert_array_equal(series.read([1, 2]), data.reshape(2, *declared))


def test_how_a_table_is_written_stands_among_the_parameters(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("# made by hand\nx;y\n1;2\n3;4\n")
    series = streamed(
        CSV, tmp_path / "a.csv", 2, shape=[1], sep=";", header=0, skiprows=1, usecols=["y"], chunk_shape=[1]
    )
    assert series.read([1, 2]).tolist() == [[2], [4]]


def test_a_table_with_several_kinds_of_columns_makes_records(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("1,2.5,on\n2,3.5,off\n")
    kind = [["n", "<i8"], ["x", "<f8"], ["state", "<U3"]]
    declared = streamed(CSV, tmp_path / "a.csv", 2, dtype_numpy=kind)
    assert declared.load(2).tolist() == (2, 3.5, "off")
    assert declared.dtype.names == ("n", "x", "state")
    assert streamed(CSV, tmp_path / "a.csv", 2).load(1).tolist() == (1, 2.5, "on")


def test_a_file_of_which_nothing_is_known_gives_its_bytes(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"blob_{number:02d}.bin").write_bytes(b"\x00\xff" * (number + 1))
    series = streamed(BYTES, f"{tmp_path}/", shape=[1], template="blob_{:02d}.bin")
    assert bytes(series.load(3)) == b"\x00\xff" * 3
    assert list(map(bytes, series.read([1, 2]))) == [b"\x00\xff", b"\x00\xff\x00\xff"]
    assert bytes(streamed(BYTES, tmp_path / "blob_00.bin", 1).load(1)) == b"\x00\xff"


# --- where the files are -----------------------------------------------------------------------------------------


def test_a_missing_file_is_named_with_what_would_mend_it(tmp_path: Path) -> None:
    uri = f"file://localhost{tmp_path}/gone/a.h5"
    series = streamed(HDF5, uri, shape=[2], dataset="entry/data/data")
    with pytest.raises(MissingAsset) as caught:
        series.load(1)
    message = str(caught.value)
    assert isinstance(caught.value, event_model.DataNotAccessible)
    assert isinstance(caught.value, FileNotFoundError)
    for part in ("'det'", uri, f"{tmp_path}/gone/a.h5", f"db.reg.root_map['{tmp_path}/gone'] = "):
        assert part in message
    assert (series.shape, series.dtype) == ((2,), np.dtype("f8"))
    write(tmp_path / "a.h5", frames(3, 2))
    series.handlers.root_map[f"{tmp_path}/gone"] = str(tmp_path)
    assert series.load(1).tolist() == [0, 1]
    assert series.dtype == np.dtype("<u2")


def test_a_missing_file_of_a_sequence_is_named(tmp_path: Path) -> None:
    np.save(tmp_path / "img_0.npy", frames(2))
    series = streamed(NPY, f"{tmp_path}/img", shape=[2])
    assert series.load(1).tolist() == [0, 1]
    with pytest.raises(MissingAsset, match=r"img_1\.npy"):
        series.read([1, 2])


def test_no_shape_is_made_up_if_a_file_is_missing_and_lengths_were_left_open() -> None:
    with pytest.raises(MissingAsset):
        _ = streamed(HDF5, "/nowhere/a.h5", shape=[None, 10]).shape


@pytest.mark.parametrize(
    ("uri", "root"),
    [
        ("file://localhost/elsewhere/data/sub/a.h5", "/elsewhere/data"),
        ("file://localhost/elsewhere/data/sub/a.h5", "/elsewhere/data/"),
        ("file:///elsewhere/data/sub/a.h5", "file:///elsewhere/data"),
        ("/elsewhere/data/sub/a.h5", "/elsewhere/data"),
        ("file://localhost/Z:/beam/sub/a.h5", "Z:\\beam"),
        ("file:///Z:/beam/sub/a.h5", "Z:/beam"),
        ("Z:\\beam\\sub\\a.h5", "Z:\\beam"),
        ("s3://bucket/sub/a.h5", "s3://bucket"),
    ],
)
def test_roots_that_have_moved_are_found(tmp_path: Path, uri: str, root: str) -> None:
    (tmp_path / "sub").mkdir()
    write(tmp_path / "sub" / "a.h5", frames(3))
    run = Streamed()
    run.handlers = Handlers(root_map={root: str(tmp_path), "/elsewhere": "/nowhere", "/elsewhere/da": "/nowhere"})
    run.datum(run.resource(HDF5, uri, dataset="entry/data/data"), (0, 3))
    assert run.series().load(2) == 1


@pytest.mark.parametrize("name", ["a%20b #1?.h5", "a b.h5"])
def test_a_uri_may_be_encoded_or_not(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, frames(3))
    assert streamed(HDF5, path, dataset="entry/data/data").load(2) == 1
    encoded = path.as_uri()
    assert streamed(HDF5, encoded, dataset="entry/data/data").load(2) == 1


def test_files_on_an_object_store_are_read(tmp_path: Path) -> None:
    store = fsspec.filesystem("memory")
    data = frames(3, 10, 15)
    store.pipe("/bucket/a.h5", write(tmp_path / "a.h5", data).read_bytes())
    np.savetxt(tmp_path / "a.csv", data[0], delimiter=",")
    store.pipe("/bucket/a.csv", (tmp_path / "a.csv").read_bytes())
    for number, image in enumerate(data):
        for suffix, save in ((".tif", tifffile.imwrite), (".npy", np.save)):
            save(tmp_path / f"x_{number}{suffix}", image)
            store.pipe(f"/bucket/x_{number}{suffix}", (tmp_path / f"x_{number}{suffix}").read_bytes())
    for series in (
        streamed(HDF5, "memory://bucket/a.h5", shape=[10, 15], dataset="entry/data/data"),
        streamed(TIFF, "memory://bucket/", shape=[10, 15], template="x_{}.tif"),
        streamed(NPY, "memory://bucket/x", shape=[10, 15]),
    ):
        np.testing.assert_array_equal(series.read([1, 2, 3]), data)
    np.testing.assert_array_equal(streamed(CSV, "memory://bucket/a.csv", 10, shape=[15]).load(4), data[0][3])
    moved = streamed(HDF5, "/old/a.h5", shape=[10, 15], dataset="entry/data/data")
    moved.handlers.root_map["/old"] = "memory://bucket"
    np.testing.assert_array_equal(moved.load(2), data[1])
    with pytest.raises(MissingAsset, match=r"memory://bucket/b\.h5"):
        streamed(HDF5, "memory://bucket/b.h5").load(1)


def test_a_store_that_cannot_be_reached_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnreadableAsset, match=r"nonsense://x/a\.h5.*Protocol not known"):
        streamed(HDF5, "nonsense://x/a.h5").load(1)
    monkeypatch.setitem(sys.modules, "gcsfs", None)  # as if it were not installed
    with pytest.raises(MissingPackage, match=r"gs://bucket/a\.h5.*gcsfs"):
        streamed(HDF5, "gs://bucket/a.h5").load(1)


def test_the_files_of_a_resource_can_be_listed(tmp_path: Path) -> None:
    run = Streamed()
    run.datum(run.resource(HDF5, tmp_path / "a.h5"), (0, 3))
    run.datum(run.resource(NPY, f"{tmp_path}/img"), (0, 2), first=4)
    run.resource(HDF5, tmp_path / "never.h5")
    assets = StreamAssets(run.documents, Handlers())
    listed = [[Path(path).name for path in assets.files_of(doc)] for doc in assets.resources]
    assert listed == [["a.h5"], ["img_0.npy", "img_1.npy"], []]


def test_listing_the_files_of_many_resources_puts_the_series_together_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Streamed()
    for number in range(20):
        run.datum(run.resource(HDF5, tmp_path / f"{number}.h5"), (0, 1), first=number + 1)
    assets, made = StreamAssets(run.documents, Handlers()), []
    original = StreamAssets.series
    monkeypatch.setattr(StreamAssets, "series", lambda *given: [made.append(1), original(*given)][1])
    listed = [assets.files_of(doc) for doc in assets.resources]
    assert [[Path(path).name for path in paths] for paths in listed] == [[f"{number}.h5"] for number in range(20)]
    assert len(made) == 1
    assets.handlers.root_map[str(tmp_path)] = "/moved"
    assert assets.files_of(assets.resources[3]) == ["/moved/3.h5"]


# --- what cannot be read -----------------------------------------------------------------------------------------


def test_a_missing_dataset_is_told_with_those_that_are_there(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", frames(3))
    with h5py.File(path, "a") as file:
        file["entry/sum"] = [1]
    for name in ("entry/data/image", "entry"):
        with pytest.raises(UnreadableAsset, match=rf"no dataset '{name}'; it has /entry/data/data, /entry/sum"):
            streamed(HDF5, path, dataset=name).load(1)
    with pytest.raises(UnreadableAsset, match="more than one dataset"):
        streamed(HDF5, path).load(1)


def test_a_file_with_less_than_was_claimed_says_how_much_it_has(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", frames(7, 2))
    series = streamed(HDF5, path, 4, shape=[2, 2], dataset="entry/data/data")
    assert series.load(3).tolist() == [[8, 9], [10, 11]]
    with pytest.raises(UnreadableAsset, match=r"a\.h5 has 7 frames, 2 a value, and .* claim 4 values of 'det'"):
        series.read([1, 2, 3, 4])


@pytest.mark.parametrize("mimetype", [HDF5, TIFF, JPEG, NPY, CSV])
def test_a_file_that_is_something_else_is_told(tmp_path: Path, mimetype: str) -> None:
    for name in ("a", "a_0.npy"):
        (tmp_path / name).write_bytes(b"\x00\xff\xfe")
    with pytest.raises(UnreadableAsset, match=str(tmp_path / "a")) as caught:
        streamed(mimetype, tmp_path / "a", 1, template="").load(1)
    assert isinstance(caught.value, OSError)


def test_a_kind_of_file_that_nothing_reads_is_told_with_those_that_are_read() -> None:
    series = streamed("application/x-zarr", "/data/a.zarr", shape=[2])
    with pytest.raises(MissingHandler, match="application/x-zarr") as caught:
        series.load(1)
    message = str(caught.value)
    assert isinstance(caught.value, event_model.UndefinedAssetSpecification)
    assert all(part in message for part in (HDF5, TIFF, CSV, "db.reg.register_handler('application/x-zarr', Reader)"))
    assert series.shape == (2,)


class Reader:
    """Gives what it was told to, times the index."""

    def __init__(self, path: str, factor: int = 1) -> None:
        self.path, self.factor, self.lock = path, factor, threading.Lock()  # which cannot be pickled

    def __call__(self, index: int) -> np.ndarray[Any, Any]:
        if index > 5:
            raise KeyError(index)
        return np.full(2, self.factor * index)


def test_a_reader_can_be_registered_for_a_mimetype_and_goes_before_what_is_built_in(tmp_path: Path) -> None:
    for mimetype in ("application/x-zarr", HDF5):
        series = streamed(mimetype, tmp_path / "a", 8, shape=[2], factor=10)
        series.handlers.register_handler(mimetype, Reader)
        assert series.read([2, 3]).tolist() == [[10, 10], [20, 20]]
        assert series.shape == (2,)
        with pytest.raises(UnreadableAsset, match="KeyError: 6"):
            series.load(7)
        series.handlers.register_handler(mimetype, lambda path, factor: lambda index: np.array(path), overwrite=True)
        with pytest.warns(AssetWarning, match="declares"):
            assert series.load(1) == str(tmp_path / "a")
        assert series.shape == ()
        series.handlers.deregister_handler(mimetype)
        with pytest.raises((MissingHandler, MissingAsset)):
            series.load(1)


def test_a_missing_filter_is_named_with_the_package_that_has_it(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        created = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        created.set_chunk((1, 4))
        created.set_filter(32008, h5py.h5z.FLAG_OPTIONAL, ())
        space = h5py.h5s.create_simple((2, 4))
        made = h5py.h5d.create(file.id, b"data", h5py.h5t.STD_I32LE, space, created)
        made.write_direct_chunk((0, 0), b"pressed", 0)
    with pytest.raises(UnreadableAsset, match=r"/data in .*bitshuffle.*pip install hdf5plugin"):
        streamed(HDF5, tmp_path / "a.h5", 2, shape=[4], dataset="data").load(1)


# --- how it is read ----------------------------------------------------------------------------------------------


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Give the number of elements of each reading of an HDF5 dataset."""
    read = h5py.Dataset.__getitem__
    sizes: list[int] = []

    def counted(dataset: Any, key: Any, *more: Any) -> Any:
        found = read(dataset, key, *more)
        sizes.append(np.size(found))
        return found

    monkeypatch.setattr(h5py.Dataset, "__getitem__", counted)
    return sizes


def test_one_event_costs_one_reading_of_its_frames(tmp_path: Path, readings: list[int]) -> None:
    path = write(tmp_path / "a.h5", frames(2000, 4, 5))
    series = streamed(HDF5, path, 1000, shape=[2, 4, 5], dataset="entry/data/data")
    assert series.shape == (2, 4, 5)
    assert readings == []
    series.load(500)
    assert readings == [40]


def test_events_that_follow_each_other_cost_one_reading(tmp_path: Path, readings: list[int]) -> None:
    run = Streamed([4, 5])
    bundle = run.resource(HDF5, write(tmp_path / "a.h5", frames(100, 4, 5)), dataset="entry/data/data")
    for number in range(100):  # a step scan has a stream_datum an event
        run.datum(bundle, (number, number + 1))
    run.series().read(range(1, 101))
    assert readings == [2000]


def test_one_event_of_a_sequence_opens_its_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(10):
        tifffile.imwrite(tmp_path / f"{number}.tif", frames(4, 5))
    paths: list[str] = []
    opened = images.opened
    monkeypatch.setattr(images, "opened", lambda path: paths.append(path) or opened(path))
    series = streamed(TIFF, f"{tmp_path}/", 10, shape=[4, 5], template="{}.tif")
    series.load(8)
    assert paths == [str(tmp_path / "7.tif")]
    series.read([2, 3])
    assert paths[1:] == [str(tmp_path / "1.tif"), str(tmp_path / "2.tif")]


def test_a_series_can_be_pickled_and_read_by_many_threads(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", frames(200, 4, 5))
    series = streamed(HDF5, path, 200, shape=[4, 5], dataset="entry/data/data")
    series.load(1)
    again = pickle.loads(pickle.dumps(series))
    numbers = list(range(1, 201))
    with ThreadPoolExecutor(8) as pool:
        sums = list(pool.map(lambda number: int(again.load(number).sum()), numbers))
    assert sums == [int(image.sum()) for image in frames(200, 4, 5)]


def test_a_series_whose_reader_is_open_can_be_pickled(tmp_path: Path) -> None:
    series = streamed("application/x-zarr", tmp_path / "a", shape=[2], factor=10)
    series.handlers.register_handler("application/x-zarr", Reader)
    assert series.load(3).tolist() == [20, 20]
    assert pickle.loads(pickle.dumps(series)).load(3).tolist() == [20, 20]


_WRITER = """
import sys, h5py
with h5py.File(sys.argv[1], "w", libver=sys.argv[3] if sys.argv[3:] else "latest") as file:
    data = file.create_dataset("data", (0, 2), "i4", maxshape=(None, 2), chunks=(1, 2))
    if sys.argv[2] == "swmr":
        file.swmr_mode = True
    for line in sys.stdin:
        data.resize(int(line), 0)
        data[-1] = int(line)
        data.flush()
        print("done", flush=True)
"""


@pytest.mark.parametrize("parameters", [{}, {"swmr": True}, {"swmr": False}])
def test_a_file_that_another_process_is_writing_is_read(tmp_path: Path, parameters: dict[str, bool]) -> None:
    path = tmp_path / "a.h5"
    with subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(path), "swmr"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdin is not None
        assert writer.stdout is not None
        series = streamed(HDF5, path, shape=[2], dataset="data", **parameters)
        for count in (1, 2, 3):
            writer.stdin.write(f"{count}\n")
            writer.stdin.flush()
            assert writer.stdout.readline() == "done\n"
            assert series.load(count).tolist() == [count, count]
        writer.stdin.close()
    assert writer.returncode == 0
    assert series.read([3]).tolist() == [[3, 3]]


def test_a_file_of_the_earliest_format_is_read_while_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with subprocess.Popen(
        [sys.executable, "-c", _WRITER.replace("data.flush()", "file.flush()"), str(path), "no", "earliest"],
        **{"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True},
    ) as writer:
        assert writer.stdin is not None
        assert writer.stdout is not None
        writer.stdin.write("2\n")
        writer.stdin.flush()
        writer.stdout.readline()
        assert streamed(HDF5, path, 2, shape=[2], dataset="data").load(2).tolist() == [2, 2]
        writer.stdin.close()


def test_reading_keeps_no_other_process_from_writing(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", frames(3))
    append = "import sys, h5py; h5py.File(sys.argv[1], 'a')['more'] = 1"
    with hdf5.rows(str(path), {"dataset": "entry/data/data"}):
        subprocess.run([sys.executable, "-c", append, str(path)], check=True)


def test_a_file_that_is_written_without_swmr_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(path), "no"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdin is not None
        assert writer.stdout is not None
        writer.stdin.write("1\n")
        writer.stdin.flush()
        writer.stdout.readline()
        with pytest.raises(UnreadableAsset, match="A program may be writing it"):
            streamed(HDF5, path, 1, shape=[2], dataset="data").load(1)
        writer.stdin.close()


@pytest.mark.parametrize("swmr", [False, True])
def test_a_file_that_this_process_is_writing_is_read_and_writing_goes_on(tmp_path: Path, swmr: bool) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", libver="latest") as file:
        data = file.create_dataset("data", (2, 2), "i4", maxshape=(None, 2), chunks=(1, 2))
        if swmr:
            file.swmr_mode = True
        data.flush()
        series = streamed(HDF5, path, shape=[2], dataset="data")
        assert series.load(2).tolist() == [0, 0]
        data.resize(3, 0)
        data[2] = 7
        data.flush()
        assert series.load(3).tolist() == [7, 7]
    with h5py.File(path, "w"):  # nothing is left open that would forbid this
        pass


def test_hdf5_is_read_by_one_thread_at_a_time(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", frames(3))
    inside = threading.Event()
    with hdf5.rows(str(path), {"dataset": "entry/data/data"}):
        reader = threading.Thread(target=lambda: (streamed(HDF5, path).load(1), inside.set()))
        reader.start()
        assert not inside.wait(0.2)
    reader.join(10)
    assert inside.is_set()


# --- documents that make no sense ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bounds",
    [
        {"indices": {"start": -5, "stop": -2}},  # would be read from the end of the file
        {"indices": {"start": -3, "stop": 0}},
        {"indices": {"start": "a", "stop": "b"}},
        {"indices": {"start": 5, "stop": 2}},
        {"indices": {"start": 0.5, "stop": 3}},
        {"indices": {"start": float("nan"), "stop": 3}},
        {"indices": {"start": True, "stop": 3}},
        {"indices": {"start": 0, "stop": 10**30}},
        {"indices": {"stop": 3}},
        {"indices": None},
        {"seq_nums": {"start": 4, "stop": 1}},
        {"seq_nums": {"start": -1, "stop": 2}},
        {"seq_nums": [1, 4]},
    ],
)
def test_a_stream_datum_whose_bounds_make_no_sense_is_left_out_and_named(tmp_path: Path, bounds: dict) -> None:
    run = Streamed([2])
    bundle = run.resource(HDF5, write(tmp_path / "a.h5", frames(10, 2)), dataset="entry/data/data")
    run.datum(bundle, (6, 8), first=4)
    run.datum(bundle, (0, 3), uid="odd", **bounds)
    assets = StreamAssets(run.documents, Handlers())
    assert assets.keys([run.descriptor["uid"]]) == ["det"]
    with pytest.warns(AssetWarning, match=r"'det'.*stream_datum 'odd'.*whole numbers"):
        series = assets.series("det", [run.descriptor["uid"]])
    assert series.seq_nums == [range(4, 6)]
    assert series.read([4, 5]).tolist() == [[12, 13], [14, 15]]
    assert assets.series("det", [run.descriptor["uid"]]).seq_nums == [range(4, 6)]  # and said once


def test_bounds_may_be_written_as_floats(tmp_path: Path) -> None:
    run = Streamed([2])
    bundle = run.resource(HDF5, write(tmp_path / "a.h5", frames(3, 2)), dataset="entry/data/data")
    run.datum(bundle, (0, 3), indices={"start": 0.0, "stop": 3.0}, seq_nums={"start": np.float64(1), "stop": 4.0})
    assert run.series().read([1, 3]).tolist() == [[0, 1], [4, 5]]


@pytest.mark.parametrize("shape", [["nan"], [float("nan")], ["a"], [-2], [None], [[2]], [2.0], [np.int64(2)]])
def test_what_is_no_length_in_a_declared_shape_is_one_that_varies(tmp_path: Path, shape: list[Any]) -> None:
    path = write(tmp_path / "a.h5", frames(3, 2))
    series = streamed(HDF5, path, shape=shape, dataset="entry/data/data")
    assert (series.shape, series.load(2).tolist()) == ((2,), [2, 3])


@pytest.mark.parametrize("shape", [5, "2", {"a": 1}, None, float("nan")])
def test_a_declared_shape_that_is_no_list_gives_way_to_that_of_the_file(tmp_path: Path, shape: Any) -> None:
    run = Streamed()
    run.descriptor["data_keys"]["det"]["shape"] = shape
    run.datum(run.resource(HDF5, write(tmp_path / "a.h5", frames(3, 2)), dataset="entry/data/data"), (0, 3))
    with pytest.warns(AssetWarning, match="declares"):
        assert run.series().load(2).tolist() == [2, 3]


@pytest.mark.parametrize("kind", [{"a": 1}, [1, 2], "i8,,", "(a,b)", "no type", 10**30])
def test_a_declared_type_that_is_none_gives_way_to_that_of_the_file(tmp_path: Path, kind: Any) -> None:
    path = write(tmp_path / "a.h5", frames(3, 2))
    assert streamed(HDF5, path, shape=[2], dtype_numpy=kind, dataset="entry/data/data").dtype == np.dtype("<u2")
    assert streamed(HDF5, tmp_path / "absent.h5", shape=[2], dtype_numpy=kind).dtype == np.dtype("f8")


@pytest.mark.parametrize("name", ["multiplier", "files_per_datum"])
@pytest.mark.parametrize("count", ["many", [2], {}, -3, float("nan"), 10**30])
def test_a_number_of_frames_that_is_none_is_passed_over(tmp_path: Path, name: str, count: Any) -> None:
    for number in range(2):
        np.save(tmp_path / f"{number}.npy", frames(4))
    if count == 10**30:
        count = "1e30"
    series = streamed(NPY, f"{tmp_path}/", 2, shape=[4], template="{}.npy", **{name: count})
    np.testing.assert_array_equal(series.read([1, 2]), [frames(4)] * 2)


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        ({"parameters": [1]}, "'parameters' of type list"),
        ({"mimetype": 5}, "'mimetype' of type int"),
        ({"uri": None}, "neither a 'uri' nor a 'resource_path'"),
        ({"uri": ["a"]}, "'uri' of type list"),
        ({"uri": None, "mimetype": None, "spec": ["a"], "resource_path": "a"}, "'spec' of type list"),
        ({"uri": None, "resource_path": "a", "path_semantics": ["posix"]}, "'path_semantics' of type list"),
    ],
)
def test_a_stream_resource_that_makes_no_sense_is_named_when_its_values_are_asked_for(
    tmp_path: Path, odd: dict, message: str
) -> None:
    run = Streamed([2])
    good = run.resource(HDF5, write(tmp_path / "a.h5", frames(3, 2)), dataset="entry/data/data")
    run.datum(good, (0, 2))
    bad = run.resource(HDF5, tmp_path / "b.h5")
    bad.stream_resource_doc.update(odd)
    run.datum(bad, (0, 1), first=3)
    series = run.series()
    assert (series.shape, series.seq_nums) == ((2,), [range(1, 4)])
    assert series.read([1, 2]).tolist() == [[0, 1], [2, 3]]
    with pytest.raises(UnreadableAsset, match=f"'det' .*{message}"):
        series.load(3)


def test_a_stream_resource_that_names_no_data_key_is_told_and_no_column() -> None:
    run = Streamed([2])
    bundle = run.resource(HDF5, "/nowhere/a.h5")
    bundle.stream_resource_doc["data_key"] = ["det"]
    run.datum(bundle, (0, 3))
    with pytest.warns(AssetWarning, match=bundle.stream_resource_doc["uid"]):
        assert StreamAssets(run.documents, Handlers()).keys([run.descriptor["uid"]]) == ["det"]


@pytest.mark.parametrize("described", ["weird", [1], 5, None])
def test_odd_documents_of_a_detector_keep_no_motor_from_being_read(tmp_path: Path, described: Any) -> None:
    run = Streamed([2])
    run.datum(run.resource(HDF5, tmp_path / "a.h5"), (0, 3), indices={"start": -3, "stop": -1})
    rows = [make.event(run.descriptor, number, {"motor": 1.5, "odd": 2}, filled={}) for number in (1, 2, 3)]
    run.descriptor["data_keys"] |= {"motor": make.data_key(), "odd": described}
    db = temp()
    for name, doc in [*run.documents, *(("event", row) for row in rows), ("stop", make.stop(run.start))]:
        db.insert(name, doc)
    assert list(db[-1].data("motor")) == [1.5] * 3
    assert db[-1].table(fields=["motor"], fill=True)["motor"].tolist() == [1.5] * 3
    assert db.v2[-1].primary(include=["motor"]).read()["motor"].values.tolist() == [1.5] * 3
    with pytest.warns(AssetWarning, match="'det'"):
        table = db[-1].table(fill=True)
    assert (table["motor"].tolist(), table["odd"].tolist()) == ([1.5] * 3, [2] * 3)
    assert np.isnan(np.stack(table["det"])).all()


# --- what may change while a run is open ---------------------------------------------------------------------------


def test_shape_and_type_are_those_of_the_files_that_the_root_map_names_now(tmp_path: Path) -> None:
    for place, data in (("a", frames(3, 2)), ("b", frames(3, 5).astype("f4"))):
        (tmp_path / place).mkdir()
        write(tmp_path / place / "x.h5", data)
    run = Streamed([None])
    run.datum(run.resource(HDF5, "file://localhost/data/x.h5", dataset="entry/data/data"), (0, 3))
    series = run.series()
    found = []
    for place in ("a", "b"):
        run.handlers.root_map["/data"] = str(tmp_path / place)
        found.append((series.shape, series.dtype.str))
    assert found == [((2,), "<u2"), ((5,), "<f4")]


def test_images_are_read_as_the_files_that_the_root_map_names_now_have_them(tmp_path: Path) -> None:
    for place, data in (("a", frames(2)), ("b", frames(5))):
        (tmp_path / place).mkdir()
        np.save(tmp_path / place / "0.npy", data)
    series = streamed(NPY, "file://localhost/data/", 1, shape=[None], template="{}.npy")
    for place, shape in (("a", (2,)), ("b", (5,))):
        series.handlers.root_map["/data"] = str(tmp_path / place)
        assert (series.load(1).shape, series.shape) == (shape, shape)


def test_shape_and_type_are_those_of_the_reader_that_is_registered_now() -> None:
    series = streamed("application/x-zarr", "/data/a", 3, shape=[None])
    for value in (np.zeros(2), np.zeros(5, "u2")):
        series.handlers.register_handler("application/x-zarr", lambda path: lambda index: value, overwrite=True)  # noqa: B023
        assert (series.shape, series.dtype) == (value.shape, value.dtype)


def test_a_sequence_whose_files_come_late_is_found_then(tmp_path: Path) -> None:
    run = Streamed([2])
    for place, (first, last) in enumerate([(0, 2), (2, 4)]):  # both sequences count their files from 0
        bundle = run.resource(NPY, f"{tmp_path}/", template=f"{place}_{{:d}}.npy")
        run.datum(bundle, (first, last))
    series = run.series()
    with pytest.raises(MissingAsset):
        series.load(4)
    for number in range(2):
        np.save(tmp_path / f"1_{number}.npy", frames(2) + number)
    assert series.load(4).tolist() == [1, 2]


# --- earlier forms -----------------------------------------------------------------------------------------------


def test_a_stream_resource_from_before_event_model_1_20_is_read(tmp_path: Path) -> None:
    write(tmp_path / "a.h5", frames(6, 10, 15))
    np.save(tmp_path / "img_0.npy", frames(10, 15))
    cases = [
        ("AD_HDF5", "a.h5", {"frame_per_point": 2}, (2, 10, 15)),
        ("AD_HDF5_SWMR_STREAM", "a.h5", {"path": "entry/data/data", "swmr": True}, (10, 15)),
        ("NPY_SEQ", "img", {}, (10, 15)),
    ]
    for spec, path, kwargs, shape in cases:
        run = Streamed([10, 15])
        old = {"uid": "r", "data_key": "det", "spec": spec, "root": str(tmp_path), "resource_path": path}
        old |= {"resource_kwargs": kwargs, "path_semantics": "posix", "run_start": run.start["uid"]}
        span = {"seq_nums": {"start": 1, "stop": 2}, "indices": {"start": 0, "stop": 1}}
        datum = {"uid": "r/0", "stream_resource": "r", "descriptor": run.descriptor["uid"], **span}
        run.documents += [("stream_resource", old), ("stream_datum", datum)]
        assert run.series().load(1).shape == shape


def test_a_stream_datum_of_a_form_that_says_no_indices_is_passed_over() -> None:
    run = Streamed([2])
    bundle = run.resource(HDF5, "/nowhere/a.h5")
    old = {"uid": "d", "stream_resource": bundle.stream_resource_doc["uid"], "event_count": 1, "event_offset": 0}
    run.documents.append(("stream_datum", old | {"block_idx": 0, "data_keys": ["det"], "datum_kwargs": {}}))
    assert run.series().seq_nums == []


def test_an_earlier_form_with_an_unknown_spec_names_it() -> None:
    run = Streamed()
    old = {"uid": "r", "data_key": "det", "spec": "HOUSE_MADE", "root": "Z:\\data", "resource_path": "a.x"}
    span = {"seq_nums": {"start": 1, "stop": 2}, "indices": {"start": 0, "stop": 1}}
    datum = {"uid": "r/0", "stream_resource": "r", "descriptor": run.descriptor["uid"], **span}
    run.documents += [("stream_resource", old | {"path_semantics": "windows"}), ("stream_datum", datum)]
    series = run.series()
    with pytest.raises(MissingHandler, match="HOUSE_MADE"):
        series.load(1)
    series.handlers.register_handler("HOUSE_MADE", lambda path: lambda index: np.array(path))
    assert series.load(1) == "Z:\\data\\a.x"


# --- with the real thing: ophyd-async's detector, the RunEngine and a catalog ------------------------------------


class Recorded:
    """A run of ophyd-async's simulated detector, in a catalog, with the documents that were emitted."""

    def __init__(self, engine: RunEngine, plan: Any) -> None:
        self.db = temp()
        self.emitted: list[tuple[str, Any]] = []
        tokens = [engine.subscribe(self.db.insert), engine.subscribe(self._note)]
        (uid,) = engine(plan)
        for token in tokens:
            engine.unsubscribe(token)
        self.header = self.db[uid]
        self.paths = {doc["uri"].removeprefix("file://localhost") for doc in self.of("stream_resource")}

    def _note(self, name: str, doc: Any) -> None:
        self.emitted.append((name, copy.deepcopy(doc)))

    def of(self, kind: str) -> list[Any]:
        return [doc for name, doc in self.emitted if name == kind]

    def in_file(self, dataset: str) -> np.ndarray[Any, Any]:
        (path,) = self.paths
        with h5py.File(path) as file:
            return np.asarray(file[dataset][:])


IMAGES, SUMS = "entry/data/data", "entry/sum"


@pytest.fixture(scope="module")
def engine() -> RunEngine:
    return RunEngine({}, call_returns_result=False)


@pytest.fixture
def detector(engine: RunEngine, tmp_path: Path) -> SimBlobDetector:
    with init_devices():
        blobs = SimBlobDetector(StaticPathProvider(UUIDFilenameProvider(), tmp_path), name="det")
    return blobs  # noqa: RET504 - it is connected at the end of the block


@bpp.run_decorator()
def fly(detector: SimBlobDetector, events: int, frames_an_event: int) -> Any:
    """Fly as ophyd-async does: the detector streams on its own, and no event is emitted."""
    info = TriggerInfo(number_of_events=events, livetime=0.004, deadtime=0.001, collections_per_event=frames_an_event)
    yield from bps.stage(detector, wait=True)
    yield from bps.prepare(detector, info, wait=True)
    yield from bps.declare_stream(detector, name="main", collect=True)
    yield from bps.kickoff(detector, wait=True)
    yield from bps.complete(detector, wait=True)
    yield from bps.collect(detector, name="main")
    yield from bps.unstage(detector, wait=True)


@pytest.fixture
def stepped(engine: RunEngine, detector: SimBlobDetector) -> Recorded:
    return Recorded(engine, bp.scan([detector], motor, -1, 1, 3))


@pytest.fixture
def flown(engine: RunEngine, detector: SimBlobDetector) -> Recorded:
    return Recorded(engine, fly(detector, 5, 2))


def assert_same(found: Any, emitted: list[tuple[str, Any]]) -> None:
    """Documents come back exactly; tuples come back as lists and numbers of numpy as plain ones."""
    plain = [(name, dict(doc)) for name, doc in found]
    assert first_difference([(name, _plain(doc)) for name, doc in emitted], plain) == ""


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, np.generic):
        return value.item()
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def test_documents_of_a_step_scan_come_back_as_they_were_emitted(stepped: Recorded) -> None:
    assert_same(stepped.header.documents(), stepped.emitted)


def test_documents_of_a_fly_scan_come_back_as_they_were_emitted(flown: Recorded) -> None:
    assert not flown.of("event")
    assert not flown.of("event_page")
    assert_same(flown.header.documents(), flown.emitted)


def test_filling_a_step_scan_gives_the_images_of_its_file(stepped: Recorded) -> None:
    images_, sums = stepped.in_file(IMAGES), stepped.in_file(SUMS)
    assert images_.any()
    events = [doc for name, doc in stepped.header.documents(fill=True) if name == "event"]
    assert len(events) == 3
    by_uid = {doc["uid"] for doc in stepped.of("stream_datum")}
    for event, image, total in zip(events, images_, sums, strict=True):
        np.testing.assert_array_equal(event["data"]["det"], image[np.newaxis])
        assert event["data"]["det-sum"] == total
        assert event["filled"]["det"] in by_uid
        assert event["filled"]["det-sum"] in by_uid
        assert event["data"]["motor"] == event["seq_num"] - 2


def test_unfilled_tables_leave_streamed_columns_out(stepped: Recorded) -> None:
    (path,) = stepped.paths
    Path(path).unlink()
    table = stepped.header.table()
    assert list(table) == ["time", "motor", "motor_setpoint"]
    assert len(table) == 3
    assert [event["data"].keys() for event in stepped.header.events()] == [{"motor", "motor_setpoint"}] * 3
    with pytest.raises(MissingAsset):
        stepped.header.table(fill=True)


def test_filled_tables_have_a_value_a_row(stepped: Recorded) -> None:
    table = stepped.header.table(fill=True)
    assert table["det-sum"].tolist() == stepped.in_file(SUMS).tolist()
    np.testing.assert_array_equal(np.stack(table["det"].tolist())[:, 0], stepped.in_file(IMAGES))
    assert table.index.tolist() == [1, 2, 3]


def test_data_gives_images_one_by_one(stepped: Recorded) -> None:
    np.testing.assert_array_equal(np.concatenate(list(stepped.header.data("det"))), stepped.in_file(IMAGES))


def test_a_stream_with_streamed_data_is_a_dataset(stepped: Recorded) -> None:
    dataset = stepped.header.xarray()
    assert dataset["det"].shape == (3, 1, 240, 320)
    assert dataset["det-sum"].shape == (3,)
    np.testing.assert_array_equal(dataset["det"].values[:, 0], stepped.in_file(IMAGES))
    assert dataset["motor"].values.tolist() == [-1, 0, 1]
    assert dataset["time"].values.tolist() == [doc["time"] for doc in stepped.of("event")]


def test_a_lazy_dataset_reads_nothing_before_it_is_asked(stepped: Recorded, readings: list[int]) -> None:
    dataset = stepped.header.xarray_dask()
    assert dataset["det"].shape == (3, 1, 240, 320)
    assert readings == []
    second = dataset["det"][1].values
    assert sum(readings) <= 3 * 240 * 320
    np.testing.assert_array_equal(second[0], stepped.in_file(IMAGES)[1])


def test_a_stream_without_events_has_a_row_for_each_value(flown: Recorded) -> None:
    images_ = flown.in_file(IMAGES).reshape(5, 2, 240, 320)
    table = flown.header.table("main", fill=True)
    assert table.index.tolist() == [1, 2, 3, 4, 5]
    np.testing.assert_array_equal(np.stack(table["det"].tolist()), images_)
    assert len(list(flown.header.data("det", "main"))) == 5
    for dataset in (flown.header.xarray("main"), flown.header.xarray_dask("main")):
        np.testing.assert_array_equal(dataset["det"].values, images_)
        np.testing.assert_array_equal(dataset["det-sum"].values, flown.in_file(SUMS).reshape(5, 2))
    with pytest.warns(AssetWarning, match=r"'det', 'det-sum' .* are in files of their own; table\(fill=True\)"):
        assert list(flown.header.table("main")) == []


def test_a_run_is_read_where_its_files_were_moved_to(stepped: Recorded, tmp_path: Path) -> None:
    (path,) = map(Path, stepped.paths)
    expected = stepped.in_file(SUMS).tolist()
    (tmp_path / "archive").mkdir()
    path.rename(tmp_path / "archive" / path.name)
    with pytest.raises(MissingAsset, match=r"db\.reg\.root_map"):
        list(stepped.header.data("det-sum"))
    stepped.db.reg.root_map[str(tmp_path)] = str(tmp_path / "archive")
    assert list(stepped.header.data("det-sum")) == expected


def test_a_run_in_progress_gives_the_frames_so_far(engine: RunEngine, detector: SimBlobDetector) -> None:
    db, sums = temp(), []

    def look(name: str, doc: Any) -> None:
        if name == "event":
            sums.append([int(image.sum()) for image in db[-1].data("det")])

    token = engine.subscribe(db.insert)
    late = engine.subscribe(look)
    engine(bp.count([detector], 3))
    engine.unsubscribe(token)
    engine.unsubscribe(late)
    assert [len(found) for found in sums] == [1, 2, 3]
    assert sums[-1] == [int(image.sum()) for image in db[-1].data("det")]


def test_the_v2_face_gives_streamed_data_at_once_or_delayed(stepped: Recorded) -> None:
    run = stepped.db.v2[stepped.header.uid]
    images_ = stepped.in_file(IMAGES)
    for fill in ("yes", "delayed"):
        pages = [doc for name, doc in run.documents(fill=fill) if name == "event_page"]
        found = [np.asarray(image) for page in pages for image in page["data"]["det"]]
        np.testing.assert_array_equal(np.stack(found)[:, 0], images_)
    assert all("det" not in doc["data"] for name, doc in run.documents(fill="no") if name == "event_page")
    np.testing.assert_array_equal(run.primary.read()["det"].values[:, 0], images_)


def test_images_come_one_by_one(stepped: Recorded) -> None:
    with pytest.warns(UserWarning, match="get_images"):
        found = stepped.db.get_images(stepped.header, "det")
    assert len(found) == 3
    np.testing.assert_array_equal(np.asarray(found[2])[0], stepped.in_file(IMAGES)[2])


def test_an_exported_run_has_files_of_its_own(stepped: Recorded, tmp_path: Path) -> None:
    expected = stepped.in_file(SUMS).tolist()
    (path,) = map(Path, stepped.paths)
    assert stepped.db.export_size(stepped.header) == pytest.approx(path.stat().st_size * 1e-9)
    other = temp()
    pairs = stepped.db.export(stepped.header, other, new_root=str(tmp_path / "copies"))
    assert {Path(old) for old, _ in pairs} == {path}
    path.unlink()
    assert list(other[-1].data("det-sum")) == expected


def test_events_without_a_value_are_empty_in_tables_and_arrays(tmp_path: Path) -> None:
    run = Streamed([2])
    bundle = run.resource(HDF5, write(tmp_path / "a.h5", frames(3, 2)), dataset="entry/data/data")
    run.datum(bundle, (0, 1))
    run.datum(bundle, (1, 3), first=3)
    run.documents += [("event", make.event(run.descriptor, number, {})) for number in (1, 2, 3, 4)]
    db = temp()
    for name, doc in [*run.documents, ("stop", make.stop(run.start))]:
        db.insert(name, doc)
    header = db[-1]
    cells = header.table(fill=True)["det"].tolist()
    assert [np.isnan(cell).any() for cell in cells] == [False, True, False, False]
    for dataset in (header.xarray(), header.xarray_dask()):
        np.testing.assert_array_equal(dataset["det"].values, [[0, 1], [np.nan] * 2, [2, 3], [4, 5]])
    assert ["det" in event["data"] for event in header.events(fill=True)] == [True, False, True, True]


def test_a_reader_is_found_whatever_the_capitals_of_its_mimetype(tmp_path: Path) -> None:
    class Reader:
        def __init__(self, path: str) -> None:
            pass

        def __call__(self, index: int) -> np.ndarray:
            return np.full(2, index)

    described = {"uid": "d", "data_keys": {"x": {"source": "s", "dtype": "array", "shape": [2], "external": "STREAM:"}}}
    resource = {"uid": "r", "data_key": "x", "mimetype": "X/Cam", "uri": str(tmp_path / "a.cam"), "parameters": {}}
    (tmp_path / "a.cam").touch()
    span = {"seq_nums": {"start": 1, "stop": 3}, "indices": {"start": 0, "stop": 2}}
    datum = {"uid": "r/0", "stream_resource": "r", "descriptor": "d", **span}
    documents = [("descriptor", described), ("stream_resource", resource), ("stream_datum", datum)]
    series = StreamAssets(documents, Handlers({"X/Cam": Reader})).series("x", ["d"])
    assert series.load(2).tolist() == [1, 1]
