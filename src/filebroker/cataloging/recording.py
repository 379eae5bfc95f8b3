"""The way of documents into a catalog: to the recorder of the run that each belongs to."""

import os
import threading
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from time import monotonic, sleep
from typing import Any, Protocol

from filebroker.cataloging.replay import Replay
from filebroker.cataloging.run import Run
from filebroker.finding.database import patience
from filebroker.finding.library import Library
from filebroker.ground import codec, filesystem
from filebroker.ground.cautions import warn
from filebroker.ground.documents import check, describe, modernise
from filebroker.ground.errors import DamagedRun, DuplicateDocument, LedgerWarning, StorageError, UnknownRun
from filebroker.ground.filesystem import Folder
from filebroker.storing import layout
from filebroker.storing.journal import seal
from filebroker.storing.recorder import Recorder, Sync

#: So long the beginning of a run waits for others who use what is kept of the catalog on this machine.
_PATIENCE_SECONDS = 1.0
#: So long after a document it is assumed that another will come.
_BUSY_SECONDS = 2.0
#: So often a run that is being moved to a store is looked for.
_MOVING_SECONDS = 0.05


class Holdings(Protocol):
    """What a recording needs of the catalog."""

    @property
    def library(self) -> Library:
        """What is known of the runs."""

    def of_uid(self, uid: str) -> Run | None:
        """Give the run of a uid, None if there is none."""


