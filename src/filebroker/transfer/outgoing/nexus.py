"""Runs as NeXus: HDF5 files that h5web, silx and others plot without being told how."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from filebroker.ground import codec
from filebroker.ground.documents import Document, mapping_or_empty
from filebroker.ground.packages import need
from filebroker.transfer.outgoing.hdf5 import new_file, nexus_name, put_value, set_attributes, text_of
from filebroker.transfer.outgoing.hints import devices, hinted_fields, scanned_fields, texts
from filebroker.transfer.outgoing.job import Job
from filebroker.transfer.outgoing.nexus_streams import NexusStream
from filebroker.transfer.packs.assets import assets_of

#: Groups of the entry that no stream's can have the name of.
_GROUPS = ("bluesky", "instrument", "sample", "external_files")
_FIELDS = ("title", "entry_identifier", "start_time", "end_time", "duration", "program_name", "scan_command")


def write(job: Job) -> None:
    """Write a run to one NeXus file.

    Parameters
    ----------
    job
        The run.

    Raises
    ------
    AssetExists, StorageError
        As for `Target.path`.

    Notes
    -----
    The file has one NXentry.  In it is an NXdata for each stream, with all its fields; an NXinstrument with the
    devices and their configuration; and an NXcollection ``bluesky`` with the documents.
    """
    name = job.file_name(".nxs")
    with job.target.path(name) as path, new_file(path) as (file, check):
        _write_root(file, name)
        _NexusEntry(job, _group(file, "entry", "NXentry"), check).write()


def _write_root(file: Any, name: str) -> None:
    told = {"NX_class": "NXroot", "default": "entry", "file_name": name, "file_time": datetime.now(UTC).isoformat()}
    versions = {"HDF5_Version": need("h5py").version.hdf5_version, "h5py_version": need("h5py").version.version}
    set_attributes(file, {**told, "creator": "filebroker", "creator_version": version("filebroker"), **versions})


def _group(parent: Any, name: str, kind: str) -> Any:
    group = parent.create_group(name, track_order=True)
    group.attrs["NX_class"] = kind
    return group


class _NexusEntry:
    """The entry of a run.

    Parameters
    ----------
    job
        The run.
    group
        The group of the entry.
    check
        Raises an `OSError` if nothing that is written arrives any more.
    """

    def __init__(self, job: Job, group: Any, check: Callable[[], None]) -> None:
        self._job, self._group, self._check = job, group, check
        self._start, self._stop = job.run.start, job.run.stop
        self._streams: list[NexusStream] = []

    def write(self) -> None:
        """Write all of it."""
        self._write_metadata()
        for stream in sorted(self._job.streams, key=lambda stream: stream.name != "primary"):
            name = nexus_name(stream.name, (*_GROUPS, *_FIELDS, *self._group))
            group = _group(self._group, name, "NXdata")
            set_attributes(group, {"stream": stream.name if stream.name != name else None})
            written = NexusStream(self._job, stream, group, self._check)
            self._streams.append(written)
            written.write()
            if "signal" in group.attrs and "default" not in self._group.attrs:
                self._group.attrs["default"] = name
        self._write_instrument()
        self._write_sample()
        self._write_documents()
        if self._job.images != "convert":
            self._write_file_names()

    def _write_metadata(self) -> None:
        start = self._start
        plan = start.get("plan_name", "run")
        title = start.get("title") or f"{plan} {start.get('scan_id', '')}".strip()
        put_value(self._group, "title", text_of(title))
        put_value(self._group, "entry_identifier", start["uid"])
        put_value(self._group, "program_name", "bluesky")
        put_value(self._group, "scan_command", text_of(plan))
        for name, doc in (("start_time", start), ("end_time", self._stop)):
            if doc is not None and (time := _iso(doc["time"])):
                put_value(self._group, name, time)
        if self._stop is not None:
            put_value(self._group, "duration", float(self._stop["time"]) - float(start["time"]), units="s")

    # -- the instrument

    def _write_instrument(self) -> None:
        instrument = _group(self._group, "instrument", "NXinstrument")
        groups: dict[str, Any] = {}
        for written in self._streams:
            for descriptor in written.stream.descriptors:
                for device, keys in devices(descriptor).items():
                    fields = [key for key in keys if key in written.fields]
                    if not fields:
                        continue
                    if device not in groups:
                        kind = self._kind_of(device, fields, written)
                        groups[device] = _group(instrument, nexus_name(device, instrument), kind)
                        self._link_main(groups[device], device, fields, written)
                        self._write_configuration(groups[device], device, descriptor)
                    self._link(groups[device], fields, written)

    def _kind_of(self, device: str, fields: list[str], written: NexusStream) -> str:
        moved = {*scanned_fields(self._start, written.stream.name), *texts(self._start.get("motors"))}
        has_setpoint = any(key.endswith("_setpoint") for key in fields)
        if device in moved or moved.intersection(fields) or has_setpoint:
            return "NXpositioner"
        return "NXcollection" if written.stream.name == "baseline" else "NXdetector"

    @staticmethod
    def _link_main(group: Any, device: str, fields: list[str], written: NexusStream) -> None:
        """Link the field that people mean by the device: what is hinted, or has its name, or comes first."""
        hinted = [key for key in hinted_fields(written.stream) if key in fields]
        images = [key for key in fields if written.fields[key].data.ndim > 2]
        kind = group.attrs["NX_class"]
        likely = [
            *(images if kind == "NXdetector" else ()),
            *hinted,
            *(key for key in fields if key == device),
            *fields,
        ]
        if kind in ("NXpositioner", "NXdetector"):
            group["value" if kind == "NXpositioner" else "data"] = written.fields[likely[0]].data

    @staticmethod
    def _link(group: Any, fields: Iterable[str], written: NexusStream) -> None:
        for key in fields:
            data = written.fields[key].data
            name = str(data.name).rpartition("/")[2]
            if name in group:
                name = nexus_name(f"{name}_{written.stream.name}", group)
            group[name] = data
            data.attrs["target"] = data.name

    @staticmethod
    def _write_configuration(group: Any, device: str, descriptor: Document) -> None:
        known = mapping_or_empty(mapping_or_empty(descriptor.get("configuration")).get(device))
        values, declared = mapping_or_empty(known.get("data")), mapping_or_empty(known.get("data_keys"))
        if not values:
            return
        configuration = _group(group, nexus_name("configuration", group), "NXcollection")
        for key, value in values.items():
            name = nexus_name(key, configuration)
            put_value(configuration, name, value, units=mapping_or_empty(declared.get(key)).get("units"))

    # -- what else is known

    def _write_sample(self) -> None:
        sample = self._start.get("sample")
        name = sample if isinstance(sample, str) else mapping_or_empty(sample).get("name")
        if isinstance(name, str) and name:
            put_value(_group(self._group, "sample", "NXsample"), "name", name)

    def _write_documents(self) -> None:
        """Write the documents twice: their keys to be looked at, and as JSON, which loses nothing."""
        group = _group(self._group, "bluesky", "NXcollection")
        descriptors = [doc for written in self._streams for doc in written.stream.descriptors]
        for name, doc in (("start", self._start), ("stop", self._stop)):
            if doc is not None:
                self._write_json(group, f"{name}_document", doc)
                keys = _group(group, name, "NXcollection")
                for key, value in doc.items():
                    put_value(keys, nexus_name(key, keys), value)
        self._write_json(group, "descriptor_documents", descriptors)

    @staticmethod
    def _write_json(group: Any, name: str, value: Any) -> None:
        put_value(group, name, text_of(codec.dumps(value).decode()), encoding="json")

    def _write_file_names(self) -> None:
        """Write where the files are that the run refers to."""
        found = assets_of(self._job.run, self._job.handlers)
        if not found.files and not found.missing:
            return
        group = _group(self._group, "external_files", "NXcollection")
        copied = self._job.file_name("_files") if self._job.images == "copy" else None
        paths = [file.path if copied is None else f"{copied}/{file.name}" for file in found.files]
        for name, listed in (("files", paths), ("missing", [file.path for file in found.missing])):
            if listed:
                put_value(group, name, listed)


def _iso(time: Any) -> str:
    """Give a time in ISO 8601, in UTC; nothing for one that no calendar has."""
    try:
        return datetime.fromtimestamp(float(time), UTC).isoformat()
    except (TypeError, ValueError, OverflowError, OSError):
        return ""
