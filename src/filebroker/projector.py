"""Projections: views of a run that its start document describes, under names of someone else's choice.

A projection says for each name of its own where the value is::

    {"name": "nxsas", "version": "2020.1", "configuration": {}, "projection": {
        "sample": {"type": "linked", "location": "start", "field": "sample"},
        "image": {"type": "linked", "location": "event", "stream": "primary", "field": "ccd"},
        "maker": {"type": "linked", "location": "configuration", "stream": "primary",
                  "config_index": 0, "config_device": "camera", "field": "manufacturer"},
        "mean": {"type": "calculated", "location": "event", "stream": "primary", "field": "ccd",
                 "callable": "my_package:mean", "args": [], "kwargs": {}}}}

Calculated fields are followed in a projection that is passed, and refused in one that is looked up in the start
document; `filebroker.faces.calculations` says why.  To trust a run is to pass its own projection:
``project_xarray(run, projection=get_run_projection(run))``.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from filebroker.faces.bluesky_run import BlueskyRun
from filebroker.faces.calculations import Calculate, get_calculated_value, refuse_calculation
from filebroker.ground.errors import ProjectionError
from filebroker.ground.packages import need

if TYPE_CHECKING:
    import xarray as xr

__all__ = [
    "ProjectionError",
    "Projector",
    "get_calculated_value",
    "get_run_projection",
    "get_xarray_config_field",
    "project_summary_dict",
    "project_xarray",
]


def get_run_projection(run: BlueskyRun, projection_name: str | None = None) -> dict[str, Any] | None:
    """Give a projection of a run.

    Parameters
    ----------
    run
        The run.
    projection_name
        The name of the projection; None for the only one.

    Returns
    -------
    dict or None
        The projection.  None if the run has none of that name, or, without a name, none or several.

    Raises
    ------
    ProjectionError
        Several projections have that name, or what the start document has are no projections.  It is a `KeyError`.

    Examples
    --------
    >>> from filebroker import Broker
    >>> get_run_projection(Broker.named("example").v2[-1], "nxsas") is None
    True
    """
    found = _projections(run)
    if projection_name is not None:
        found = [projection for projection in found if projection.get("name") == projection_name]
        if len(found) > 1:
            raise ProjectionError(f"{_label(run)} has {len(found)} projections named {projection_name!r}")
    return found[0] if len(found) == 1 else None


def _projections(run: BlueskyRun) -> list[dict[str, Any]]:
    found = run.metadata["start"].get("projections") or []
    if not isinstance(found, list | tuple) or not all(isinstance(projection, Mapping) for projection in found):
        raise ProjectionError(f"{_label(run)} has no list of projections in its start document, but {found!r:.200}")
    return list(found)


def _label(run: BlueskyRun) -> str:
    return f"run {run.metadata['start']['uid']!r}"


class Projector:
    """Follows a projection, and calls a function with each field.

    Parameters
    ----------
    metadata_cb
        Takes the projection's name for a field, and its value from the start document.
    event_configuration_cb
        Takes the projection's name for a field, the stream, the position of the descriptor, the device, the device's
        name for the field, and its value.
    event_field_cb
        Takes the projection's name for a field, the stream, the stream's name for it, and its values.

    Attributes
    ----------
    issues : list of str
        What was asked for and is not there.

    Examples
    --------
    >>> from filebroker import Broker
    >>> projection = {"projection": {"who": {"type": "linked", "location": "start", "field": "operator"}}}
    >>> projector = Projector(metadata_cb=print)
    >>> projector.project(Broker.named("example").v2[-1], projection)
    who Chen
    """

    def __init__(
        self,
        metadata_cb: Callable[[str, Any], Any] | None = None,
        event_configuration_cb: Callable[[str, str, int, str, str, Any], Any] | None = None,
        event_field_cb: Callable[[str, str, str, Any], Any] | None = None,
    ) -> None:
        self._metadata, self._configuration, self._event = metadata_cb, event_configuration_cb, event_field_cb
        self.issues: list[str] = []

    def project(
        self, run: BlueskyRun, projection: Mapping[str, Any] | None = None, projection_name: str | None = None
    ) -> None:
        """Follow a projection.

        Parameters
        ----------
        run
            The run.
        projection
            The projection; None for one of the run's own, see `get_run_projection`.  One that is passed is trusted:
            the functions that it names are called.
        projection_name
            Its name.

        Raises
        ------
        ProjectionError
            The run has no such projection, or several, or one that is none; or a function to calculate a field with
            cannot be called, or may not because the projection was not passed.

        Examples
        --------
        >>> from filebroker import Broker
        >>> projection = {"projection": {"who": {"type": "linked", "location": "start", "field": "operator"}}}
        >>> Projector(metadata_cb=print).project(Broker.named("example").v2[-1], projection)
        who Chen
        """
        calculate: Calculate = get_calculated_value
        if projection is None:
            projection, calculate = _own_projection(run, projection_name), partial(refuse_calculation, projection_name)
        fields = projection.get("projection") if isinstance(projection, Mapping) else None
        if not isinstance(fields, Mapping):
            raise ProjectionError(f"a projection has a mapping 'projection', and this has none: {projection!r:.200}")
        datasets: dict[str, Any] = {}
        for key, mapping in fields.items():
            if not isinstance(mapping, Mapping):
                self._miss(run, key, f"a field is described by a mapping, not by {mapping!r:.200}")
                continue
            match mapping.get("location"):
                case "start":
                    self._from_start(run, key, mapping)
                case "event" if mapping.get("type") == "calculated":
                    self._from_function(run, key, mapping, calculate)
                case "event":
                    self._from_events(run, key, mapping, datasets)
                case "configuration":
                    self._from_configuration(run, key, mapping)
                case other:
                    self._miss(run, key, f"Unknown location: {other!r:.200} is none of start, event and configuration")

    def _miss(self, run: BlueskyRun, key: str, why: str) -> None:
        self.issues.append(f"{key} of run {run.metadata['start']['uid']}: {why}")

    def _from_start(self, run: BlueskyRun, key: str, mapping: Mapping[str, Any]) -> None:
        if self._metadata is None:
            return
        field = mapping.get("field")
        value = run.metadata["start"].get(field) if isinstance(field, str) else None
        if value is None:
            self._miss(run, key, f"the start document has no {field!r:.200}")
        else:
            self._metadata(key, value)

    def _from_function(self, run: BlueskyRun, key: str, mapping: Mapping[str, Any], calculate: Calculate) -> None:
        if self._event is None:
            return
        stream, field = (str(mapping[name]) if name in mapping else None for name in ("stream", "field"))
        self._event(key, stream, field, calculate(run, key, mapping))  # type: ignore[arg-type]

    def _from_events(self, run: BlueskyRun, key: str, mapping: Mapping[str, Any], datasets: dict[str, Any]) -> None:
        if self._event is None:
            return
        stream, field = mapping.get("stream"), mapping.get("field")
        if not isinstance(stream, str) or not isinstance(field, str):
            self._miss(run, key, "stream or field is missing, or is no text")
            return
        try:
            if stream not in datasets:
                datasets[stream] = run[stream].to_dask()
            values = datasets[stream][field]
        except KeyError:
            self._miss(run, key, f"there is no {field!r} in a stream {stream!r}")
            return
        self._event(key, stream, field, values)

    def _from_configuration(self, run: BlueskyRun, key: str, mapping: Mapping[str, Any]) -> None:
        if self._configuration is None:
            return
        stream, device, field = mapping.get("stream", "primary"), mapping.get("config_device"), mapping.get("field")
        index = mapping.get("config_index", 0)
        if not isinstance(index, int) or index < 0:
            self._miss(run, key, f"config_index={index!r:.200} is no position among the descriptors, which begin at 0")
            return
        try:
            value = run[stream].metadata["descriptors"][index]["configuration"][device]["data"][field]
        except (KeyError, IndexError, TypeError):
            where = f"descriptor {index} of a stream {stream!r:.200}"
            self._miss(run, key, f"{where} has no {field!r:.200} of a device {device!r:.200}")
            return
        self._configuration(key, stream, index, str(device), str(field), value)


def _own_projection(run: BlueskyRun, name: str | None) -> dict[str, Any]:
    found = get_run_projection(run, name)
    if found is None:
        have = [projection.get("name") for projection in _projections(run)]
        which = "more than one projection" if name is None else f"no projection named {name!r}"
        if not have:
            raise ProjectionError(f"{_label(run)} has no projections; pass one, as in projection={{...}}")
        raise ProjectionError(f"{_label(run)} has {which}; say which of {have}, as in projection_name=...")
    return found


def project_xarray(
    run: BlueskyRun, *args: Any, projection: Mapping[str, Any] | None = None, projection_name: str | None = None
) -> "tuple[xr.Dataset, list[str]]":
    """Give a projection of a run as a dataset.

    Parameters
    ----------
    run
        The run.
    *args
        Ignored.
    projection, projection_name
        As for `Projector.project`.

    Returns
    -------
    dataset : xarray.Dataset
        A variable for each field of events, lazily; an attribute for each value of the start document.  Values of the
        configuration are in the attribute ``configuration`` of each variable of their stream, see
        `get_xarray_config_field`.
    issues : list of str
        What the projection asks for and the run does not have.

    Raises
    ------
    ProjectionError
        As for `Projector.project`.
    MissingPackage
        xarray or dask is not installed.

    Examples
    --------
    >>> from filebroker import Broker
    >>> field = {"type": "linked", "location": "event", "stream": "primary", "field": "motor"}
    >>> dataset, issues = project_xarray(Broker.named("example").v2[-1], projection={"projection": {"x": field}})
    >>> dataset["x"].dims, issues
    (('time',), [])
    """
    xarray = need("xarray")
    attributes: dict[str, Any] = {}
    variables: dict[str, tuple[str, Any]] = {}
    configured: dict[str, list[dict[str, dict[str, Any]]]] = {}

    def keep_configuration(key: str, stream: str, index: int, device: str, field: str, value: Any) -> None:
        descriptors = configured.setdefault(stream, [])
        descriptors.extend({} for _ in range(index + 1 - len(descriptors)))
        descriptors[index].setdefault(device, {})[field] = value

    def keep_variable(key: str, stream: str, field: str, values: Any) -> None:
        # A new array: that of the stream must not get the projection's attributes.
        variables[key] = stream, xarray.DataArray(values)

    projector = Projector(attributes.__setitem__, keep_configuration, keep_variable)
    projector.project(run, projection, projection_name)
    arrays = {
        key: array.assign_attrs(configuration=configured.get(stream, [])) for key, (stream, array) in variables.items()
    }
    return xarray.Dataset(arrays, attrs=attributes), projector.issues


def get_xarray_config_field(
    dataset: "xr.Dataset", projection_field: str, config_index: int, device: str, field: str
) -> Any:
    """Give a value of the configuration from a projected dataset.

    Parameters
    ----------
    dataset
        What `project_xarray` gave.
    projection_field
        A variable of the stream that was configured so.
    config_index
        The position of the descriptor among those of the stream.
    device
        The device.
    field
        The device's name for the value.

    Raises
    ------
    KeyError, IndexError
        The projection has no such value.

    Examples
    --------
    >>> from filebroker import Broker
    >>> events = {"type": "linked", "location": "event", "stream": "primary", "field": "det"}
    >>> where = {"location": "configuration", "config_index": 0, "config_device": "det"}
    >>> centre = events | where | {"field": "det_center"}
    >>> projection = {"projection": {"counts": events, "centre": centre}}
    >>> dataset, issues = project_xarray(Broker.named("example").v2[-1], projection=projection)
    >>> get_xarray_config_field(dataset, "counts", 0, "det", "det_center")
    0
    """
    return dataset[projection_field].attrs["configuration"][config_index][device][field]


def project_summary_dict(
    run: BlueskyRun,
    *args: Any,
    return_fields: Iterable[str] = (),
    projection: Mapping[str, Any] | None = None,
    projection_name: str | None = None,
) -> tuple[dict[str, Any], list[str]]:
    """Give what a projection takes from the start document, without looking at any data.

    Parameters
    ----------
    run
        The run.
    *args
        Ignored.
    return_fields
        The projection's names of the fields to give; all if there are none.
    projection, projection_name
        As for `Projector.project`.

    Returns
    -------
    summary : dict
        The values by the projection's names.
    issues : list of str
        What the projection asks for and the start document does not have.

    Raises
    ------
    ProjectionError
        As for `Projector.project`.

    Examples
    --------
    >>> from filebroker import Broker
    >>> projection = {"projection": {"who": {"type": "linked", "location": "start", "field": "operator"}}}
    >>> project_summary_dict(Broker.named("example").v2[-1], projection=projection)
    ({'who': 'Chen'}, [])
    """
    wanted = set(return_fields)
    summary: dict[str, Any] = {}

    def keep(key: str, value: Any) -> None:
        if not wanted or key in wanted:
            summary[key] = value

    projector = Projector(metadata_cb=keep)
    projector.project(run, projection, projection_name)
    return summary, projector.issues
