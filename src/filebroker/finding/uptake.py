"""Uptake: what is new in the files of a ledger goes into the manifest, each line once."""

import contextlib
from collections.abc import Callable, Iterator, Mapping

from filebroker.finding.ledger import SNAPSHOTS, Ledger, Portion
from filebroker.finding.manifest import Manifest

#: Reads a file of a ledger from a byte on.
Read = Callable[[str, int], Portion]


class LedgerReplaced(Exception):
    """The ledger is another one than that which went into the manifest."""


class Uptake:
    """Reads a ledger into manifests.

    Parameters
    ----------
    ledger
        The ledger.

    Attributes
    ----------
    unfinished : set of str
        The files whose last lines were not whole yet.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.unfinished: set[str] = set()

    def fetch(self, files: Mapping[str, int], known: Mapping[str, int]) -> dict[str, Portion]:
        """Read what is new in a ledger in a store, at once.

        Parameters
        ----------
        files
            Its files, with their sizes in bytes.
        known
            The files that went into the manifest, with how many of their bytes.

        Raises
        ------
        StorageError
            One of them cannot be read: then nothing is taken in, rather than a part.
        """
        news = {name: _start(name, known) for name, size in files.items() if size != known.get(name, -1)}
        texts = self._ledger.fetch(news)
        portions = {}
        for name, start in news.items():
            with contextlib.suppress(FileNotFoundError):  # it was merged with others meanwhile
                portions[name] = self._ledger.read(name, start, texts.pop(name, None))
        return portions

    def take_in(self, manifest: Manifest, identity: str, files: Mapping[str, int]) -> list[str]:
        """Read what is new in the files of a ledger on a local disk into a manifest, and give what is damaged.

        Parameters
        ----------
        manifest
            The manifest.
        identity
            What it was when the files were listed.
        files
            The ledger's files, with their sizes in bytes.

        Raises
        ------
        FileNotFoundError
            The ledger or the manifest was replaced meanwhile; list its files again.
        """
        try:
            return self._add(manifest, identity, files, self._ledger.read)
        except LedgerReplaced:
            if self._ledger.files() != files:
                raise FileNotFoundError("the ledger changed while it was listed") from None
            return self._read_anew(manifest, identity, files, self._ledger.read)

    def take_in_fetched(
        self,
        manifest: Manifest,
        identity: str,
        files: Mapping[str, int],
        portions: Mapping[str, Portion],
        *,
        anew: bool,
    ) -> list[str]:
        """Do the same with what `fetch` gave of the files.

        Parameters
        ----------
        manifest, identity, files
            As for `take_in`.
        portions
            What was fetched.
        anew
            Forget what came from another ledger.

        Raises
        ------
        LedgerReplaced
            Everything has to be fetched, and taken in anew.
        FileNotFoundError
            The ledger or the manifest was replaced meanwhile; list its files again.
        """

        def read(name: str, start: int) -> Portion:
            if name not in portions:
                raise FileNotFoundError(f"{name} was merged with others meanwhile")
            return portions[name]

        return (self._read_anew if anew else self._add)(manifest, identity, files, read)

    def _add(self, manifest: Manifest, identity: str, files: Mapping[str, int], read: Read) -> list[str]:
        """Put what is new into a manifest."""
        known = manifest.sources()
        damage: list[str] = []
        covered: dict[str, int] = {}
        self.unfinished.clear()
        if any(size < known.get(name, 0) for name, size in files.items()):
            raise LedgerReplaced("files of the ledger are shorter than they were")
        # Snapshots first: a log that was merged into one need not be read.
        for name, size in sorted(files.items(), key=lambda item: not item[0].startswith(SNAPSHOTS)):
            if size != known.get(name, -1):
                if size <= covered.get(name, -1):
                    portion = Portion([], size, {name: size}, [])
                else:
                    portion = read(name, _start(name, known))  # before others have to wait
                    covered.update(portion.covers)
                with _writing_to(manifest, identity):
                    before, known = known.get(name), manifest.sources()
                    if known.get(name) == before:
                        damage += self._note(manifest, name, size, portion)
                    elif known.get(name, 0) < portion.end:  # else another process was faster
                        raise FileNotFoundError("the manifest was made anew meanwhile")
        # What was merged is known by now to be part of a snapshot.
        if manifest.uncovered(files):
            raise LedgerReplaced("files of the ledger are missing")
        return damage

    def _note(self, manifest: Manifest, name: str, size: int, portion: Portion) -> list[str]:
        """Put what was read of a file into the manifest, and give what is damaged."""
        try:
            problems = manifest.apply(portion.records, shared=True)
        except ValueError as error:
            problems = [str(error)]
        manifest.set_source(name, portion.end, portion.covers)
        if portion.end < size and not portion.damage:
            self.unfinished.add(name)
        damage = portion.damage + [f"{name}: {problem}" for problem in problems]
        if damage:
            manifest.suspect(True)
        return damage

    def _read_anew(self, manifest: Manifest, identity: str, files: Mapping[str, int], read: Read) -> list[str]:
        """Forget what came from another ledger, and read this one."""
        damage: list[str] = []
        with _writing_to(manifest, identity):
            manifest.forget()
            for name, size in files.items():
                damage += self._note(manifest, name, size, read(name, 0))
            manifest.suspect(True)
        return damage


def _start(name: str, known: Mapping[str, int]) -> int:
    """Give the byte to read a file of a ledger from: snapshots are read whole."""
    return 0 if name.startswith(SNAPSHOTS) else known.get(name, 0)


@contextlib.contextmanager
def _writing_to(manifest: Manifest, identity: str) -> Iterator[None]:
    """Write to a manifest if it is still that of an identity."""
    with manifest.writing():
        if manifest.identity() != identity:
            raise FileNotFoundError("the manifest was made anew meanwhile")
        yield
