"""What is recorded for a store and is not all there yet: a catalog on the local disk.

It lies in the state directory of this user and never among the caches, because it holds the only copy of what was
acknowledged until that is up.
"""

import contextlib
import hashlib
import os
import re
import shutil
import socket
import stat
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

from filebroker.ground import codec, filesystem
from filebroker.ground.errors import StorageError
from filebroker.ground.locks import FileLock
from filebroker.storing import layout

#: Names another directory than the platform's own for staged runs.
VARIABLE = "FILEBROKER_STAGING"
_LABEL, _CONFLICTS, _GONE = "_store.json", "_conflicts", "_gone"
#: Where claims are kept, and runs until they are here as a whole.
CLAIMS, INCOMING = "_claims", "_incoming"
_LOST, _LOCK = ".lost", "_uploader.lock"
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


class Pending(NamedTuple):
    """What waits to be uploaded.

    Attributes
    ----------
    runs : int
        How many runs, live ones included.
    bytes : int
        How many bytes they have.
    """

    runs: int
    bytes: int

    def __str__(self) -> str:
        return f"{self.runs} run{'' if self.runs == 1 else 's'} ({self.bytes / 1e6:.1f} MB)"


class Waiting(NamedTuple):
    """What is staged for one store.

    Attributes
    ----------
    url : str
        The store.  Empty if the file that says so cannot be read.
    root : str
        The local path of the directory.
    host : str
        The name that the machine had which recorded it.
    pending : Pending
        What waits to be uploaded.
    is_listed : bool
        Whether files of the catalog itself wait as well: its marker, its list of runs.
    conflicts : list of str
        The paths of runs that cannot go up, because somebody else recorded their uids.
    """

    url: str
    root: str
    host: str
    pending: Pending
    is_listed: bool
    conflicts: list[str]


