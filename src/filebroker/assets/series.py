"""The values that detectors have streamed into files, by the seq_num of their events."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from filebroker.assets.handlers import Handlers
from filebroker.assets.places import NothingPacked, Packed
from filebroker.assets.resources import StreamResource, normalised
from filebroker.assets.shapes import declared
from filebroker.assets.sources import Claim, Part, Source, source, stacked
from filebroker.assets.spans import Span, Spans
from filebroker.assets.stream_datums import StreamDatum, claims, is_placed, stream_datum
from filebroker.assets.uris import located
from filebroker.ground.cautions import warn
from filebroker.ground.documents import mapping_or_empty
from filebroker.ground.errors import AssetWarning, FilebrokerError, InvalidDocument, UnknownDatum
from filebroker.ground.kinship import akin

#: What the ``external`` of a data key begins with whose values are streamed.
_STREAMED = "STREAM:"


class StreamAssets:
    """The stream_resource and stream_datum documents of one run.

    Parameters
    ----------
    documents
        Pairs of name and document.  Only descriptors, stream_resources and stream_datums are looked at.
    handlers
        Who reads what, and where roots have moved.
    packed
        The files that were packed together with the run, which are read in the place of others.

    Attributes
    ----------
    resources : list of dict
        The stream_resource documents.

    Examples
    --------
    >>> import numpy as np
    >>> from filebroker.assets.handlers import Handlers
    >>> np.save("image_0.npy", np.zeros((2, 3)))
    >>> key = {"source": "sim", "dtype": "array", "shape": [2, 3], "external": "STREAM:"}
    >>> resource = {"uid": "r", "data_key": "image", "uri": "image", "parameters": {"template": "_{:d}.npy"}}
    >>> resource["mimetype"] = "multipart/related;type=application/x-npy"
    >>> span = {"seq_nums": {"start": 1, "stop": 2}, "indices": {"start": 0, "stop": 1}}
    >>> documents = [
    ...     ("descriptor", {"uid": "d", "data_keys": {"image": key}}),
    ...     ("stream_resource", resource),
    ...     ("stream_datum", {"uid": "r/0", "stream_resource": "r", "descriptor": "d", **span}),
    ... ]
    >>> assets = StreamAssets(documents, Handlers())
    >>> assets.keys(["d"])
    ['image']
    >>> assets.series("image", ["d"]).load(1).shape
    (2, 3)
    """

    def __init__(
        self,
        documents: Iterable[tuple[str, Mapping[str, Any]]],
        handlers: Handlers,
        packed: Packed | None = None,
    ) -> None:
        self.handlers, self._packed = handlers, packed or NothingPacked()
        self.resources: list[Mapping[str, Any]] = []
        self._normalised: dict[str, StreamResource] = {}
        self._data_keys: dict[str, Mapping[str, Any]] = {}
        self._datums: dict[tuple[str, str], list[StreamDatum]] = {}
        #: Why documents of a descriptor and data key were left out.
        self._faults: dict[tuple[str, str], list[str]] = {}
        self._claims: dict[str, Claim] = {}
        self._warned: set[str] = set()
        self._whole: dict[str, Series] = {}
        later = []
        for name, doc in documents:
            if name == "descriptor":
                self._data_keys[doc["uid"]] = doc.get("data_keys", {})
            elif name == "stream_resource" and doc["uid"] not in self._normalised:
                self.resources.append(doc)
                self._normalised[doc["uid"]] = normalised(doc)
            elif name == "stream_datum":
                later.append(doc)
        self._sort([doc for doc in later if is_placed(doc) and doc["stream_resource"] in self._normalised])

    def _sort(self, docs: list[Mapping[str, Any]]) -> None:
        """Sort stream_datum documents by descriptor and data key, and sum up what they say of each resource."""
        by_key: dict[str, list[StreamDatum]] = {}
        for doc in docs:
            data_key = self._normalised[doc["stream_resource"]].data_key
            place = doc["descriptor"], data_key
            datums = self._datums.setdefault(place, [])
            try:
                datum = stream_datum(doc)
            except InvalidDocument as error:
                self._faults.setdefault(place, []).append(str(error))
                continue
            datums.append(datum)
            by_key.setdefault(data_key, []).append(datum)
        for found in by_key.values():
            self._claims |= claims(found)
        nameless = sorted({datum.resource for datum in by_key.get("", ())})
        if nameless:
            warn(f"no data key is named by the stream_resource {nameless[0]!r}; its values are left out", AssetWarning)

    def keys(self, descriptor_uids: Iterable[str]) -> list[str]:
        """Give the data keys whose values are streamed into files.

        Those are the ones that a stream_resource has values of, and those that are declared so, although nothing was
        written yet.

        Parameters
        ----------
        descriptor_uids
            The descriptors of a stream.
        """
        uids = list(descriptor_uids)
        written = {key for uid, key in self._datums if uid in uids and key}
        found: dict[str, None] = {}
        for uid in uids:
            for key in self._data_keys.get(uid, {}):
                if key in written or str(self._described(uid, key).get("external", "")).startswith(_STREAMED):
                    found[key] = None
        return list(found) + sorted(written - set(found))

    def series(self, data_key: str, descriptor_uids: Iterable[str]) -> "Series":
        """Give the values of a data key.

        Parameters
        ----------
        data_key
            One of `keys`.
        descriptor_uids
            The descriptors of a stream.

        Warns
        -----
        AssetWarning
            Stream_datum documents are left out, as what they say makes no sense; this is said once.
        """
        uids = list(descriptor_uids)
        self._tell_faults(data_key, uids)
        described = [self._described(uid, data_key) for uid in uids]
        placed = [(uid, datum) for uid in uids for datum in self._datums.get((uid, data_key), ())]
        parts = {
            datum.resource: Part(
                self._resource(datum.resource), self._described(uid, data_key), self._claims[datum.resource]
            )
            for uid, datum in reversed(placed)
        }
        datums = [datum for _, datum in placed]
        declared_first = next(filter(None, described), {})
        return Series(data_key, declared_first, datums, parts, self.handlers, self._warned)

    def _resource(self, uid: str) -> StreamResource:
        """Give a resource, where its files are now if they were packed together with the run."""
        known, packed = self._normalised[uid], self._packed.place(uid)
        return known if packed is None else replace(known, uri=packed.path, packed=packed.directory)

    def place_of(self, resource: Mapping[str, Any], files: Sequence[str]) -> str:
        """Give the path or URL that the names of the files of a stream_resource are put to.

        Parameters
        ----------
        resource
            A stream_resource document.
        files
            Its files, as `files_of` gives them.
        """
        held = self._resource(resource["uid"])
        if held.packed is not None:
            return held.uri
        places = located(held.uri, self.handlers.root_map)
        return next((place for place in places if any(file.startswith(place) for file in files[:1])), places[0])

    def _described(self, descriptor_uid: str, data_key: str) -> Mapping[str, Any]:
        return mapping_or_empty(self._data_keys.get(descriptor_uid, {}).get(data_key))

    def _tell_faults(self, data_key: str, descriptor_uids: Iterable[str]) -> None:
        """Warn of documents that were left out, when the values are asked for that they should have told of."""
        faults = [fault for uid in descriptor_uids for fault in self._faults.pop((uid, data_key), ())]
        if faults:
            warn(
                f"stream_datum documents of {data_key!r} are left out, {len(faults)} in all, and their events have no "
                f"value: {faults[0]}",
                AssetWarning,
            )

    def files_of(self, resource: Mapping[str, Any]) -> list[str]:
        """Give the files of a stream_resource, where they should be now; none if no value of it was written.

        Raises
        ------
        MissingHandler
            Nothing reads files of its mimetype.
        """
        data_key = self._normalised[resource["uid"]].data_key
        if data_key not in self._whole:
            self._whole[data_key] = self.series(data_key, self._data_keys)
        return self._whole[data_key].files_of(resource["uid"])


class Series:
    """The values of one data key, by seq_num.

    Parameters
    ----------
    data_key
        The data key.
    described
        What the descriptor says of it.
    datums
        What its stream_datum documents say; where two speak of the same event, the later one holds.
    parts
        The stream resources that these speak of, by uid.
    handlers
        Who reads what, and where roots have moved.
    warned
        The data keys of the run whose shape was warned of; it is added to.

    Attributes
    ----------
    seq_nums : list of range
        Which events have a value.
    """

    def __init__(
        self,
        data_key: str,
        described: Mapping[str, Any],
        datums: Sequence[StreamDatum],
        parts: Mapping[str, Part],
        handlers: Handlers,
        warned: set[str],
    ) -> None:
        self.data_key = data_key
        self.handlers = handlers
        self._described = described
        self._warned = warned
        self._spans = Spans()
        for datum in datums:
            self._spans.add(datum.span)
        self._parts = parts
        self._sources: dict[str, Source] = {}
        self._state = handlers.state()
        self._looked: tuple[Source, tuple[tuple[int, ...], np.dtype[Any]]] | None = None
        self.seq_nums = self._spans.ranges()

    def __repr__(self) -> str:
        return f"<Series {self.data_key!r}: {sum(map(len, self.seq_nums))} values in {len(self._parts)} resources>"

    def __contains__(self, seq_num: object) -> bool:
        return isinstance(seq_num, int | np.integer) and self._spans.find(int(seq_num)) is not None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one event's value: that in the file, or the declared one if the file cannot be opened.

        Raises
        ------
        MissingAsset, UnreadableAsset, MissingHandler
            The file cannot be opened, and the declaration leaves lengths open.
        """
        return self._look()[0]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the elements of a value; see `shape`."""
        return self._look()[1]

    def load(self, seq_num: int) -> np.ndarray[Any, Any] | np.generic:
        """Read the value of one event, and nothing else.

        Raises
        ------
        UnknownDatum
            The event has no value.  It is also event-model's `UnresolvableForeignKeyError`.
        MissingAsset
            A file is not where its stream_resource says.
        UnreadableAsset
            A file cannot be read, or has fewer values than its stream_datum documents claim.
        MissingHandler
            Nothing reads files of this kind.

        Warns
        -----
        AssetWarning
            The value is not of the declared shape; this is said once a run and data key.
        """
        span = self._span_of(seq_num)
        index = span.index(seq_num)
        value: np.ndarray[Any, Any] | np.generic = self._read(span.resource, index, index + 1)[0]
        return value

    def read(self, seq_nums: Sequence[int]) -> np.ndarray[Any, Any]:
        """Read the values of several events, with one reading for those that follow each other.

        Parameters
        ----------
        seq_nums
            Of the events, in any order.

        Returns
        -------
        numpy.ndarray
            Of shape ``(n, *shape)``; of objects, one an event, if the values differ in shape.

        Raises
        ------
        UnknownDatum, MissingAsset, UnreadableAsset, MissingHandler
            As `load`.
        """
        if not len(seq_nums):
            return np.empty((0, *self.shape), self.dtype)
        parts = [self._read(*part) for part in self._runs(seq_nums)]
        if len({part.shape[1:] for part in parts}) > 1:
            return stacked([value for part in parts for value in part])
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def datum_of(self, seq_num: int) -> str:
        """Give the uid of the stream_datum that tells where an event's value is.

        Raises
        ------
        UnknownDatum
            The event has no value.
        """
        return self._span_of(seq_num).uid

    def files_of(self, resource_uid: str) -> list[str]:
        """Give the files of one of the stream_resources, where they should be now.

        Raises
        ------
        MissingHandler
            Nothing reads files of its mimetype.
        """
        return self._source(resource_uid).files() if resource_uid in self._parts else []

    def _span_of(self, seq_num: int) -> Span:
        span = self._spans.find(int(seq_num))
        if span is None:
            raise akin(UnknownDatum, "event_model", "UnresolvableForeignKeyError")(
                f"event {seq_num} has no value of {self.data_key!r}: no stream_datum speaks of it. "
                f"Those of these events are there: {_listed(self.seq_nums)}"
            )
        return span

    def _runs(self, seq_nums: Sequence[int]) -> list[tuple[str, int, int]]:
        """Give the resource and range of indices of each run of values that follow each other in a file."""
        parts: list[tuple[str, int, int]] = []
        for seq_num in seq_nums:
            span = self._span_of(seq_num)
            index = span.index(int(seq_num))
            if parts and parts[-1][0] == span.resource and parts[-1][2] == index:
                parts[-1] = (span.resource, parts[-1][1], index + 1)
            else:
                parts.append((span.resource, index, index + 1))
        return parts

    def _read(self, resource_uid: str, start: int, stop: int) -> np.ndarray[Any, Any]:
        chosen = self._source(resource_uid)
        values = chosen.read(start, stop)
        self._check(chosen, np.shape(values[0]))
        return values

    def _check(self, chosen: Source, shape: tuple[int, ...]) -> None:
        if chosen.agrees or self.data_key in self._warned:
            return
        self._warned.add(self.data_key)
        warn(
            f"the values of {chosen.resource.about} are of shape {shape}, and not "
            f"{chosen.declared.shape} as their descriptor declares; they are given as they are",
            AssetWarning,
        )

    def _source(self, resource_uid: str) -> Source:
        if (state := self.handlers.state()) != self._state:
            self._state, self._sources = state, {}  # what was learned of files may be true of others
        chosen = source(self._parts[resource_uid], self.handlers)
        known = self._sources.setdefault(resource_uid, chosen)
        if known.reader is not chosen.reader:
            known = self._sources[resource_uid] = chosen
        return known

    def _look(self) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Give shape and type: those of the file, which are looked up once for each reader."""
        want = declared(self._described, {})
        first = next(iter(self._spans), None)
        if first is None:
            return want.complete or (), want.dtype
        try:
            chosen = self._source(first.resource)
            if self._looked is None or self._looked[0] is not chosen:
                self._looked = chosen, chosen.look()
                self._check(chosen, self._looked[1][0])
            return self._looked[1]
        except FilebrokerError:
            want = self._parts[first.resource].declared
            if want.complete is None:
                raise
            return want.complete, want.dtype


def _listed(ranges: Sequence[range]) -> str:
    written = [f"{part.start} to {part.stop - 1}" if len(part) > 1 else str(part.start) for part in ranges[:5]]
    return (", ".join(written) + (", ..." if len(ranges) > 5 else "")) or "none"
