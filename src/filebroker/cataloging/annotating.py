"""After the run: annotations, and the trash."""

import os
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from filebroker.cataloging import purging
from filebroker.cataloging.run import Run
from filebroker.cataloging.runs import Runs
from filebroker.finding import notes
from filebroker.finding.manifest import Manifest
from filebroker.finding.noted import Discarded
from filebroker.finding.notes import NOTE, PURGE, RESTORE, TRASH, Note
from filebroker.ground import filesystem
from filebroker.ground.documents import Document
from filebroker.ground.errors import (
    InvalidOption,
    ReadOnlyCatalog,
    RunNotFound,
    StorageError,
)
from filebroker.ground.filesystem import Folder
from filebroker.storing import layout

if TYPE_CHECKING:
    from filebroker.finding.library import Library

#: So many files are listed in a receipt.
_LISTED_FILES = 10_000


class Trashed(NamedTuple):
    """A run in the trash.

    Attributes
    ----------
    uid : str
        Its uid.
    author, time, reason
        Who put it there, when (in seconds since 1970), and why (None if they did not say).
    start : dict
        Its start document, empty if that is not known.
    directory : str
        Its directory in the catalog.
    purged : dict or None
        The receipt of its removal, if that was begun: ``author``, ``time``, ``files`` and ``bytes``.

    Examples
    --------
    >>> from filebroker import temp
    >>> db = temp()
    >>> db.insert("start", {"uid": "84d9ee44", "time": 1763821925.0})
    >>> db.close()
    >>> db.trash("84d9ee44", "the shutter was closed", author="chen")
    >>> (found,) = db.trashed()
    >>> found.uid, found.author, found.reason
    ('84d9ee44', 'chen', 'the shutter was closed')
    """

    uid: str
    author: str
    time: float
    reason: str | None
    start: Document
    directory: str
    purged: Document | None


