"""Uptake: what is new in the files of a ledger goes into the manifest, each line once."""

import contextlib
from collections.abc import Iterator

from filebroker.finding.ledger import SNAPSHOTS, Ledger, Portion
from filebroker.finding.manifest import Manifest


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

    def fetch(self, files: dict[str, int], known: dict[str, int]) -> dict[str, bytes]:
        """Read what is new in a ledger in a store, at once.

        Parameters
        ----------
        files
            Its files, with their sizes in bytes.
        known
            The files that went into the manifest, with how many of their bytes.
        """
        news = {name for name, size in files.items() if size != known.get(name, -1)}
        return self._ledger.fetch({name: 0 if name.startswith(SNAPSHOTS) else known.get(name, 0) for name in news})

    def take_in(self, manifest: Manifest, identity: str, files: dict[str, int], texts: dict[str, bytes]) -> list[str]:
        """Read what is new in the files of the ledger into a manifest, and give what is damaged.

        Parameters
        ----------
        manifest
            The manifest.
        identity
            What it was when the files were listed.
        files
            The ledger's files, with their sizes in bytes.
        texts
            What `fetch` gave of them.

        Raises
        ------
        FileNotFoundError
            The ledger or the manifest was replaced meanwhile; list its files again.
        """
        known = manifest.sources()
        damage: list[str] = []
        covered: dict[str, int] = {}
        self.unfinished.clear()
        is_replaced = any(size < known.get(name, 0) for name, size in files.items())
        # Snapshots first: a log that was merged into one need not be read.
        for name, size in sorted(files.items(), key=lambda item: not item[0].startswith(SNAPSHOTS)):
            if size != known.get(name, -1) and not is_replaced:
                if size <= covered.get(name, -1):
                    portion = Portion([], size, {name: size}, [])
                else:
                    portion = self._read(name, known.get(name, 0), texts.get(name))  # before others have to wait
                    covered.update(portion.covers)
                with _writing_to(manifest, identity):
                    before, known = known.get(name), manifest.sources()
                    if known.get(name) == before:
                        damage += self._note(manifest, name, size, portion)
                    elif known.get(name, 0) < portion.end:  # else another process was faster
                        raise FileNotFoundError("the manifest was made anew meanwhile")
        # What was merged is known by now to be part of a snapshot.
        if is_replaced or manifest.uncovered(files):
            if self._ledger.files() != files:
                raise FileNotFoundError("the ledger changed while it was listed")
            damage = self._read_anew(manifest, identity, files)
        return damage

    def _read(self, name: str, start: int = 0, text: bytes | None = None) -> Portion:
        return self._ledger.read(name, 0 if name.startswith(SNAPSHOTS) else start, text)

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

    def _read_anew(self, manifest: Manifest, identity: str, files: dict[str, int]) -> list[str]:
        """Forget what came from another ledger, and read this one."""
        damage: list[str] = []
        with _writing_to(manifest, identity):
            manifest.forget()
            for name, size in files.items():
                damage += self._note(manifest, name, size, self._read(name))
            manifest.suspect(True)
        return damage


@contextlib.contextmanager
def _writing_to(manifest: Manifest, identity: str) -> Iterator[None]:
    """Write to a manifest if it is still that of an identity."""
    with manifest.writing():
        if manifest.identity() != identity:
            raise FileNotFoundError("the manifest was made anew meanwhile")
        yield
