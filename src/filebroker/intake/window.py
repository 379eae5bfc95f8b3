"""Intake's own window to browse catalogs, opened on the newest runs of one."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from filebroker.faces.results import counted
from filebroker.ground.errors import FilebrokerError
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
    return _mended_2(GUI({catalog.name: recent}), recent)


def _mended_0(window: Any) -> Any:
    """Give widgets a method that Intake 0 calls and the param package no longer has."""
    for widget in (window.cat.select.widget, window.source.select.widget):
        if not hasattr(widget, "set_param"):
            widget.set_param = widget.param.update
    for empty in (window.cat.search.panel, window.cat.add.panel):
        empty.width_policy = "min"  # else they push the plot out of the page
    return window


def _mended_2(window: Any, recent: "RunMapping") -> Any:
    """Let the window of Intake 2 forget a run when another is chosen, list the newest first, and show what is found."""

    def chosen(*_: object) -> None:
        # Else the stream of that name in the run before stays chosen, and its text and plot are shown.
        window.sourcesel.value = []
        window.sourceinf.value = ""
        window.plots.panel.visible = False
        _list_again(window)
        _arrange(window)

    def searched(text: str) -> None:
        try:
            found = recent.search(text)
            name = f"search <{text}>: {counted(len(found))}"
        except FilebrokerError as error:
            window.sourceinf.value = str(error)
            return
        window._cats[name] = found
        window.update_catsel()
        window.catsel.value = [name]

    window.catsel.param.watch(chosen, "value")
    window.search.done_callback = searched
    return window


def _list_again(window: Any) -> None:
    """List the runs of the catalog that is chosen, and of no other: each label stands in the window once."""
    chosen = window.catsel.value[:1]
    if not window._children.keys() - {*chosen} or not chosen or chosen[0] in _below(window):
        return  # nothing else is listed, or a run is chosen and not a catalog
    for label in _below(window):
        del window._cats[label]
    window._children.clear()
    window.cat_selected()


def _arrange(window: Any) -> None:
    """Put the newest run first, which Intake sorts by their names."""

    def listed(names: Iterable[str]) -> Iterator[str]:
        for name in names:
            yield name
            yield from listed(window._children.get(name, ()))

    below = _below(window)
    options = list(listed(name for name in window._cats if name not in below))
    if options != window.catsel.options:
        window.catsel.options = options


def _below(window: Any) -> set[str]:
    """Name what stands below a catalog in the window."""
    return {name for names in window._children.values() for name in names}
