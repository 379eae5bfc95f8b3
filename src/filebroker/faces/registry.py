"""The registry of databroker v1: who reads external data, and where they have moved."""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from filebroker.assets.copies import copy_files
from filebroker.ground.errors import InvalidDocument, NotSupported

if TYPE_CHECKING:
    from filebroker.faces.broker import Broker


class Registry:
    """The handlers of a broker, as databroker v1 gave them out by ``db.reg``.

    Parameters
    ----------
    broker
        The broker.

    Examples
    --------
    >>> from filebroker import Broker
    >>> db = Broker.named("example")
    >>> db.reg.root_map["/nsls2/data"] = "/media/disk"
    >>> db.reg.root_map
    {'/nsls2/data': '/media/disk'}
    """

    def __init__(self, broker: "Broker") -> None:
        self._broker = broker

    @property
    def handler_reg(self) -> Mapping[str, Any]:
        """The handlers by their specs; it cannot be changed.

        Examples
        --------
        >>> from filebroker import Broker
        >>> db = Broker.named("example")
        >>> db.reg.register_handler("MY_CAMERA", dict)
        >>> db.reg.handler_reg["MY_CAMERA"]
        <class 'dict'>
        """
        return self._broker.handlers.handler_reg

    @property
    def root_map(self) -> dict[str, str]:
        """Where roots have moved: old beginnings of paths, and new ones.  Change it as you need.

        Examples
        --------
        >>> from filebroker import Broker
        >>> db = Broker.named("example")
        >>> db.reg.root_map["/nsls2/data"] = "/media/disk"
        >>> db.reg.root_map
        {'/nsls2/data': '/media/disk'}
        """
        return self._broker.handlers.root_map

    def register_handler(self, key: str, handler: Any, overwrite: bool = False) -> None:
        """Register who reads the data of a spec; runs that were fetched before are read so as well.

        Parameters
        ----------
        key
            The spec of resources, or the mimetype of stream resources.
        handler
            A class.  It is called with a path and the resource's keywords, and its instances with those of each datum.
        overwrite
            Replace one that is registered.

        Raises
        ------
        DuplicateHandler
            Another one is registered.

        Examples
        --------
        >>> from filebroker import Broker
        >>> db = Broker.named("example")
        >>> class MyCamera:
        ...     def __init__(self, path, **resource_kwargs):
        ...         self.path = path
        ...
        ...     def __call__(self, frame):
        ...         return f"frame {frame} of {self.path}"
        >>> db.reg.register_handler("MY_CAMERA", MyCamera)
        >>> "MY_CAMERA" in db.reg.handler_reg
        True
        """
        self._broker.handlers.register_handler(key, handler, overwrite=overwrite)

    def deregister_handler(self, key: str) -> None:
        """Forget who reads the data of a spec, if anyone does.

        Parameters
        ----------
        key
            The spec.

        Examples
        --------
        >>> from filebroker import Broker
        >>> db = Broker.named("example")
        >>> db.reg.register_handler("MY_CAMERA", dict)
        >>> db.reg.deregister_handler("MY_CAMERA")
        >>> "MY_CAMERA" in db.reg.handler_reg
        False
        """
        self._broker.handlers.deregister_handler(key)

    def copy_files(
        self,
        resource: Mapping[str, Any],
        new_root: str,
        verify: bool = False,
        file_rename_hook: Callable[[int, int, str, str], Any] | None = None,
        run_start_uid: str | None = None,
    ) -> Iterator[tuple[str, str]]:
        """Copy the files of a resource below another root.

        Parameters
        ----------
        resource
            The resource document.  Its handler has to have ``get_file_list``.
        new_root
            The directory that takes the place of the resource's root.
        verify
            Is refused, as in databroker: a copy appears only when it is complete.
        file_rename_hook
            Is called before each file with its position, the number of files, its old and its new path.
        run_start_uid
            The run, if the resource does not tell.

        Returns
        -------
        Iterator of tuple of str
            The old and the new path of each file.

        Raises
        ------
        NotSupported
            ``verify`` is set.
        InvalidDocument
            The run is not known.
        MissingAsset, MissingHandler
            There is no such file, or nothing that can list the files.

        Examples
        --------
        >>> from filebroker import Broker
        >>> db = Broker.named("example")
        >>> resources = [doc for name, doc in db[-1].documents() if name == "resource"]
        >>> [pair for doc in resources for pair in db.reg.copy_files(doc, "my_copies")]  # all is in the run's events
        []
        """
        if verify:
            raise NotSupported("verify=True was never implemented; a copy appears only when it is complete")
        uid = resource.get("run_start", run_start_uid)
        if uid is None:
            raise InvalidDocument(
                f"the resource {resource.get('uid')!r} does not tell its run; give run_start_uid, the uid of the run"
            )
        files = self._broker[uid].files_of(resource)
        return iter(copy_files(resource, files, new_root, file_rename_hook, self.root_map))
