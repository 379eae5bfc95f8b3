"""Plots that the hints of a run describe, as methods that draw them with hvplot."""

from typing import Any

from filebroker.ground.errors import NotSupported
from filebroker.ground.packages import need


class PlotAccess:
    """The plots of a source of Intake, as methods.

    Parameters
    ----------
    source
        A source of tables, with ``plots`` in its metadata.

    Notes
    -----
    Each gives an object of holoviews, which a notebook shows.  So do those of hvplot for plots of any other kind, as
    in ``stream.plot.scatter(x="motor", y="det")``.

    Examples
    --------
    >>> import intake
    >>> stream = intake.open_filebroker_stream("sample_data/example", run=22)
    >>> dir(stream.plot)
    ['det_vs_motor_0a00d92c']
    """

    def __init__(self, source: Any) -> None:
        self._source = source

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Draw the first of the plots, or what the arguments of hvplot say.

        Raises
        ------
        MissingPackage
            hvplot is not installed.
        NotSupported
            The hints describe no plot, and there are no arguments.
        """
        plots = self._source.metadata["plots"]
        if args or options:
            return self._hvplot(*args, **options)
        if not plots:
            raise NotSupported('the hints of this stream describe no plot; try stream.plot(x="time", y=[...])')
        return self._hvplot(**next(iter(plots.values())))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"plots have no {name!r}")
        return getattr(self._hvplot, name)

    @property
    def _hvplot(self) -> Any:
        return need("hvplot").hvPlot(self._source, custom_plots=dict(self._source.metadata["plots"]))

    def __dir__(self) -> list[str]:
        return list(self._source.metadata["plots"])

    def __repr__(self) -> str:
        return f"<plots {', '.join(dir(self))}>"
