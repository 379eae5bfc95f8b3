"""A recorded run whose documents are inserted again: what is the same is passed over."""

from collections.abc import Mapping
from typing import Any

from filebroker.ground import codec
from filebroker.ground.documents import check, describe, unpack_event_page
from filebroker.ground.errors import DuplicateDocument
from filebroker.ground.lazy import cached_property
from filebroker.storing.run_files import RunFiles


class Replay:
    """Compares the documents of a run with those recorded.

    Inserting a recorded run again, as a message queue or a repeated import does, changes nothing.

    Parameters
    ----------
    files
        The recorded run.
    start
        The start document that was inserted again.

    Raises
    ------
    DuplicateDocument
        The start document differs from the recorded one.
    """

    def __init__(self, files: RunFiles, start: Mapping[str, Any]) -> None:
        self.uid: str = start["uid"]
        self._files = files
        self.stopped = False
        if codec.canonical(files.start) != codec.canonical(start):
            raise DuplicateDocument(
                f"a run {self.uid!r} is recorded already, with another start document, in "
                f"{files.folder.path(files.directory)}; a recorded run never changes"
            )

    def insert(self, name: str, doc: Mapping[str, Any]) -> None:
        """Pass over a document that is recorded.

        Raises
        ------
        DuplicateDocument
            The document differs from the recorded one, or is not recorded.
        """
        check(name, doc)
        for kind, part in _parts(name, doc):
            recorded = self._recorded.get(_identity(kind, part))
            if recorded != codec.canonical(part):
                difference = "differs from the recorded one" if recorded else "is not among its documents"
                state = " It was interrupted when it was recorded." if self._files.state == "interrupted" else ""
                raise DuplicateDocument(
                    f"run {self.uid!r} is recorded and closed, and the {describe(name, doc)} {difference}.{state} "
                    "Insert it as part of a new run"
                )
        self.stopped = name == "stop"

    @cached_property
    def _recorded(self) -> dict[tuple[str, str], bytes]:
        return {
            _identity(kind, part): codec.canonical(part)
            for name, doc in self._files.documents()
            for kind, part in _parts(name, doc)
        }


def _parts(name: str, doc: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    if name == "event_page":
        return [("event", event) for event in unpack_event_page(doc)]
    return [(name, doc)]


def _identity(name: str, doc: Mapping[str, Any]) -> tuple[str, str]:
    return name, str(codec.plain(doc.get("uid", doc.get("datum_id"))))
