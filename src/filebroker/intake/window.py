"""Intake's own window to browse catalogs, opened on the newest runs of one."""

from typing import TYPE_CHECKING, Any

from filebroker.ground.packages import need

if TYPE_CHECKING:
    from filebroker.intake.catalogs import IntakeCatalog


def window_of(catalog: "IntakeCatalog") -> Any:
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
    need("panel")
    need("hvplot")
    from intake.interface import output_notebook
    from intake.interface.gui import GUI

    output_notebook()
    recent = catalog.recent
    if hasattr(GUI, "cat_selected"):  # Intake 2
        return GUI({catalog.name: recent})
    window = GUI([recent])
    # Intake 0 calls a method that the param package no longer has.
    for widget in (window.cat.select.widget, window.source.select.widget):
        if not hasattr(widget, "set_param"):
            widget.set_param = widget.param.update
    return window
