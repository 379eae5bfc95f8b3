"""Filling with dask arrays for programs that use event-model's Filler themselves."""

import importlib.util
from typing import Any

import numpy as np

from filebroker.cataloging.external_columns import declared_dtype, declared_shape, own_array
from filebroker.ground.packages import need


def register() -> None:
    """Make ``event_model.Filler(..., coerce="delayed")`` mean dask arrays, as importing databroker does."""
    if importlib.util.find_spec("event_model") is None:
        return
    import event_model

    if "delayed" not in event_model._coercion_registry:
        event_model.register_coercion("delayed", delayed)


def delayed(handler_class: type, filler_state: Any) -> type:
    """Give a handler that promises its data.

    Parameters
    ----------
    handler_class
        The handler that reads them.
    filler_state
        What the Filler is filling: ``descriptor`` and ``key``.
    """

    class Delayed(handler_class):  # type: ignore[misc]
        """The handler, giving dask arrays."""

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            array = need("dask.array")
            declared = filler_state.descriptor["data_keys"][filler_state.key]
            shape = declared_shape(declared)
            if shape is None:
                return array.from_array(own_array(super().__call__(*args, **kwargs)))
            dtype = declared_dtype(declared) or np.dtype("float64")
            later = need("dask").delayed(super().__call__)(*args, **kwargs)
            return array.from_delayed(later, shape=shape, dtype=dtype)

    return Delayed
