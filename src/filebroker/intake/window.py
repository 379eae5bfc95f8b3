"""Intake's own window to browse catalogs, opened on the newest runs of one."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from filebroker.ground.packages import need

if TYPE_CHECKING:
    from filebroker.intake.run_mapping import RunMapping


def window_of(catalog: "RunMapping") -> Any:
    """Open Intake's window on the newest runs of a catalog.

    Parameters
    ----------
    catalog
        The catalog.

    Returns
    -------
    intake.interface.gui.GUI
        It shows itself in a notebook; ``show()`` opens it in a browser.

    Raises
    ------
    MissingPackage
        panel or hvplot is not installed.
    """
    panel = need("panel")
    need("hvplot")
    from intake.interface.gui import GUI

    recent = catalog.recent
    if not hasattr(GUI, "cat_selected"):  # Intake 0
        panel.extension()
        return _mended_0(GUI([recent]))
    panel.extension("codeeditor")
    return _mended_2(GUI({catalog.name: recent}))


def _mended_0(window: Any) -> Any:
    """Give widgets a method that Intake 0 calls and the param package no longer has."""
    for widget in (window.cat.select.widget, window.source.select.widget):
        if not hasattr(widget, "set_param"):
            widget.set_param = widget.param.update
    for empty in (window.cat.search.panel, window.cat.add.panel):
        empty.width_policy = "min"  # else they push the plot out of the page
    return window


def _mended_2(window: Any) -> Any:
    """Let the window of Intake 2 forget a run when another is chosen, and list the newest first."""

    def listed(names: Iterable[str]) -> Iterator[str]:
        for name in names:
            yield name
            yield from listed(window._children.get(name, ()))

    def chosen(*_: object) -> None:
        # Else the stream of that name in the run before stays chosen, and its text and plot are shown.
        window.sourcesel.value = []
        window.sourceinf.value = ""
        window.plots.panel.visible = False
        below = {name for names in window._children.values() for name in names}
        options = list(listed(name for name in window._cats if name not in below))
        if sorted(options) == sorted(window.catsel.options):
            window.catsel.options = options

    window.catsel.param.watch(chosen, "value")
    return window
