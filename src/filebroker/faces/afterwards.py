"""After the run, as a broker offers it: annotations, and the trash."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from filebroker.cataloging.run import Run
from filebroker.cataloging.runs import Runs
from filebroker.faces.header import Header

if TYPE_CHECKING:
    from filebroker.cataloging.annotating import Trashed
    from filebroker.ground.documents import Document


class Afterwards:
    """The methods of a broker that say something of its runs afterwards."""

    if TYPE_CHECKING:
        _runs: Runs

    def annotate(
        self,
        headers: Any,
        comment: str | None = None,
        *,
        tags: str | Iterable[str] = (),
        remove_tags: str | Iterable[str] = (),
        author: str | None = None,
    ) -> None:
        """Say something of runs, in comments and tags, which searches find; see `Catalog.annotate`.

        Parameters
        ----------
        headers
            A header, a key such as -1, a scan_id or a uid, or several of these: the result of a search, for example.
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
        >>> db = temp()
        >>> db.insert("start", {"uid": "84d9ee44", "time": 1763821925.0})
        >>> db.annotate(-1, "use this one", tags=["good", "paper"], author="chen")
        >>> [header.tags for header in db("paper")]
        [['good', 'paper']]
        >>> db.close()
        """
        catalog, runs = self._runs.catalog, self._meant(headers)
        catalog.annotate(runs, comment, tags=tags, remove_tags=remove_tags, author=author)

    def trash(self, headers: Any, reason: str | None = None, *, author: str | None = None) -> None:
        """Hide runs, as if they were not there; see `Catalog.trash`.

        Parameters
        ----------
        headers, author
            As for `annotate`.
        reason
            Why.

        Raises
        ------
        ReadOnlyCatalog, RunNotFound, InvalidOption, StorageError
            As for `annotate`.

        Examples
        --------
        >>> from filebroker import temp
        >>> db = temp()
        >>> db.insert("start", {"uid": "84d9ee44", "time": 1763821925.0})
        >>> db.trash("84d9ee44", "the shutter was closed", author="chen")
        >>> len(db())
        0
        >>> db.close()
        """
        self._runs.catalog.trash(self._meant(headers), reason, author=author)

    def trashed(self) -> "list[Trashed]":
        """List the runs in the trash; see `Catalog.trashed`.

        Examples
        --------
        >>> from filebroker import Broker
        >>> Broker.named("example").trashed()
        []
        """
        return self._runs.catalog.trashed()

    def restore(self, uid: str, *, author: str | None = None) -> None:
        """Bring a run back from the trash; see `Catalog.restore`.

        Parameters
        ----------
        uid
            Its uid, or the beginning of it.
        author
            As for `annotate`.

        Raises
        ------
        RunNotFound
            It is not in the trash, or was removed for good.
        ReadOnlyCatalog, StorageError
            As for `annotate`.

        Examples
        --------
        >>> from filebroker import temp
        >>> db = temp()
        >>> db.insert("start", {"uid": "84d9ee44", "time": 1763821925.0})
        >>> db.trash("84d9ee44", author="chen")
        >>> db.restore("84d9ee44", author="chen")
        >>> db["84d9ee44"].start["time"]
        1763821925.0
        >>> db.close()
        """
        self._runs.catalog.restore(uid, author=author)

    def purge(self, uid: str, *, author: str | None = None) -> "Document":
        """Remove a run in the trash for good, and give the receipt; see `Catalog.purge`.

        Parameters
        ----------
        uid
            Its whole uid.
        author
            As for `annotate`.

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
        >>> from filebroker import Broker, temp
        >>> db, example = temp(), Broker.named("example")
        >>> example.export(example[-1], db)
        []
        >>> uid = db[-1].uid
        >>> db.trash(uid, author="chen")
        >>> receipt = db.purge(uid, author="chen")
        >>> receipt["files"]
        ['baseline/00000.parquet', 'documents.jsonl', 'primary/00000.parquet']
        """
        return self._runs.catalog.purge(uid, author=author)

    def _meant(self, headers: Any) -> list[Run]:
        """Give the runs that headers or keys stand for."""
        if isinstance(headers, Header):
            return [headers._run]
        if isinstance(headers, str | bytes) or not isinstance(headers, Iterable):
            return [self._runs.lookup(headers)]
        return [run for item in headers for run in self._meant(item)]
