"""Packages that are needed for some things alone, and are imported where they are used."""

from importlib import import_module
from types import ModuleType

from filebroker.ground.errors import MissingPackage

#: The extras that bring packages, but for those of ``assets``.
_EXTRAS = {
    **{"s3fs": "s3", "aiohttp": "http", "dask.dataframe": "dask", "distributed": "dask"},
    **{"msgpack": "import", "msgpack_numpy": "import", "panel": "gui", "hvplot": "gui"},
}


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
        extra = _EXTRAS.get(module, "assets")
        raise MissingPackage(
            f'this needs {module}, which is not installed: pip install "filebroker[{extra}]"'
        ) from error
