"""Calculated fields of a projection: values that a function gives, which the field names.

The function may be any that can be imported, so that it can run any program.  Whoever calls may say so; a document may
not, because whoever wrote it, perhaps long ago and elsewhere, would decide what is executed here.  Calculated fields
are therefore followed in a projection that is passed, and refused in one that is looked up in the start document.
"""

from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from filebroker.faces.bluesky_run import BlueskyRun
from filebroker.ground.dotted import imported
from filebroker.ground.errors import ProjectionError

#: Gives the value of a calculated field: takes the run, the projection's name for the field, and its mapping.
Calculate = Callable[[BlueskyRun, str, Mapping[str, Any]], Any]


def get_calculated_value(run: BlueskyRun, key: str, mapping: Mapping[str, Any]) -> Any:
    """Call the function of a calculated field, whatever it is: do not pass a field that you do not trust.

    Parameters
    ----------
    run
        The run, the function's first argument.
    key
        The projection's name for the field.
    mapping
        The field: its ``callable``, as in ``package.module:function``, and if need be further ``args`` and ``kwargs``.
        They may also stand together under ``calculation``, as event-model has it.

    Returns
    -------
    object
        What the function gives, usually an `xarray.DataArray`.

    Raises
    ------
    ProjectionError
        There is no such function, or it cannot be called so.  What the function itself raises comes as it is.

    Examples
    --------
    >>> from filebroker import Broker
    >>> get_calculated_value(Broker.named("example").v2[-1], "streams", {"callable": "builtins:list"})
    ['baseline', 'primary']
    """
    calculation = mapping.get("calculation", mapping)
    if not isinstance(calculation, Mapping):
        raise ProjectionError(f"the calculation of the projected field {key!r} is no mapping, but {calculation!r:.200}")
    args, kwargs = calculation.get("args") or (), calculation.get("kwargs") or {}
    if not isinstance(args, list | tuple) or not isinstance(kwargs, Mapping):
        raise ProjectionError(
            f"the projected field {key!r} is calculated with args={args!r:.200} and kwargs={kwargs!r:.200}; "
            "these are a list and a mapping"
        )
    return _function(key, calculation.get("callable"))(run, *args, **kwargs)


def _function(key: str, name: Any) -> Callable[..., Any]:
    """Import the function of a calculated field."""
    try:
        function = imported(name)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise ProjectionError(
            f"the projected field {key!r} is calculated by {name!r:.200}, which cannot be imported: "
            f"{type(error).__name__}: {error}. Give it as 'package.module:function'"
        ) from error
    if not callable(function):
        raise ProjectionError(f"the projected field {key!r} is calculated by {name!r:.200}, which is no function")
    return function  # type: ignore[no-any-return]


def refuse_calculation(projection_name: str | None, run: BlueskyRun, key: str, mapping: Mapping[str, Any]) -> NoReturn:
    """Call nothing that a document asks for.

    Parameters
    ----------
    projection_name
        The name that the document's projection was looked up by, None if it is the only one.
    run, key, mapping
        As for `get_calculated_value`.

    Raises
    ------
    ProjectionError
        Always; it says how to trust the run.
    """
    calculation = mapping.get("calculation", mapping)
    name = calculation.get("callable") if isinstance(calculation, Mapping) else calculation
    own = "get_run_projection(run)" if projection_name is None else f"get_run_projection(run, {projection_name!r})"
    raise ProjectionError(
        f"the start document of run {run.metadata['start']['uid']!r} asks to call {name!r:.200} for the projected "
        f"field {key!r}. No document may have functions called; if you trust it, pass its projection: "
        f"project_xarray(run, projection={own})"
    )
