"""The read-only dicts in which databroker v2 handed out documents."""

import copy
from pprint import pformat
from typing import Any, NoReturn


class NotMutable(TypeError):
    """A document was to be changed; ``to_dict()`` gives a copy that can be.

    Examples
    --------
    >>> Start(uid="84d9ee44").pop("uid")
    Traceback (most recent call last):
        ...
    filebroker.faces.documents.NotMutable: a document cannot be changed; to_dict() gives a copy that can be
    """


class Document(dict[str, Any]):
    """A document that cannot be changed, except inside its values.

    Parameters
    ----------
    *args, **kwargs
        As for `dict`.

    Examples
    --------
    >>> start = Start(uid="84d9ee44", scan_id=5)
    >>> start
    Start({'uid': '84d9ee44', 'scan_id': 5})
    >>> start["scan_id"] = 6
    Traceback (most recent call last):
        ...
    filebroker.faces.documents.NotMutable: a document cannot be changed; to_dict() gives a copy that can be
    >>> start.to_dict() | {"scan_id": 6}
    {'uid': '84d9ee44', 'scan_id': 6}
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({dict(self)})"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(f"{type(self).__name__}({pformat(dict(self))})")

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        """Raise `NotMutable`: ``to_dict()`` gives a copy that can be changed.

        Examples
        --------
        >>> Start(uid="84d9ee44").update(scan_id=6)
        Traceback (most recent call last):
            ...
        filebroker.faces.documents.NotMutable: a document cannot be changed; to_dict() gives a copy that can be
        """
        raise NotMutable("a document cannot be changed; to_dict() gives a copy that can be")

    __setitem__ = __delitem__ = __ior__ = _refuse
    update = pop = popitem = clear = setdefault = _refuse

    def to_dict(self) -> dict[str, Any]:
        """Give a deep copy that can be changed.

        Examples
        --------
        >>> Start(uid="84d9ee44").to_dict()
        {'uid': '84d9ee44'}
        """
        return copy.deepcopy(dict(self))

    # Whoever copies a document wants to change it.
    def __copy__(self) -> dict[str, Any]:
        return dict(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[str, Any]:
        return copy.deepcopy(dict(self), memo)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self),)


class Start(Document):
    """The first document of a run.

    Examples
    --------
    >>> Start(uid="84d9ee44", time=1763821925.0)["time"]
    1763821925.0
    """

    __slots__ = ()


class Stop(Document):
    """The last document of a run.

    Examples
    --------
    >>> Stop(run_start="84d9ee44", exit_status="success")["exit_status"]
    'success'
    """

    __slots__ = ()


class Descriptor(Document):
    """What a stream's events hold.

    Examples
    --------
    >>> Descriptor(run_start="84d9ee44", name="primary")["name"]
    'primary'
    """

    __slots__ = ()


class Resource(Document):
    """Where external data are.

    Examples
    --------
    >>> Resource(uid="7fb2", spec="AD_TIFF")["spec"]
    'AD_TIFF'
    """

    __slots__ = ()


class Event(Document):
    """One row of a stream.

    Examples
    --------
    >>> Event(seq_num=1, data={"motor": 0.5})["data"]
    {'motor': 0.5}
    """

    __slots__ = ()


class EventPage(Document):
    """Several rows of a stream.

    Examples
    --------
    >>> EventPage(seq_num=[1, 2], data={"motor": [0.5, 0.6]})["data"]
    {'motor': [0.5, 0.6]}
    """

    __slots__ = ()


class Datum(Document):
    """A part of a resource.

    Examples
    --------
    >>> Datum(datum_id="7fb2/0", datum_kwargs={"frame": 0})["datum_kwargs"]
    {'frame': 0}
    """

    __slots__ = ()


class DatumPage(Document):
    """Several parts of a resource.

    Examples
    --------
    >>> DatumPage(datum_id=["7fb2/0", "7fb2/1"])["datum_id"]
    ['7fb2/0', '7fb2/1']
    """

    __slots__ = ()


#: The classes of the documents that a run hands out; all others are plain dicts.
CLASSES: dict[str, type[Document]] = {
    "start": Start,
    "stop": Stop,
    "descriptor": Descriptor,
    "resource": Resource,
}
