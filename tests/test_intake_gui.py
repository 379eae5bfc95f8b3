"""Intake's own window: the newest runs, their streams, and the plots that the hints describe."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import intake
import pytest

import factories
from filebroker import Broker
from filebroker.cataloging.runs import Runs
from filebroker.ground.errors import MissingPackage
from filebroker.intake.catalogs import IntakeCatalog
from filebroker.storing.run_files import RunFiles

#: Intake's window is older than the panel that shows it.
pytestmark = [
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
#: Runs in the catalog, and those that are listed at the most.
MANY, LISTED = 130, 100
#: Intake 2 has a window of another kind.
IS_TWO = int(intake.__version__.split(".")[0]) >= 2
HOSTILE = "{{ shell('touch broken') }} {% ``` <script>document.title = 'broken'</script>"
LINE = {"dimensions": [[["motor"], "primary"]]}
GRID = {"dimensions": [[["slow"], "primary"], [["motor"], "primary"]], "gridding": "rectilinear"}


def uid_of(number: int) -> str:
    return f"{0xF0000000 + number:08x}-8c4b-4b8f-9d9c-1d2d64d3b2c4"


def label_of(number: int) -> str:
    return f"s{number:06d}_{'grid_scan' if number % 2 == 0 else 'scan'}_{uid_of(number)[:8]}"


def values_of(number: int) -> dict[str, list[float]]:
    """Give what each run has recorded; no two runs have the same."""
    events = range(1, 7)
    return {
        **{"slow": [float(n > 3) for n in events], "motor": [n / 10 for n in events]},
        **{"det": [number + n * n / 4 for n in events]},
    }


def record(db: Broker, number: int) -> None:
    is_grid = number % 2 == 0
    keys = {"uid": uid_of(number), "time": factories.T0 + 60 * number, "scan_id": number, "sample": HOSTILE}
    plan = {"plan_name": "grid_scan" if is_grid else "scan", "hints": GRID if is_grid else LINE}
    begun = factories.start(**keys, **plan)
    values = values_of(number)
    axes = {"motor", "slow"} if is_grid else {"motor"}
    hints = {key: {"fields": [key] if key in axes | {"det"} else []} for key in values}
    primary = factories.descriptor(begun, list(values), hints=hints)
    baseline = factories.descriptor(begun, ["motor"], name="baseline")
    documents = [("start", begun), ("descriptor", primary), ("descriptor", baseline)]
    for place in range(6):
        data = {key: column[place] for key, column in values.items()}
        documents.append(("event", factories.event(primary, place + 1, data)))
    documents += [("event", factories.event(baseline)), ("stop", factories.stop(begun, {"primary": 6, "baseline": 1}))]
    for name, doc in documents:
        db.insert(name, doc)


@pytest.fixture(scope="module")
def packages() -> None:
    for package in ("panel", "hvplot"):
        pytest.importorskip(package)


@pytest.fixture(scope="module")
def folder(packages: None, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = str(tmp_path_factory.mktemp("gui") / "catalog")
    db = Broker(path, sync="never")
    for number in range(1, MANY + 1):
        record(db, number)
    db.close()
    return path


@pytest.fixture
def catalog(folder: str) -> IntakeCatalog:
    return IntakeCatalog(folder, name="beamline")


class Hands:
    """Use a window as a person does, whichever Intake it is of."""

    def __init__(self, window: Any) -> None:
        self.window = window

    def labels(self) -> list[str]:
        """Give the lines of the first list, without the lines that are drawn before them."""
        lines = self.window.catsel.options if IS_TWO else self.window.cat.select.labels
        return [line.lstrip("\u2002 │└─>") for line in lines]

    def choose(self, label: str) -> list[str]:
        """Choose a line of the first list; give the lines of the second."""
        place = self.labels().index(label)
        if IS_TWO:
            self.window.catsel.value = [self.window.catsel.options[place]]
            return list(self.window.sourcesel.options)
        select = self.window.cat.select
        select.selected = [select.items[place]]
        return list(self.window.source.select.labels)

    def choose_stream(self, name: str) -> str:
        """Choose a line of the second list; give the text that is shown of it."""
        if IS_TWO:
            self.window.sourcesel.value = [name]
            return str(self.window.sourceinf.value)
        self.window.source.select.selected = name
        return str(self.window.source.description.main_pane.object)

    def plots(self) -> list[str]:
        """Press the button below the streams; give the names of the plots."""
        if IS_TWO:
            self.window.plot_clicked()
            return list(self.window.plots.select.options)
        self.window.source.plot_widget.value = True
        return list(self.window.source.plot.select.options)

    def draw(self, name: str) -> Any:
        """Choose a plot; give what is drawn."""
        plots = self.window.plots if IS_TWO else self.window.source.plot
        plots.select.value = name
        return plots.pane.object

    def search(self, words: str) -> None:
        """Search the catalogs that are chosen."""
        if IS_TWO:
            self.window.search.tinput.value = words
            self.window.search.go()
            return
        self.window.cat.search_widget.value = True
        self.window.cat.search.inputs.text = words
        self.window.cat.search.do_search()

    def render(self) -> None:
        """Give the window to a page of a server."""
        from bokeh.document import Document

        (self.window.main if IS_TWO else self.window.panel).server_doc(Document())


@pytest.fixture
def hands(catalog: IntakeCatalog) -> Hands:
    return Hands(catalog.gui)


def open_list(hands: Hands) -> None:
    """Choose the catalog, which Intake 0 does by itself."""
    if IS_TWO:
        hands.choose("beamline")


def columns_of(drawn: Any) -> dict[str, list[float]]:
    return {str(dimension): list(drawn.dimension_values(dimension)) for dimension in drawn.dimensions()}


# -- what is listed


def test_the_window_lists_the_newest_hundred_runs(hands):
    open_list(hands)
    newest = [label_of(number) for number in range(MANY, MANY - LISTED, -1)]
    assert hands.labels()[0] == "beamline"
    assert hands.labels()[1:] == newest
    hands.render()


def test_nothing_but_what_is_listed_is_looked_at(folder, catalog, tmp_path, monkeypatch):
    fresh = shutil.copytree(folder, tmp_path / "fresh")  # of which no run was opened before
    listed, opened = [], []
    documents, make = Runs.documents, RunFiles.__init__

    def counted(self):
        for item in documents(self):
            listed.append(item)
            yield item

    def counting(self, *args, **options):
        opened.append(args)
        make(self, *args, **options)

    monkeypatch.setattr(Runs, "documents", counted)
    monkeypatch.setattr(RunFiles, "__init__", counting)
    hands = Hands(IntakeCatalog(fresh, name=catalog.name).gui)
    open_list(hands)
    hands.render()
    assert LISTED <= len(listed) <= 3 * LISTED, "each list is of a hundred"
    assert opened == []
    listed.clear()
    hands.choose(label_of(MANY))
    assert (len(listed), len(opened)) == (0, 1)


def test_a_catalog_below_another_is_listed_no_longer(folder, catalog, tmp_path):
    from intake.interface.gui import GUI

    file = tmp_path / "sites.yml"
    file.write_text(f"sources:\n  beamline:\n    driver: filebroker\n    args:\n      url: {folder}\n")
    parent = intake.open_catalog(str(file))
    hands = Hands(GUI({"sites": parent}) if IS_TWO else GUI([parent]))
    if IS_TWO:
        hands.choose("sites")
    assert hands.labels()[1:] == ["beamline"]
    hands.choose("beamline")
    assert len(hands.labels()) == 2 + LISTED
    assert hands.choose(label_of(MANY)) == ["primary", "baseline"]


def test_runs_are_searched_in_the_window(hands):
    open_list(hands)
    hands.search("grid_scan")
    window = hands.window
    name = f"search <grid_scan>: {MANY // 2} runs"
    (found,) = [window._cats[name]] if IS_TWO else window.cat.cats
    assert isinstance(found, IntakeCatalog)
    assert len(found) == MANY // 2
    if not IS_TWO:
        return
    grids = [label_of(number) for number in range(MANY, 0, -2)]
    assert hands.labels() == ["beamline", name, *grids]
    assert hands.choose(grids[0]) == ["primary", "baseline"]
    hands.choose("beamline")  # and back to all of them
    assert hands.labels()[: 1 + LISTED] == [
        "beamline",
        *(label_of(number) for number in range(MANY, MANY - LISTED, -1)),
    ]
    hands.search("nosuchword")
    assert hands.labels()[-1] == "search <nosuchword>: 0 runs"


def test_a_run_whose_files_are_gone_leaves_the_others_to_be_seen(packages, tmp_path):
    path = str(tmp_path / "catalog")
    db = Broker(path, sync="never")
    for number in (1, 2, 3):
        record(db, number)
    db.close()
    catalog = IntakeCatalog(path, name="beamline")
    assert len(catalog) == 3
    shutil.rmtree(next(item for item in Path(path).rglob(f"*{uid_of(2)}") if item.is_dir()))
    hands = Hands(catalog.gui)
    open_list(hands)
    assert {label_of(1), label_of(3)} <= set(hands.labels())
    assert hands.choose(label_of(3)) == ["primary", "baseline"]


# -- run, stream, plot


def test_a_scan_is_drawn_against_its_motor(hands):
    open_list(hands)
    assert hands.choose(label_of(MANY - 1)) == ["primary", "baseline"]
    text = hands.choose_stream("primary")
    assert uid_of(MANY - 1) in text
    assert "filebroker_stream" in text
    name = f"det_vs_motor_{uid_of(MANY - 1)[:8]}"
    assert hands.plots() == ["None", name]
    drawn = hands.draw(name)
    assert str(drawn) == ":Curve   [motor]   (det)"
    values = values_of(MANY - 1)
    assert columns_of(drawn) == {"motor": values["motor"], "det": values["det"]}
    hands.render()


def test_a_grid_is_drawn_in_its_plane(hands):
    open_list(hands)
    hands.choose(label_of(MANY))
    hands.choose_stream("primary")
    drawn = hands.draw(hands.plots()[1])
    assert str(drawn) == ":Scatter   [motor]   (slow,det)"
    assert columns_of(drawn) == values_of(MANY)
    hands.render()


def test_a_baseline_has_no_plot(hands):
    open_list(hands)
    hands.choose(label_of(MANY))
    hands.choose_stream("baseline")
    assert hands.plots() == ["None"]


def test_of_one_run_after_another_each_has_its_own_text_and_plot(hands):
    open_list(hands)
    for number in (MANY, MANY - 1, MANY - 3, MANY):
        hands.choose(label_of(number))
        text = hands.choose_stream("primary")
        assert [other for other in (MANY, MANY - 1, MANY - 3) if uid_of(other) in text] == [number]
        name = hands.plots()[-1]
        assert name.endswith(uid_of(number)[:8])
        assert columns_of(hands.draw(name))["det"] == values_of(number)["det"]
    hands.choose("beamline")
    assert hands.choose(label_of(MANY - 5)) == ["primary", "baseline"]


def test_no_document_is_shown_where_it_would_be_read_as_a_template_or_a_page(hands):
    open_list(hands)
    hands.choose(label_of(MANY))
    text = hands.choose_stream("primary")
    assert not any(part in text for part in ("{{", "{%", "<script"))
    assert os.listdir() == []


def test_without_panel_it_tells_what_to_install(monkeypatch):
    def refuse(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr("filebroker.ground.packages.import_module", refuse)
    with pytest.raises(MissingPackage, match=r'panel, which is not installed: pip install "filebroker\[gui\]"'):
        _ = IntakeCatalog("nowhere").gui


# -- in a browser

_SERVER = """
import sys, warnings
warnings.simplefilter("ignore")
import intake, panel

