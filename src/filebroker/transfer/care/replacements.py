"""Putting something whole in the place of damaged files, which are kept aside: any moment may be the last."""

import contextlib
import hashlib
import os
import shutil
import stat
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from filebroker.ground import filesystem
from filebroker.ground.documents import Document
from filebroker.ground.errors import DamagedRun, StorageError
from filebroker.ground.filesystem import Folder
from filebroker.storing import layout
from filebroker.storing.journal import decode_line, encode_line
from filebroker.storing.run_files import RunFiles
from filebroker.transfer.care.surroundings import ASIDE

#: What is about to be done, and the same once it was done, or was cut short before anything was replaced.
_PLAN, _RECEIPT, _CUT_SHORT = "plan.jsonl", "receipt.jsonl", "cut-short.jsonl"


class Replacement:
    """One repair of a run, or of a file: what is replaced, and where the originals are kept.

    The run is as it was until its ``documents.jsonl`` is replaced, and repaired from then on.

    Parameters
    ----------
    root
        Local path of the catalog.
    path
        The run's directory in it, or the file.

    Attributes
    ----------
    kept : str
        The directory in the catalog that has the originals.
    """

    def __init__(self, root: str, path: str) -> None:
        self.path = path
        self.kept = f"{ASIDE}/{path.rpartition('/')[2]}-{uuid.uuid4().hex[:8]}"
        self._root = root
        self._removed: Sequence[str] = ()

    def keep(self, names: Iterable[str]) -> None:
        """Keep files of the run; those that are no plain files are moved, because nothing can take their place."""
        for name in names:
            self._keep(os.path.join(self._root, self.path, name), name)

    def _keep(self, path: str, name: str) -> None:
        target = os.path.join(self._root, self.kept, name)
        with _refused(path):
            try:
                is_plain = stat.S_ISREG(os.lstat(path).st_mode)
            except FileNotFoundError:
                return
            os.makedirs(os.path.dirname(target), exist_ok=True)
            if not is_plain:
                os.rename(path, target)
            elif not os.path.lexists(target):
                _link(path, target)
            filesystem.sync_directory(os.path.dirname(target))

    def put(self, text: bytes, pages: Mapping[str, bytes], removed: Sequence[str], losses: Sequence[str]) -> None:
        """Seal the run anew.

        Parameters
        ----------
        text
            Its ``documents.jsonl``.
        pages
            The pages that are written, by their paths in the run.
        removed
            Its pages that are not part of it any more; `finish` moves them.
        losses
            What was lost, for the receipt.

        Raises
        ------
        StorageError
            The filesystem refused; the run is as it was.
        """
        directory = os.path.join(self._root, self.path)
        self.keep([layout.DOCUMENTS, *pages, *removed])
        self._removed = removed
        digest = hashlib.sha256(text).hexdigest()
        self.plan({"removed": list(removed), "losses": list(losses), "sha256": digest})
        for name, data in pages.items():
            filesystem.make_directory(os.path.dirname(os.path.join(directory, name)))
            filesystem.publish(os.path.join(directory, name), data, sync=True)
        filesystem.publish(os.path.join(directory, layout.DOCUMENTS), text, sync=True)

    def plan(self, doc: Document) -> None:
        """Write down what is about to be done."""
        moment = datetime.now(UTC).isoformat(timespec="seconds")
        filesystem.make_directory(os.path.join(self._root, self.kept))
        line = encode_line(0, "repair", {"run": self.path, "time": moment, **doc})
        filesystem.publish(os.path.join(self._root, self.kept, _PLAN), line, sync=True)

    def put_file(self, data: bytes) -> None:
        """Put a file in the place of one of the catalog; without data the place is left empty."""
        path = os.path.join(self._root, self.path)
        self._keep(path, self.path)
        self.plan({})
        if data:
            filesystem.publish(path, data, sync=True)
        else:
            filesystem.remove(path)
        self.finish()

    def put_below(self, name: str, pieces: Iterable[bytes]) -> None:
        """Put a file, which comes in pieces, in the place of one of the run that is named in no manifest."""
        self.keep([name])
        self.plan({})
        path = os.path.join(self._root, self.path, name)
        filesystem.make_directory(os.path.dirname(path))
        temporary = f"{path}.{uuid.uuid4().hex[:8]}.tmp"
        try:
            with _refused(path):
                with open(temporary, "wb") as file:
                    for piece in pieces:
                        file.write(piece)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, path)
                filesystem.sync_directory(os.path.dirname(path))
        finally:
            filesystem.remove(temporary)

    def finish(self) -> None:
        """Remove what is not part of the run any more, and is kept aside."""
        _remove(self._root, self.path, self.kept, self._removed)
        _close(self._root, self.kept, _RECEIPT)


def _link(path: str, target: str) -> None:
    """Keep a file under a second name, or copy it where that is not possible."""
    try:
        os.link(path, target, follow_symlinks=False)
    except (OSError, NotImplementedError):
        temporary = f"{target}.{uuid.uuid4().hex[:8]}.tmp"
        shutil.copy2(path, temporary)
        os.replace(temporary, target)


def _remove(root: str, path: str, kept: str, names: Iterable[str]) -> None:
    for name in names:
        if layout.is_page_path(name) and os.path.lexists(os.path.join(root, kept, name)):
            filesystem.remove(os.path.join(root, path, name))


def _close(root: str, kept: str, name: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.replace(os.path.join(root, kept, _PLAN), os.path.join(root, kept, name))


@contextlib.contextmanager
def _refused(path: str) -> Any:
    try:
        yield
    except OSError as error:
        raise StorageError(error.errno, f"cannot put {path} aside: {error.strerror or error}") from error


def finish_all(root: str, announce: Callable[[str], None]) -> None:
    """Finish repairs that were cut short.

    Parameters
    ----------
    root
        Local path of the catalog.
    announce
        Is told the directory of each run that is repaired now.
    """
    for name in sorted(os.listdir(os.path.join(root, ASIDE))):
        kept = f"{ASIDE}/{name}"
        doc = _read_plan(os.path.join(root, kept, _PLAN))
        if doc is None:
            continue
        path, removed = doc.get("run"), doc.get("removed")
        if isinstance(path, str) and isinstance(removed, list) and _is_done(root, path, doc):
            named = {entry["path"] for entry in RunFiles(Folder(root), path).files}
            _remove(root, path, kept, [page for page in removed if isinstance(page, str) and page not in named])
            announce(path)
            _close(root, kept, _RECEIPT)
        else:
            _close(root, kept, _CUT_SHORT)


def _read_plan(path: str) -> Document | None:
    try:
        with open(path, "rb") as file:
            doc = decode_line(file.read().rstrip(b"\n")).doc
    except (OSError, DamagedRun):
        return None
    return doc if isinstance(doc, dict) else None


def _is_done(root: str, path: str, doc: Document) -> bool:
    """Tell whether a run is as a plan says that it shall be."""
    if not layout.is_run_path(path):
        return False
    try:
        with open(os.path.join(root, path, layout.DOCUMENTS), "rb") as file:
            return hashlib.sha256(file.read()).hexdigest() == doc.get("sha256")
    except OSError:
        return False
