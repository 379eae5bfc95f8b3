"""Packages that are needed for some things alone, and are imported where they are used."""

from importlib import import_module
from types import ModuleType

from filebroker.ground.errors import MissingPackage

#: What brings the packages that read external data.
_EXTRA = 'pip install "filebroker[assets]"'


def need(module: str) -> ModuleType:
    """Import an optional module.

    Parameters
    ----------
    module
        Its name, as in ``dask.array``.

    Raises
    ------
    MissingPackage
        It is not installed; the message tells how to install it.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not module.startswith(error.name):
            raise  # it is there, and something that it needs itself is not
        raise MissingPackage(f"this needs {module}, which is not installed: {_EXTRA}") from error