window = intake.open_filebroker(sys.argv[1], name="beamline").gui
page = window.main if hasattr(window, "main") else window.panel
server = panel.serve(page, address="127.0.0.1", port=0, websocket_origin="*", show=False, start=False)
print("port", server.port, flush=True)
server.start()
server.io_loop.start()
"""
_FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
#: Of the page, in pixels.
WIDTH = 1600
#: The tables behind the plots on a page, and the names at their axes.
_DRAWN = """() => {
  const models = [...Bokeh.documents[0]._all_models.values()];
  const plain = data => Object.fromEntries((data instanceof Map ? [...data] : Object.entries(data)).map(
    ([name, values]) => [name, [...values]]));
  return {
    tables: models.filter(model => model.type == "ColumnDataSource").map(model => plain(model.data)),
    axes: models.filter(model => model.type == "LinearAxis").map(model => model.axis_label),
  };
}"""


@pytest.fixture
def address(folder: str) -> Iterator[str]:
    """Serve the window from a process of its own."""
    errors = Path("server.log")
    with errors.open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-c", _SERVER, folder], stdout=subprocess.PIPE, stderr=log, text=True
        )
    try:
        port = next((line.split()[1] for line in server.stdout if line.startswith("port ")), None)
        assert port, errors.read_text()
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


@contextlib.contextmanager
def opened_page(address: str) -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("there is no chromium on this machine")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=_FLAGS)
        page = browser.new_page(viewport={"width": WIDTH, "height": 900})
        page.set_default_timeout(30_000)
        page.asked, page.failed = [], []
        page.on("request", lambda request: page.asked.append(request.url))
        page.on("pageerror", lambda error: page.failed.append(str(error)))
        page.goto(address)
        page.locator("select").first.wait_for()
        yield page
        browser.close()


def keep(page: Any, folder: Path, name: str) -> Path:
    """Save what the page shows, also where somebody wants to look at it."""
    file = folder / f"intake-{intake.__version__}-{name}.png"
    page.screenshot(path=file)
    if wanted := os.environ.get("FILEBROKER_SCREENSHOTS"):
        os.makedirs(wanted, exist_ok=True)
        shutil.copy(file, wanted)
    return file


def colours_of(file: Path) -> int:
    """Count the points of a picture that are of a strong colour: those of plots, not of letters and buttons."""
    pillow = pytest.importorskip("PIL.Image")
    with pillow.open(file) as picture:
        points = picture.convert("RGB")
        return sum(
            count for count, point in points.getcolors(1 << 24) if max(point) - min(point) > 80 and point[0] < 100
        )


def wait_for_table(page: Any, number: int) -> dict[str, Any]:
    """Wait until the page has what a run recorded; give all that is drawn."""
    wanted = values_of(number)["det"]
    page.wait_for_function(
        f"wanted => ({_DRAWN})().tables.some(table => JSON.stringify(table.det) == JSON.stringify(wanted))", arg=wanted
    )
    page.locator("canvas").first.wait_for()
    page.wait_for_timeout(500)  # bokeh draws in the next frame
    found: dict[str, Any] = page.evaluate(_DRAWN)
    return found


def test_in_a_browser_one_comes_from_the_catalog_to_the_plot(address, tmp_path):
    with opened_page(address) as page:
        runs, streams, plots = (page.locator("select").nth(number) for number in range(3))
        if IS_TWO:
            runs.select_option("beamline")
        newest = runs.locator("option", has_text=label_of(MANY))
        newest.wait_for(state="attached")
        assert runs.locator("option").count() == 1 + LISTED
        before = colours_of(keep(page, tmp_path, "list"))
        for number, axes in ((MANY - 1, {"motor", "det"}), (MANY, {"motor", "slow"})):
            runs.select_option(label=runs.locator("option", has_text=label_of(number)).inner_text())
            streams.locator("option", has_text="baseline").wait_for(state="attached")
            assert streams.locator("option").all_inner_texts() == ["primary", "baseline"]
            page.wait_for_timeout(300)
            streams.select_option(label="primary")
            page.get_by_text(uid_of(number)).first.wait_for()
            page.get_by_role("button", name="📊").click()
            name = plots.locator("option", has_text=uid_of(number)[:8])
            name.wait_for(state="attached")
            plots.select_option(label=name.inner_text())
            drawn = wait_for_table(page, number)
            assert axes <= set(drawn["axes"])
            table = next(table for table in drawn["tables"] if table.get("det") == values_of(number)["det"])
            assert table["motor"] == values_of(number)["motor"]
            box = page.locator("canvas").first.bounding_box()
            assert box["x"] + box["width"] <= WIDTH, "the plot is inside the page"
            file = keep(page, tmp_path, "grid" if number == MANY else "scan")
            assert colours_of(file) > before + 200, "the plot is to be seen"
        assert page.failed == []
        assert {url.split("/")[2] for url in page.asked if not url.startswith("data:")} == {address.split("/")[2]}
        assert page.title() != "broken"