class Staging:
    """What is recorded for one store and is not all uploaded yet.

    Parameters
    ----------
    url
        The store's URL.
    place
        What distinguishes the store from others of that URL on other servers.

    Attributes
    ----------
    root : str
        Local path of the directory, which is laid out as a catalog.
    """

    def __init__(self, url: str, place: str = "") -> None:
        self.url = url.rstrip("/")
        key = hashlib.sha256((place or self.url).encode(errors="surrogatepass")).hexdigest()[:16]
        label = _UNSAFE.sub("-", self.url.rpartition("/")[2])[:40]
        self.root = os.path.join(_base(), f"{label}-{key}")

    @property
    def host(self) -> str:
        """The name that the machine had which recorded what is here."""
        return os.path.basename(os.path.dirname(self.root)).removesuffix(_user())

    def __repr__(self) -> str:
        return f"<Staging {self.url!r} in {self.root!r}>"

    def make(self) -> None:
        """Make the directory, for nobody but this user, unless it is there.

        Raises
        ------
        StorageError
            The filesystem refused, or others can write to what is there.
        """
        base = os.path.dirname(self.root)
        try:
            os.makedirs(os.path.dirname(base), exist_ok=True)
            for part in (base, self.root):
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, 0o700)
                    filesystem.sync_directory(os.path.dirname(part))
            public = [part for part in (base, self.root) if not _is_private(part)]
        except OSError as error:
            raise StorageError(
                error.errno,
                f"cannot make {self.root}, where runs for {self.url} are kept until they are uploaded: "
                f"{error.strerror}. {VARIABLE} can name another directory",
            ) from error
        if public:
            raise StorageError(
                f"{public[0]} belongs to somebody else or others can write to it, so no runs for {self.url} are kept "
                f"in it; make it yours alone (mode 0700), or name another directory with {VARIABLE}"
            )
        for name in (CLAIMS, _GONE):  # made now, because runs have to be able to leave when the disk is full
            filesystem.make_directory(self.path(name))
        if not os.path.exists(self.path(_LABEL)):
            self.remember(None)

    def remember(self, catalog_id: str | None) -> None:
        """Keep the id of the catalog that is recorded into, for when the store cannot be asked.

        Raises
        ------
        StorageError
            The filesystem refused.
        """
        filesystem.publish(self.path(_LABEL), codec.dumps({"url": self.url, "id": catalog_id}), sync=False)

    @property
    def catalog_id(self) -> str | None:
        """The id that was remembered, None if there is none."""
        found = _label_in(self.root).get("id")
        return found if isinstance(found, str) else None

    @property
    def uploader_lock(self) -> str:
        """Path of the file that is locked by who brings runs from here to the store or back."""
        return os.path.join(self.root, _LOCK)

    # -- what is there

    def path(self, name: str) -> str:
        """Give the local path of a name."""
        return os.path.join(self.root, name)

    def holds(self, name: str) -> bool:
        """Tell whether a name is to be read from here and not from the store.

        Parameters
        ----------
        name
            A name in the catalog.  All names in the directory of a run are where the run is.
        """
        directory = "/".join(name.split("/")[:4])
        if layout.is_run_path(directory):
            return os.path.isdir(self.path(directory))
        return os.path.isfile(self.path(name))

    def runs(self) -> list[str]:
        """Give the directories of the runs, oldest first."""
        return sorted(
            f"{year}/{month}/{day}/{run}"
            for year in self._names("", r"\d{4}")
            for month in self._names(year, r"\d\d")
            for day in self._names(f"{year}/{month}", r"\d\d")
            for run in self._names(f"{year}/{month}/{day}", r".+")
            if layout.is_run_directory(run)
        )

    def _names(self, name: str, pattern: str) -> list[str]:
        try:
            names = os.listdir(self.path(name))
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [item for item in names if re.fullmatch(pattern, item, re.DOTALL)]

    def files(self, directory: str) -> Iterator[str]:
        """Give the files below a directory, relative to it, but no temporary ones."""
        top = self.path(directory)
        for place, _, names in os.walk(top):
            for name in names:
                if not filesystem.is_temporary(name):
                    yield os.path.relpath(os.path.join(place, name), top).replace(os.sep, "/")

    def pending(self) -> Pending:
        """Count what waits to be uploaded."""
        runs, size = self.runs(), 0
        for run in runs:
            for name in self.files(run):
                with contextlib.suppress(FileNotFoundError):  # turned into pages meanwhile
                    size += os.path.getsize(self.path(f"{run}/{name}"))
        return Pending(len(runs), size)

    def waiting(self) -> Waiting:
        """Tell all that is here: what waits, and what cannot go up.

        Raises
        ------
        StorageError
            The directory cannot be listed.
        """
        try:
            rest = [name for name in (layout.MARKER, CLAIMS, layout.LEDGER) if any(self._below(name))]
            aside = [self.path(f"{_CONFLICTS}/{name}") for name in sorted(self._names(_CONFLICTS, r".+"))]
            return Waiting(self.url, self.root, self.host, self.pending(), bool(rest), aside)
        except OSError as error:
            raise StorageError(error.errno, f"cannot look at what is staged in {self.root}: {error}") from error

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits here."""
        found = self.waiting()
        return not (found.pending.runs or found.is_listed)

    def elsewhere(self) -> list[Waiting]:
        """Tell what this user has staged for the same store as another host: this machine may have been renamed.

        Raises
        ------
        StorageError
            A directory cannot be listed.
        """
        name = os.path.basename(self.root)
        found = [_staging_in(os.path.join(base, name)) for base in _bases() if base != os.path.dirname(self.root)]
        return [item.waiting() for item in found if item.runs()]

    def _below(self, name: str) -> Iterator[str]:
        """Give a file, or the files below a directory."""
        if os.path.isfile(self.path(name)):
            yield name
        yield from self.files(name)

    # -- claims: what says in the store that a run is recorded here

    def claim_of(self, directory: str) -> tuple[bytes, bool]:
        """Give what a run is claimed with in the store, the same each time, and whether it was made just now.

        Raises
        ------
        StorageError
            It cannot be kept.
        """
        path = self._claim_path(directory)
        if os.path.exists(path):
            return _read(path), False
        claim = self._locked_with(directory) or codec.dumps(
            {
                **{"directory": directory, "host": socket.gethostname(), "pid": os.getpid()},
                **{"since": datetime.now(UTC).isoformat(timespec="seconds"), "id": uuid.uuid4().hex},
            }
        )
        filesystem.make_directory(os.path.dirname(path))
        filesystem.publish(path, claim, sync=True)
        return claim, True

    def adopt(self, directory: str, claim: bytes) -> None:
        """Take over the claim of a run that was copied here from the store, as if its recorder had died here.

        Raises
        ------
        StorageError
            It cannot be kept.
        """
        for path in (self._claim_path(directory), self._lock_path(directory)):
            filesystem.make_directory(os.path.dirname(path))
            filesystem.publish(path, claim, sync=True)

    def _locked_with(self, directory: str) -> bytes:
        """Give the content of a run's lock file, nothing if it has none any more."""
        try:
            text = _read(self._lock_path(directory))
            return text if codec.loads(text)["directory"] == directory else b""
        except (OSError, ValueError, KeyError, TypeError):
            return b""

    def claimed(self) -> list[str]:
        """Give the directories of all runs that were claimed in the store, those that left staging included.

        Those that were about to come here from the store are left out: their claims are their writers'.
        """
        coming = self._names(INCOMING, r".+")
        places = [name.removesuffix(".json") for name in sorted(self._names(CLAIMS, r".+\.json"))]
        return [layout.run_path(place) for place in places if place not in coming]

    def lose(self, directory: str, reason: str) -> None:
        """Remember that a run cannot go up, because somebody else recorded its uid.

        Raises
        ------
        StorageError
            It cannot be kept.
        """
        path = self._claim_path(directory) + _LOST
        filesystem.make_directory(os.path.dirname(path))
        filesystem.publish(path, reason.encode(errors="replace"), sync=True)

    def loss_of(self, directory: str) -> str:
        """Give why a run cannot go up, empty if it can."""
        try:
            return _read(self._claim_path(directory) + _LOST).decode()
        except FileNotFoundError:
            return ""

    def forget_claim(self, directory: str) -> None:
        """Forget what was kept of a run's claim."""
        for suffix in (_LOST, ""):
            filesystem.remove(self._claim_path(directory) + suffix)

    def _claim_path(self, directory: str) -> str:
        return os.path.join(self.root, CLAIMS, f"{os.path.basename(directory)}.json")

    def _lock_path(self, directory: str) -> str:
        return os.path.join(self.root, layout.LIVE, layout.lock_name_of(directory))

    # -- runs that leave

    def remove(self, directory: str) -> bool:
        """Remove a run that is up; False if its recorder still works on it.

        Raises
        ------
        OSError
            The filesystem refused.
        """
        # Renamed first: to readers it is here all or not at all.
        is_gone = self._move(directory, os.path.join(self.root, _GONE, uuid.uuid4().hex))
        self.sweep()
        return is_gone

    def set_aside(self, directory: str) -> bool:
        """Move a run that cannot go up to where it is kept for good; False if its recorder still works on it.

        Raises
        ------
        OSError
            The filesystem refused.
        """
        target = self.place_aside(directory)
        return self._move(directory, f"{target}.{uuid.uuid4().hex[:8]}" if os.path.exists(target) else target)

    def place_aside(self, directory: str) -> str:
        """Give the path where a run is kept that cannot go up."""
        return os.path.join(self.root, _CONFLICTS, os.path.basename(directory))

    def _move(self, directory: str, target: str) -> bool:
        lock = FileLock(self._lock_path(directory))
        try:
            if not lock.acquire(create=False):
                return False
        except FileNotFoundError:
            pass  # its recorder is done with it
        try:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.rename(self.path(directory), target)
            lock.remove()
        finally:
            lock.release()
        self.forget_claim(directory)  # the directory of the day stays: the next run may be about to begin in it
        return True

    def sweep(self) -> None:
        """Delete what was moved aside to be deleted; also what a process that died left of it."""
        for name in self._names(_GONE, r".+"):
            shutil.rmtree(self.path(f"{_GONE}/{name}"), ignore_errors=True)


