"""A hash to cite a catalog by: that of the list of its runs with the hash of each."""

import hashlib
from collections.abc import Mapping

from filebroker.storing import layout


def listing(hashes: Mapping[str, str]) -> str:
    """Write the hashes of runs as ``sha256sum`` writes them, so that it can check them.

    Parameters
    ----------
    hashes
        The SHA-256 of each run's ``documents.jsonl``, by the run's directory.

    Examples
    --------
    >>> print(listing({"2025/11/22/20251122T143205.250000Z-84d9ee44": "ab" * 32}), end="")
    abab...abab  2025/11/22/20251122T143205.250000Z-84d9ee44/documents.jsonl
    """
    names = {f"{path}/{layout.DOCUMENTS}": digest for path, digest in hashes.items()}
    return "".join(f"{names[name]}  {name}\n" for name in sorted(names, key=str.encode))


def fingerprint(hashes: Mapping[str, str]) -> str:
    """Give one hash for many runs: the SHA-256 of their `listing`.

    ``documents.jsonl`` has the hashes of a run's pages, so this covers every document of every run.  It is the same for
    a copy, wherever that is.  It covers no run that is still live.

    Parameters
    ----------
    hashes
        As for `listing`.

    Examples
    --------
    >>> fingerprint({})
    'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'
    """
    return hashlib.sha256(listing(hashes).encode()).hexdigest()
