"""Reading many headers at once, as databroker v1 did with methods of its broker."""

import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from filebroker.faces.filtering import ALL, as_patterns
from filebroker.faces.header import Header
from filebroker.ground.errors import InvalidKey, NotSupported

if TYPE_CHECKING:
    import pandas as pd


class Reading:
    """The methods of a broker that read the documents of one or more runs."""

    def get_documents(
        self,
        headers: Header | Iterable[Header],
        stream_name: Any = ALL,
        fields: Iterable[str] | None = None,
        fill: bool | Iterable[str] = False,
        handler_registry: None = None,
    ) -> Iterator[tuple[str, Any]]:
        """Give the documents of one or more runs.

        Parameters
        ----------
        headers
            A header, or several.
        stream_name, fields, fill
            As for `Header.documents`.
        handler_registry
            Is refused, because handlers belong to the broker.

        Yields
        ------
        tuple of str and Document
            Names and documents, run by run.

        Raises
        ------
        NotSupported
            ``handler_registry`` is given.

        Examples
        --------
        >>> from filebroker import Broker
        >>> db = Broker.named("example")
        >>> [name for name, doc in db.get_documents(db[-2:])].count("stop")
        2
        """
        _refuse_registry(handler_registry)
        patterns = as_patterns(fields)
        for header in listed(headers):
            yield from header.documents(stream_name, patterns, fill)

    def get_events(
        self,
        headers: Header | Iterable[Header],
        stream_name: Any = "primary",
        fields: Iterable[str] | None = None,
        fill: bool | Iterable[str] = False,
        handler_registry: None = None,
    ) -> Iterator[Any]:
        """Give the events of one or more runs.

        Parameters
        ----------
        headers
            A header, or several.
        stream_name, fields, fill
            As for `Header.events`.
        handler_registry
            Is refused, because handlers belong to the broker.

        Yields
        ------
        Document
            The events, run by run.

        Raises
        ------
        NotSupported
            ``handler_registry`` is given.

        Examples
        --------
        >>> from filebroker import Broker
        >>> db = Broker.named("example")
        >>> [event["data"]["motor"] for event in db.get_events(db[-1])][:3]
        [-1.0, -0.8, -0.6]
        """
        for name, doc in self.get_documents(headers, stream_name, fields, fill, handler_registry):
            if name == "event":
                yield doc

    def get_table(
        self,
        headers: Header | Iterable[Header],
        stream_name: str = "primary",
        fields: Iterable[str] | None = None,
        fill: bool = False,
        handler_registry: None = None,
        convert_times: bool = True,
        timezone: str | None = None,
        localize_times: bool = True,
    ) -> "pd.DataFrame":
        """Give the tables of one or more runs as one.

        Parameters
        ----------
        headers
            A header, or several.
        stream_name, fields, fill, convert_times, timezone, localize_times
            As for `Header.table`.
        handler_registry
            Is refused, because handlers belong to the broker.

        Returns
        -------
        pandas.DataFrame
            One row an event, run by run.

        Raises
        ------
        NotSupported
            ``handler_registry`` is given.

        Examples
        --------
        >>> from filebroker import Broker
        >>> db = Broker.named("example")
        >>> db.get_table(db[-2:], fields=["det"]).columns.tolist()
        ['time', 'det']
        >>> len(db.get_table(db[-2:]))
        23
        """
        import pandas as pd

        from filebroker.cataloging import frames

        _refuse_registry(handler_registry)
        patterns = as_patterns(fields)
        tables = (
            header.table(stream_name, patterns, fill, timezone, convert_times, localize_times)
            for header in listed(headers)
        )
        full = [table for table in tables if len(table.columns)]
        if not full:
            return frames.empty_frame()
        with warnings.catch_warnings():
            # pandas 2 announces another dtype for columns that are empty in one of the tables.
            warnings.simplefilter("ignore", FutureWarning)
            return pd.concat(full)

    def get_images(
        self,
        headers: Header | Iterable[Header],
        name: str,
        stream_name: str = "primary",
        handler_registry: None = None,
    ) -> Any:
        """Give the images of a field as a sequence of PIMS.

        Parameters
        ----------
        headers
            A header, or several, whose images follow each other.
        name
            The field.
        stream_name
            The stream.
        handler_registry
            Is refused, because handlers belong to the broker.

        Returns
        -------
        pims.FramesSequence
            Each image is read when it is asked for.

        Raises
        ------
        UnknownField
            No run has the field.
        NotSupported
            ``handler_registry`` is given.
        MissingPackage
            pims is not installed.

        Examples
        --------
        Write instead, for the images one by one:

        >>> from filebroker import Broker
        >>> header = Broker.named("example")[-1]
        >>> next(header.data("motor"))  # here a number; an image where the detector takes some
        -1.0
        """
        from filebroker.faces.images import images_of

        _refuse_registry(handler_registry)
        warnings.warn(
            "get_images is old; Header.data gives images one by one, Header.xarray_dask as an array",
            UserWarning,
            stacklevel=2,
        )
        return images_of(listed(headers), name, stream_name)

    @staticmethod
    def get_fields(header: Header, name: str | None = None) -> set[str]:
        """Give the names of the fields of a run, or of one of its streams.

        Parameters
        ----------
        header
            The run.
        name
            The stream, None for all.

        Examples
        --------
        >>> from filebroker import Broker
        >>> db = Broker.named("example")
        >>> sorted(db.get_fields(db[-1], "primary"))
        ['det', 'motor', 'motor_setpoint']
        """
        return header.fields() if name is None else header.fields(name)

    def restream(
        self, headers: Header | Iterable[Header], fields: Iterable[str] | None = None, fill: bool = False
    ) -> Iterator[tuple[str, Any]]:
        """Give all documents of one or more runs, for a consumer of live documents.

        Parameters
        ----------
        headers, fields, fill
            As for `get_documents`.

        Returns
        -------
        Iterator of tuple of str and Document
            Names and documents, run by run.

        Examples
        --------
        >>> from filebroker import Broker
        >>> db = Broker.named("example")
        >>> counts = {}
        >>> for name, doc in db.restream(db[-1]):
        ...     counts[name] = counts.get(name, 0) + 1
        >>> counts
        {'start': 1, 'descriptor': 2, 'event': 13, 'stop': 1}
        """
        return self.get_documents(headers, fields=fields, fill=fill)

    stream = restream

    def process(
        self,
        headers: Header | Iterable[Header],
        func: Callable[[str, Any], Any],
        fields: Iterable[str] | None = None,
        fill: bool = False,
    ) -> None:
        """Call a function with each name and document of one or more runs.

        Parameters
        ----------
        headers, fields, fill
            As for `get_documents`.
        func
            Takes a name and a document, as `insert` does.

        Examples
        --------
        >>> from filebroker import Broker
        >>> db = Broker.named("example")
        >>> names = []
        >>> db.process(db[-1], lambda name, doc: names.append(name))
        >>> names[0], names[-1]
        ('start', 'stop')
        """
        for name, doc in self.restream(headers, fields=fields, fill=fill):
            func(name, doc)


def listed(headers: Header | Iterable[Header]) -> Iterable[Header]:
    """Give one header or several as several."""
    if isinstance(headers, int | str):
        raise InvalidKey(f"give headers, as in db[{headers!r}], and not {headers!r}")
    return [headers] if isinstance(headers, Header) else headers


def _refuse_registry(handler_registry: object) -> None:
    if handler_registry is not None:
        raise NotSupported("handlers belong to a broker, not to a call; register them there")