class Recording:
    """The runs that are being recorded into one catalog.

    Parameters
    ----------
    root
        Local path that the runs are recorded to.
    begin
        Makes that a catalog.
    holdings
        Gives the run of a uid if the catalog has one, and the list of its runs.
    sync
        When documents are forced to the disk, see `Catalog`.
    limits
        Of a segment of a run, see `Recorder`.
    """

    def __init__(
        self, root: str, begin: Callable[[], None], holdings: Holdings, sync: Sync, limits: Mapping[str, int]
    ) -> None:
        self._limits = limits
        self._root, self._begin_catalog, self._holdings, self._sync = root, begin, holdings, sync
        # Who records the documents that name a run, descriptor or resource.
        self._owners: dict[str, Recorder | Replay] = {}
        self._begun: set[str] = set()
        self._mutex = threading.RLock()
        self._last = -_BUSY_SECONDS

    def insert(self, name: str, doc: Mapping[str, Any]) -> None:
        """Record a document; see `Catalog.insert`."""
        self._last = monotonic()
        if name == "event":  # the common case comes first and costs least
            try:
                owner = self._owners[doc["descriptor"]]
            except (KeyError, TypeError):
                owner = self._owner(name, doc)
            owner.insert(name, doc)
            return
        with self._mutex:
            if name in ("bulk_events", "bulk_datum"):
                check(name, doc)
                for part_name, part in modernise(name, doc):
                    self.insert(part_name, part)
            elif name == "start":
                self._begin(doc)
            else:
                self._go_on(name, doc)

    def _go_on(self, name: str, doc: Mapping[str, Any]) -> None:
        owner = self._owner(name, doc)
        try:
            owner.insert(name, doc)
            if "uid" in doc and name in ("descriptor", "resource", "stream_resource"):
                self._owners[doc["uid"]] = owner
        finally:
            if owner.stopped:
                for key in [key for key, value in self._owners.items() if value is owner]:
                    del self._owners[key]

    def _begin(self, start: Mapping[str, Any]) -> None:
        check("start", start)
        uid = start["uid"]
        owner = self._owners.get(uid)
        if isinstance(owner, Recorder):
            owner.insert("start", start)
            return
        self._begin_catalog()
        self._refuse_discarded(uid)
        with self._holdings.library.silence():
            recorded = self._find(uid) or self._find_here(start)
            if recorded is None and uid in self._begun:
                recorded = self._find_on_its_way(start)
        if recorded is not None and recorded.state == "live":
            raise DuplicateDocument(
                f"the run {uid!r} is being recorded by another process or another catalog object, in "
                f"{os.path.join(self._root, recorded.directory)}; only that one can go on. If its writer is gone, "
                "Catalog.seal_interrupted() seals it; if it is an object of this session, close() does"
            )
        if recorded is not None:
            self._owners[uid] = Replay(recorded.files, start)
            return
        recorder = Recorder(self._root, start, sync=self._sync, announce=self._announce, **self._limits)
        try:
            self._announce(recorder.name)
        except BaseException:
            recorder.abandon()
            raise
        self._owners[uid] = recorder
        self._begun.add(uid)

    def _refuse_discarded(self, uid: str) -> None:
        """Refuse a run that is in the trash; acquisition does not wait for those who read."""
        try:
            with patience(_PATIENCE_SECONDS):
                discarded = self._holdings.library.discarded(uid)
        except StorageError:  # what else is said of the run cannot be told now, and comes later
            return
        if discarded is not None:
            raise DuplicateDocument(f"{discarded.story}, so it is not recorded anew; Catalog.{discarded.remedy}")

    def _find(self, uid: str) -> Run | None:
        """Give the run of a uid if there is one; acquisition does not wait for those who read."""
        library = self._holdings.library
        try:
            with patience(_PATIENCE_SECONDS):
                # What was recorded here before may be in the store alone by now.
                if not library.is_cold or uid in self._begun:
                    return self._holdings.of_uid(uid)
                library.housekeeper.start()
                return None  # its directory tells as much of a run of the same start time
        except StorageError as error:
            warn(
                f"whether a run {uid!r} is there already cannot be seen now: {error}. It is recorded unless one of "
                "the same start time is there",
                LedgerWarning,
            )
            return None

    def _find_on_its_way(self, start: Mapping[str, Any]) -> Run | None:
        """Give a run that was recorded here, and is just being moved from this machine to the store."""
        deadline = monotonic() + _PATIENCE_SECONDS
        recorded = None
        while recorded is None and monotonic() < deadline:
            sleep(_MOVING_SECONDS)
            recorded = self._find(start["uid"]) or self._find_here(start)
        return recorded

    def _find_here(self, start: Mapping[str, Any]) -> Run | None:
        """Give the run that is in the very directory where one of this start document would be."""
        directory = layout.run_directory(start)
        if not os.path.isdir(os.path.join(self._root, directory)):
            return None
        try:
            return Run(Folder(self._root), directory)
        except (DamagedRun, StorageError):  # who records into it refuses, and says why
            return None

    def _announce(self, directory: str) -> None:
        """Put a run into the ledger as it is now."""
        library = self._holdings.library
        with patience(_PATIENCE_SECONDS), library.silence():
            library.record(directory, sync=self._sync != "never")

    @property
    def is_busy(self) -> bool:
        """Whether documents came in during the last seconds."""
        return monotonic() - self._last < _BUSY_SECONDS

    def _owner(self, name: str, doc: Mapping[str, Any]) -> Recorder | Replay:
        """Find the run that a document belongs to."""
        check(name, doc)
        for reference in ("run_start", "descriptor", "resource", "stream_resource"):
            if reference in doc:
                owner = self._owners.get(doc[reference])
                if owner is not None:
                    return owner
                raise UnknownRun(
                    f"the {describe(name, doc)} names the {reference} {doc[reference]!r}, which is no part of a run "
                    "being recorded here; insert a run's documents in order, its start document first"
                )
        # Before 2019 resources did not name their run.
        owners = list(self._owners.values())
        if not owners:
            raise UnknownRun(f"the {describe(name, doc)} names no run, and none is being recorded")
        return owners[-1]

    def close(self) -> None:
        """Stop recording; runs without a stop document are sealed when the catalog is next opened."""
        with self._mutex:
            for owner in set(self._owners.values()):
                if isinstance(owner, Recorder):
                    owner.close()
            self._owners.clear()


def mark(root: str) -> None:
    """Make a local folder a catalog unless it is one.

    Raises
    ------
    StorageError
        The filesystem refused.
    """
    if os.path.exists(os.path.join(root, layout.MARKER)):
        return
    filesystem.make_directory(root)
    filesystem.publish(os.path.join(root, layout.MARKER), new_marker(), sync=True)


def new_marker(**extra: Any) -> bytes:
    """Give the marker of a new catalog.

    Parameters
    ----------
    **extra
        What else it says.
    """
    marker = {
        **{"format": layout.FORMAT, "requires": [], "id": str(uuid.uuid4())},
        **{"created": datetime.now(UTC).isoformat(timespec="seconds")},
        **{"layout": "%Y/%m/%d/%Y%m%dT%H%M%S.%fZ-{uid}", **extra},
    }
    return seal(codec.dumps(marker)[:-1], b"")
