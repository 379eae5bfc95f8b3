"""The documents of a run as they are exported: narrowed, filled, or with the places of copied files."""

from collections.abc import Callable, Iterator

from filebroker.cataloging.external import ExternalView
from filebroker.ground.documents import Document, Pair, unpack_event_page
from filebroker.ground.errors import FilebrokerError
from filebroker.transfer.outgoing.copies import Copies
from filebroker.transfer.outgoing.job import Job
from filebroker.transfer.outgoing.narrowing import Narrowing


def documents(job: Job) -> Iterator[Pair]:
    """Give the documents of a run as they shall be exported.

    Parameters
    ----------
    job
        The run, and what of it is wanted.

    Yields
    ------
    tuple of str and dict
        In the order in which they were inserted.  If nothing is left out and files are only referred to, they are
        those of `Run.documents`.
    """
    narrow = _narrowing(job)
    copies = Copies(job) if job.images == "copy" else None
    fill = _Fill(job) if job.images == "convert" else None
    count = 0
    total = sum(len(job.run[name]) for name in job.run.stream_names)
    for name, doc in job.run.documents():
        kept = narrow(name, doc)
        if kept is None:
            continue
        if name in ("event", "event_page"):
            count += 1 if name == "event" else len(doc["seq_num"])
            job.progress("events", count, total)
            if fill is not None:
                yield from fill(name, kept)
                continue
        if copies is not None and name in ("resource", "stream_resource"):
            kept = copies.relocated(kept)
        yield name, kept


def _narrowing(job: Job) -> Callable[[str, Document], Document | None]:
    streams = job.streams
    if not job.is_narrowed:
        return lambda name, doc: doc
    return Narrowing(job.run, streams, job.asked_fields)


class _Fill:
    """Puts what is in files into the events; what cannot be read is a problem, and its reference stays."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._view: ExternalView | None = None
        for stream in job.streams:
            if not len(stream) and job.external.keys(stream):
                job.note(f"stream {stream.name!r} has its values in files alone, and no events to put them into")

    def __call__(self, name: str, doc: Document) -> Iterator[Pair]:
        view = self._view = self._view or self._job.external.view()
        events = unpack_event_page(doc) if name == "event_page" else [doc]
        if name == "event_page" and not any(map(view.sources, unpack_event_page(doc))):
            yield name, doc
            return
        for event in events:
            for key in view.sources(event, self._job.asked_fields):
                try:
                    event = view.fill(event, [key])
                except FilebrokerError as error:
                    self._job.problem(error, f"field {key!r}")
            yield "event", event
