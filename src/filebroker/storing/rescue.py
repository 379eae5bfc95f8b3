"""Runs of a store whose recording was cut short on a machine that does not come back: brought here to be sealed."""

import contextlib
import os

from filebroker.ground import codec, filesystem
from filebroker.ground.stores import Store
from filebroker.storing import layout
from filebroker.storing.staging import Staging


def fetch_live(store: Store, staging: Staging) -> list[str]:
    """Copy every run that is claimed in a store, and not staged here, to this machine.

    What is copied has the claim of its writer, so that the upload goes on where that stopped.

    Parameters
    ----------
    store
        The store.
    staging
        Where the runs are put.

    Returns
    -------
    list of str
        The directories of the runs.

    Raises
    ------
    StorageError
        The store or the local filesystem refused.
    """
    fetched = []
    for name in store.names(layout.LIVE):
        claim = f"{layout.LIVE}/{name}"
        with contextlib.suppress(FileNotFoundError):  # it has just been sealed
            text = store.read(claim)
            directory = _directory_of(text)
            if directory and layout.lock_name_of(directory) == name and not staging.holds(directory):
                staging.make()
                _copy(store, staging, directory)
                staging.adopt(directory, text)
                fetched.append(directory)
    return fetched


def _directory_of(claim: bytes) -> str:
    """Read off a claim which run it is about, empty if it does not say."""
    try:
        directory = codec.loads(claim)["directory"]
    except (ValueError, KeyError, TypeError):
        return ""
    return directory if isinstance(directory, str) and layout.is_run_path(directory) else ""


def _copy(store: Store, staging: Staging, directory: str) -> None:
    """Copy the files of a run beside its place, and put them there together."""
    aside = staging.path(f"_gone/{os.path.basename(directory)}")
    for name in store.tree(directory):
        if layout.segment_of(name) or layout.is_page_path(name) or name == layout.DOCUMENTS:
            filesystem.make_directory(os.path.dirname(os.path.join(aside, name)))
            filesystem.publish(os.path.join(aside, name), store.read(f"{directory}/{name}"), sync=True)
    filesystem.make_directory(os.path.dirname(staging.path(directory)))
    os.rename(aside, staging.path(directory))