def waiting() -> list[Waiting]:
    """List what this user has staged on this machine, by store; stores for which there is nothing are left out.

    Raises
    ------
    StorageError
        A directory cannot be listed.
    """
    roots = [os.path.join(base, name) for base in _bases() for name in _listed(base)]
    found = [_staging_in(root).waiting() for root in roots if os.path.isdir(root)]
    return [item for item in found if item.pending.runs or item.is_listed or item.conflicts]


def _staging_in(root: str) -> Staging:
    """Give the staging of a directory; without a URL if that cannot be read."""
    staging = Staging(str(_label_in(root).get("url", "")))
    staging.root = root
    return staging


def _label_in(root: str) -> dict[str, Any]:
    """Give what a staging directory says of itself, nothing if that cannot be read."""
    try:
        label = codec.loads(_read(os.path.join(root, _LABEL)))
    except (OSError, ValueError):
        return {}
    return label if isinstance(label, dict) else {}


def _home() -> str:
    """Give the directory of what is staged by this user, whatever the machine was called."""
    chosen = os.environ.get(VARIABLE)
    if not chosen:
        import platformdirs

        chosen = os.path.join(platformdirs.user_state_dir("filebroker", appauthor=False), "staging")
    return os.path.abspath(os.path.expanduser(chosen))


def _user() -> str:
    return f"-{os.geteuid()}" if hasattr(os, "geteuid") else ""


def _base() -> str:
    """Give the directory of what is staged by this user on this machine."""
    return os.path.join(_home(), (_UNSAFE.sub("-", socket.gethostname()) or "host") + _user())


def _bases() -> list[str]:
    """Give the directories of all machines that have this user's home, this one's first."""
    others = [os.path.join(_home(), name) for name in _listed(_home()) if name.endswith(_user())]
    return [_base(), *(base for base in others if base != _base())]


def _listed(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StorageError(error.errno, f"cannot look at what is staged in {directory}: {error}") from error


def _is_private(directory: str) -> bool:
    """Tell whether a directory is this user's own, and nobody else can write to it."""
    status = os.lstat(directory)
    if not stat.S_ISDIR(status.st_mode):
        return False
    return not hasattr(os, "geteuid") or (status.st_uid == os.geteuid() and not status.st_mode & 0o022)


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