class Annotating(Runs):
    """The methods of a catalog that say something of its runs afterwards."""

    folder: Folder
    read_only: bool

    if TYPE_CHECKING:

        @property
        def library(self) -> "Library":
            """What is known of the runs."""

    # -- annotations

    def annotate(
        self,
        runs: Any,
        comment: str | None = None,
        *,
        tags: str | Iterable[str] = (),
        remove_tags: str | Iterable[str] = (),
        author: str | None = None,
    ) -> None:
        """Say something of runs: in comments and tags, which searches find.

        Each call adds a file and changes none, so nobody can overwrite what another one says.

        Parameters
        ----------
        runs
            A run, a key as for `lookup`, or several of these.
        comment
            Any text.
        tags
            Words, or a single one.
        remove_tags
            Those that shall not count any more, whoever added them.
        author
            Who says it; by default FILEBROKER_AUTHOR, else the name of the login.

        Raises
        ------
        ReadOnlyCatalog
            The catalog was opened for reading.
        RunNotFound
            There is no such run.
        InvalidOption
            There is nothing to say, or something is no text.
        StorageError
            The filesystem refused, or the store cannot be reached; nothing was said.

        Examples
        --------
        >>> from filebroker import temp
        >>> catalog = temp().catalog
        >>> catalog.insert("start", {"uid": "84d9ee44", "time": 1763821925.0})
        >>> catalog.annotate("84d9ee44", "use this one", tags=["good"], author="chen")
        >>> [run.uid for run in catalog.search(text="good")]
        ['84d9ee44']
        >>> catalog.close()
        """
        doc: Document = {} if comment is None else {"comment": notes.check_text("the comment", comment)}
        for key, values in (("tags", tags), ("removed_tags", remove_tags)):
            if checked := _checked_tags(values):
                doc[key] = checked
        if not doc:
            raise InvalidOption("there is nothing to say; give a comment, tags, or tags to remove")
        self._note(NOTE, self._found(runs), doc, author)

    def annotations(self, run: Any) -> list[Document]:
        """Give what was said of a run.

        Parameters
        ----------
        run
            A run, or a key as for `lookup`.

        Returns
        -------
        list of dict
            Each with ``author``, ``time`` (seconds since 1970), ``comment`` (None if there is none) and ``tags``,
            oldest first.  Tags that were removed are in none.

        Raises
        ------
        RunNotFound
            There is no such run.

        Examples
        --------
        >>> from filebroker import temp
        >>> catalog = temp().catalog
        >>> catalog.insert("start", {"uid": "84d9ee44", "time": 1763821925.0})
        >>> catalog.annotate("84d9ee44", "use this one", tags=["good"], author="chen")
        >>> [(item["author"], item["comment"], item["tags"]) for item in catalog.annotations("84d9ee44")]
        [('chen', 'use this one', ['good'])]
        >>> catalog.close()
        """
        found = run if isinstance(run, Run) else self.lookup(run)
        self.library.sync()
        return self.library.ask(Manifest.annotations_at, found.directory)

    # -- the trash

    def trash(self, runs: Any, reason: str | None = None, *, author: str | None = None) -> None:
        """Hide runs, as if they were not there; `restore` brings them back.

        Nothing of them is removed.

        Parameters
        ----------
        runs
            A run, a key as for `lookup`, or several of these.
        reason
            Why.
        author
            As for `annotate`.

        Raises
        ------
        ReadOnlyCatalog, RunNotFound, InvalidOption, StorageError
            As for `annotate`.

        Examples
        --------
        >>> from filebroker import temp
        >>> catalog = temp().catalog
        >>> catalog.insert("start", {"uid": "84d9ee44", "time": 1763821925.0})
        >>> catalog.trash("84d9ee44", "the shutter was closed", author="chen")
        >>> len(catalog)
        0
        >>> catalog.close()
        """
        doc = {} if reason is None else {"reason": notes.check_text("the reason", reason)}
        self._note(TRASH, self._found(runs), doc, author)

    def trashed(self) -> list[Trashed]:
        """List the runs in the trash, those first that came there last.

        Those of which nothing is left are not among them.

        Examples
        --------
        >>> from filebroker import Broker
        >>> Broker.named("example").catalog.trashed()
        []
        """
        self.library.sync()
        found = self.library.ask(Manifest.discarded)
        return [_trashed(item) for item in found if item.is_known or self.folder.exists(item.path)]

    def restore(self, uid: str, *, author: str | None = None) -> None:
        """Bring a run back from the trash.

        Parameters
        ----------
        uid
            Its uid, or the beginning of it.
        author
            As for `annotate`.

        Raises
        ------
        RunNotFound
            It is not in the trash, or was removed for good and only a part is left of it.
        ReadOnlyCatalog, StorageError
            As for `annotate`.

        Examples
        --------
        >>> from filebroker import temp
        >>> catalog = temp().catalog
        >>> catalog.insert("start", {"uid": "84d9ee44", "time": 1763821925.0})
        >>> catalog.trash("84d9ee44", "the shutter was closed", author="chen")
        >>> catalog.restore("84d9ee44", author="chen")
        >>> len(catalog)
        1
        >>> catalog.close()
        """
        self._check_writable()
        item = self._in_trash(uid)
        if item.mark["purge"] is not None and purging.is_partial(self.folder, item.path):
            raise RunNotFound(f"{item.story}; only a part is left of it. purge({item.uid!r:.200}) removes the rest")
        self._note(RESTORE, [(item.path, item.uid)], {}, author)
        purging.bring_back(self.folder, item.path)
        self.library.look_at(item.path)

    def purge(self, uid: str, *, author: str | None = None) -> Document:
        """Remove a run in the trash for good, and keep a receipt.

        This cannot be undone.  It asks nothing: the command ``filebroker purge`` does.  External files that the run
        refers to are not touched.  When it is killed, the run stays in the trash, and a repetition finishes.

        Parameters
        ----------
        uid
            Its whole uid.
        author
            As for `annotate`.

        Returns
        -------
        dict
            The receipt: ``run``, ``uid``, ``author``, ``time``, ``files`` and ``bytes``.

        Raises
        ------
        RunNotFound
            It is not in the trash.
        NotSupported
            It is still being recorded, or its directory is a link.
        ReadOnlyCatalog, StorageError
            As for `annotate`.

        Examples
        --------
        >>> from filebroker import temp
        >>> catalog = temp().catalog
        >>> catalog.insert("start", {"uid": "84d9ee44", "time": 1763821925.0})
        >>> catalog.insert("stop", {"uid": "5cc1", "time": 1763821926.0, "run_start": "84d9ee44",
        ...                         "exit_status": "abort"})
        >>> catalog.trash("84d9ee44", "the shutter was closed", author="chen")
        >>> catalog.purge("84d9ee44", author="chen")["files"]
        ['documents.jsonl']
        """
        self._check_writable()
        item = self._in_trash(uid, is_whole=True)
        self.library.look_at(item.path)
        purging.check(self.folder, item.path)
        if item.mark["purge"] is None:
            sizes = purging.sizes(self.folder, item.path)
            contents = {"files": sorted(sizes)[:_LISTED_FILES], "bytes": sum(sizes.values())}
            self._note(PURGE, [(item.path, item.uid)], contents, author)
        receipt: Document = self._in_trash(uid, is_whole=True).mark["purge"]  # somebody may have restored it meanwhile
        is_removed = purging.remove(self.folder, item.path, lambda: self._is_purged(uid))
        self.library.look_at(item.path)
        if not is_removed:
            raise RunNotFound(f"the run {uid!r:.200} was restored by somebody else meanwhile; nothing was removed")
        return receipt

    def was_purged(self, uid: str) -> bool:
        """Tell whether a run was removed for good, so that nothing is left of it but the receipt.

        Parameters
        ----------
        uid
            Its whole uid.

        Examples
        --------
        >>> from filebroker import Broker
        >>> Broker.named("example").catalog.was_purged("0a00d92c-cc6c-493b-b077-dc52149005ab")
        False
        """
        self.library.sync()
        found = self.library.ask(Manifest.discarded_like, uid)
        return any(item.uid == uid and item.mark["purge"] and not self.folder.exists(item.path) for item in found)

    def _is_purged(self, uid: str) -> bool:
        """Tell whether a run is still one that is to be removed for good."""
        try:
            return self._in_trash(uid, is_whole=True).mark["purge"] is not None
        except RunNotFound:
            return False

    def bytes_in_trash(self, uid: str) -> int:
        """Give how many bytes the files of a run in the trash have.

        Parameters
        ----------
        uid
            Its uid, or the beginning of it.

        Raises
        ------
        RunNotFound
            It is not in the trash.
        StorageError
            Its files cannot be listed.

        Examples
        --------
        >>> from filebroker import temp
        >>> catalog = temp().catalog
        >>> catalog.insert("start", {"uid": "84d9ee44", "time": 1763821925.0})
        >>> catalog.trash("84d9ee44", author="chen")
        >>> catalog.bytes_in_trash("84d9ee44")
        194
        >>> catalog.close()
        """
        return sum(purging.sizes(self.folder, self._in_trash(uid).path).values())

    def _in_trash(self, uid: str, *, is_whole: bool = False) -> Discarded:
        """Give a run in the trash.

        Raises
        ------
        RunNotFound
            There is none of this uid, or several whose uids begin so.
        """
        notes.check_text("the uid", uid)
        self.library.note_files.forget()  # what others did a moment ago counts
        self.library.sync()
        found = self.library.ask(Manifest.discarded_like, uid)
        exact = [item for item in found if item.uid == uid]
        if len(exact) == 1 or (len(found) == 1 and not is_whole):
            return (exact or found)[0]
        if len(found) == 1:
            raise RunNotFound(f"give the whole uid to purge a run: {found[0].uid!r:.200} begins with {uid!r:.200}")
        if found:
            listed = ", ".join(f"{item.uid!r:.200}" for item in found[:10])
            raise RunNotFound(f"several runs in the trash have a uid that begins with {uid!r:.200}: {listed}")
        raise RunNotFound(f"no run in the trash of {self.place} has a uid that begins with {uid!r:.200}")

    # -- writing notes

    def _found(self, runs: Any) -> list[tuple[str, str]]:
        """Give the directories and uids of runs that are given as such, or by keys."""
        if isinstance(runs, Mapping | bytes) or runs is None:
            raise InvalidOption(f"{runs!r:.100} is no run; give runs, or their uids")
        several = [runs] if isinstance(runs, Run | str) or not isinstance(runs, Iterable) else list(runs)
        found = [run if isinstance(run, Run) else self.lookup(run) for run in several]
        for run in found:
            if run.folder.place != self.folder.place:
                raise InvalidOption(
                    f"the run {run.uid!r:.200} is one of {run.folder.url}, and not of {self.folder.url}"
                )
        return list(dict.fromkeys((run.directory, run.uid) for run in found))

    def _check_writable(self) -> None:
        """Refuse a catalog that cannot be written to.

        Raises
        ------
        ReadOnlyCatalog
            It was opened for reading, or is a web page or an archive.
        """
        if self.read_only:
            raise ReadOnlyCatalog(f"the catalog {self.folder.url} was opened for reading; nothing can be said of runs")
        if self.folder.remote is not None and not self.folder.remote.store.is_writable:
            raise ReadOnlyCatalog(f"nothing can be written to {self.folder.url}; annotate the catalog it is a copy of")

    def _note(self, kind: str, runs: list[tuple[str, str]], contents: Document, author: str | None) -> None:
        """Write notes of one kind on some runs."""
        self._check_writable()
        if not runs:
            return
        who = _author(author)
        if kind != NOTE and self.folder.remote is not None:
            self.library.note_files.forget()  # what others did a moment ago counts
        self.library.sync()
        known = [note.time for path, _ in runs for note in self.library.ask(Manifest.notes_at, path)]
        when = notes.time_after(time.time(), known)
        docs = [{"run": path, "uid": uid, "author": who, "time": when, **contents} for path, uid in runs]
        for name, data in notes.encode([Note(kind, doc) for doc in docs]):
            self._publish(f"{layout.NOTES}/{name}", data)
            self.library.add_notes(name, data)

    def _publish(self, name: str, data: bytes) -> None:
        if self.folder.remote is not None:
            if not self.folder.remote.create(name, data):
                raise StorageError(f"{self.folder.path(name)} was there already; try again")
            return
        directory = self.folder.path(layout.NOTES)
        is_new = not os.path.isdir(directory)
        filesystem.make_directory(directory)
        filesystem.publish(self.folder.path(name), data, sync=True)
        if is_new:
            filesystem.sync_path(self.folder.path(""), directory)


def _checked_tags(values: str | Iterable[str]) -> list[str]:
    several = [values] if isinstance(values, str) else values
    if not isinstance(several, Iterable):
        raise InvalidOption(f"{several!r:.100} are no tags; give words")
    return list(dict.fromkeys(notes.check_text("a tag", tag, longest=notes.MAX_NAME) for tag in several))


def _author(given: str | None) -> str:
    """Give the name of who makes a note.

    Raises
    ------
    InvalidOption
        Nobody knows.
    """
    name = given if given is not None else os.environ.get("FILEBROKER_AUTHOR") or None
    if name is None:
        import getpass

        try:
            name = getpass.getuser()
        except (KeyError, OSError, ImportError) as error:
            raise InvalidOption("nobody knows who you are; give author=, or set FILEBROKER_AUTHOR") from error
    return notes.check_text("the author", name, longest=notes.MAX_NAME)


def _trashed(item: Discarded) -> Trashed:
    mark = item.mark
    return Trashed(item.uid, mark["author"], mark["time"], mark["reason"], item.start, item.path, mark["purge"])
