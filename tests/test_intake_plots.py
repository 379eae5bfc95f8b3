"""Plots that the hints of a run describe."""

from typing import Any

import pytest
import yaml

import factories
from filebroker.faces.plots import plots_of
from filebroker.ground.errors import MissingPackage, NotSupported
from filebroker.intake.plots import PlotAccess

UID = "84d9ee44-8c4b-4b8f-9d9c-1d2d64d3b2c4"
ONE = {"dimensions": [[["motor"], "primary"]]}
GRID = {"dimensions": [[["slow"], "primary"], [["fast"], "primary"]], "gridding": "rectilinear"}
SCATTER = {"dimensions": GRID["dimensions"]}


def described(fields: Any = ("det", "motor"), **keys: Any) -> dict[str, Any]:
    """Make a descriptor in which every device hints its field."""
    doc = factories.descriptor(factories.start(), fields)
    return {**doc, "hints": {key: {"fields": [key]} for key in doc["data_keys"]}, **keys}


def started(hints: Any = ONE, **keys: Any) -> dict[str, Any]:
    return factories.start(uid=UID, hints=hints, **keys)


def drawn(start: dict[str, Any], *descriptors: Any, stream: str = "primary") -> list[tuple[Any, Any]]:
    """Give x and y (and colour) of each plot."""
    plots = plots_of(start, list(descriptors), stream)
    assert all(name.isidentifier() and name.endswith("_84d9ee44") for name in plots)
    assert yaml.safe_load(yaml.safe_dump(plots)) == plots
    return [
        (plot["x"], plot["y"]) if plot["kind"] == "line" else (plot["x"], plot["y"], plot["c"])
        for plot in plots.values()
    ]


CHOICES = [
    # what it is, the start document, the descriptor, what is drawn
    ("a scan", started(), described(), [("motor", ["det"])]),
    (
        "several detectors: all, then each",
        started(),
        described(["det", "i0", "motor"]),
        [("motor", ["det", "i0"]), ("motor", ["det"]), ("motor", ["i0"])],
    ),
    ("a count", started({"dimensions": [[["time"], "primary"]]}), described(["det"]), [("time", ["det"])]),
    ("the first of several fields of a dimension", started({"dimensions": [[["motor", "readback"], "primary"]]}),
     described(["det", "motor", "readback"]), [("motor", ["det"])]),
    ("tuples as the RunEngine gives them", started({"dimensions": [(("motor",), "primary")]}), described(),
     [("motor", ["det"])]),
    ("a grid", started(GRID), described(["det", "slow", "fast"]), [("fast", "slow", "det")]),
    ("a grid of other names", started(GRID | {"dimensions": [[["x"], "primary"], [["y"], "primary"]]}),
     described(["det", "x", "y"]), [("y", "x", "det")]),
    ("two dimensions, no grid", started(SCATTER), described(["det", "slow", "fast"]), [("slow", "fast", "det")]),
    ("three dimensions", started({"dimensions": [[[name], "primary"] for name in "xyz"]}), described(["det", *"xyz"]),
     [("time", ["det"])]),
    ("no hints but motors", started({}, motors=["motor"]), described(), [("motor", ["det"])]),
    ("dimensions of two streams, and motors", started({"dimensions": [[["a"], "primary"], [["b"], "other"]]},
     motors=["motor"]), described(), [("motor", ["det"])]),
    ("a motor of several fields", started({}, motors=["stage"]),
     described(hints={"stage": {"fields": ["motor"]}, "det": {"fields": ["det"]}}), [("motor", ["det"])]),
    ("no hints at all", started({}), described(["det"]), [("time", ["det"])]),
    ("a dimension that was not recorded", started({"dimensions": [[["gone"], "primary"]]}), described(["det"]),
     [("time", ["det"])]),
    ("a dimension that is text", started(), described({"det": "number", "motor": "string"}), [("time", ["det"])]),
    ("a device that hints nothing gives all its fields", started(),
     described(hints={}, object_keys={"det": ["det"], "motor": ["motor"]}), [("motor", ["det"])]),
    ("a device with an empty hint gives none", started(), described(["det", "i0", "motor"],
     hints={"det": {"fields": []}, "i0": {"fields": ["i0"]}, "motor": {"fields": ["motor"]}}), [("motor", ["i0"])]),
    ("only numbers are drawn", started(),
     described({"motor": "number", "det": "integer", "name": "string", "image": "array", "on": "boolean",
                "file": factories.data_key(external="FILESTORE:"), "pair": factories.data_key(shape=[2])}),
     [("motor", ["det"])]),
    ("fields that are named as columns of their own", started(), described(["time", "seq_num", "uid", "det", "motor"]),
     [("motor", ["det"])]),
    ("one point", started(num_points=1), described(), []),
    ("nothing but the motor", started(), described(["motor"]), []),
    ("hinted fields that were not recorded", started(), described(["motor"], hints={"det": {"fields": ["gone"]}}), []),
]  # fmt: skip


@pytest.mark.parametrize(
    ("start", "descriptor", "expected"), [case[1:] for case in CHOICES], ids=[c[0] for c in CHOICES]
)
def test_what_is_drawn_is_chosen_as_bluesky_does(start, descriptor, expected):
    assert drawn(start, descriptor) == expected


def test_bluesky_finds_the_same_fields_hinted():
    best_effort = pytest.importorskip("bluesky.callbacks.best_effort")
    doc = described(["b", "a", "motor"], hints={"a": {"fields": ["a"]}, "b": {"fields": ["b"]}})
    fields = [name for name in best_effort.hinted_fields(doc) if name != "motor"]
    assert drawn(started(), doc)[0] == ("motor", fields)


def test_other_streams_are_drawn_against_time_and_baselines_never():
    assert drawn(started(), described(["det"], name="monitor"), stream="monitor") == [("time", ["det"])]
    for start in (started(), started({}, motors=["motor"])):
        assert drawn(start, described(["det", "motor"], name="monitor"), stream="monitor") == [
            ("time", ["det", "motor"]),
            ("time", ["det"]),
            ("time", ["motor"]),
        ]
    assert drawn(started(), described(["det"], name="baseline"), stream="baseline") == []
    assert drawn(started(), described(["det"], name="monitor"), stream="primary") == []


def test_descriptors_add_up_and_a_field_that_is_a_number_in_some_of_them_only_is_left_out():
    assert drawn(started(), described(["det", "motor"]), described(["i0", "motor"]))[0] == ("motor", ["det", "i0"])
    assert drawn(started(), described(["det", "motor"]), described({"det": "array", "motor": "number"})) == []


def test_a_descriptor_of_old_has_no_name():
    doc = described()
    del doc["name"]
    assert drawn(started(), doc) == [("motor", ["det"])]


def test_ten_thousand_fields_make_few_plots():
    plots = plots_of(started(), [described([f"det{number}" for number in range(10_000)] + ["motor"])], "primary")
    assert len(plots) == 11
    assert max(len(plot["y"]) for plot in plots.values()) == 10


def test_names_tell_what_is_drawn_and_of_which_run():
    def names(*fields):
        return list(plots_of(started(), [described([*fields, "motor"])], "primary"))

    assert names("det") == ["det_vs_motor_84d9ee44"]
    assert names("a-b", "a b") == ["all_vs_motor_84d9ee44", "a_b_vs_motor_84d9ee44", "a_b_vs_motor_2_84d9ee44"]
    assert names("all", "2theta", "_x", "{{ shell('id') }}", "\ud800")[1:] == [
        "all_vs_motor_2_84d9ee44",
        "plot_2theta_vs_motor_84d9ee44",
        "x_vs_motor_84d9ee44",
        "shell_id_vs_motor_84d9ee44",
        "vs_motor_84d9ee44",
    ]
    assert len(names("d" * 1000)[0]) < 80
    monitor = plots_of(started(), [described(["det"], name="monitor")], "monitor")
    assert list(monitor) == ["det_vs_time_monitor_84d9ee44"]


ODD = [
    None, 3, "motor", b"motor", [], {}, [None], [[]], [3], ["motor"], [["motor"]], [["motor", "primary"]],
    [[["motor"], None]], [[[None], "primary"]], [[[["motor"]], "primary"]], [[{"a": 1}, {"b": 2}]],
    [[["motor"], ["x"]]],
    [[["motor"], "primary"], 3], {"motor": ["motor"]}, {"fields": "motor"}, {"fields": None}, {"fields": [[], {}]},
    [[["motor"], "primary"]] * 2, float("nan"), True,
]  # fmt: skip


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_hints_of_any_shape_raise_nothing(odd):
    good = described()
    for start in (
        started(odd),
        started({"dimensions": odd, "gridding": odd}),
        started({}, motors=odd, num_points=odd),
        {"hints": ONE},
        {"uid": odd},
    ):
        plots_of(start, [good], "primary")
    for doc in (
        odd,
        *({**good, key: odd} for key in ("hints", "data_keys", "object_keys", "name")),
        {**good, "hints": {"det": odd, "motor": odd}},
        {**good, "object_keys": {"det": odd}, "hints": {}},
        {**good, "data_keys": {"det": odd, "motor": {"dtype": odd, "shape": odd}}},
    ):
        plots_of(started(), [doc, good], "primary")
    assert plots_of(started(), odd, "primary") == {}  # type: ignore[arg-type]


# -- drawing


class Source:
    """What `PlotAccess` needs to know of a source."""

    def __init__(self, start: Any, *descriptors: Any) -> None:
        self.metadata = {"plots": plots_of(start, list(descriptors), "primary")}


def test_plots_are_listed_without_hvplot_and_to_draw_one_tells_what_to_install(monkeypatch):
    def refuse(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr("filebroker.ground.packages.import_module", refuse)
    access = PlotAccess(Source(started(), described()))
    assert dir(access) == ["det_vs_motor_84d9ee44"]
    assert repr(access) == "<plots det_vs_motor_84d9ee44>"
    for draw in (access, lambda: access.det_vs_motor_84d9ee44(), lambda: access.line(x="motor")):
        with pytest.raises(MissingPackage, match=r'hvplot, which is not installed: pip install "filebroker\[gui\]"'):
            draw()


def test_where_the_hints_describe_nothing_it_says_so():
    access = PlotAccess(Source(started(), described(["motor"])))
    assert dir(access) == []
    with pytest.raises(NotSupported, match="describe no plot"):
        access()
    assert not hasattr(access, "_repr_html_")


@pytest.fixture
def table():
    """A source of Intake that gives a table and counts how often."""
    pytest.importorskip("hvplot")
    import pandas as pd
    from intake.source.base import DataSource

    class Table(DataSource):
        container = "dataframe"
        name = "primary"
        reads = 0

        def read(self):
            self.reads += 1
            columns = {key: [1.0, 2.0, 3.0] for key in ("time", "motor", "slow", "fast", "det", "i0")}
            return pd.DataFrame({"seq_num": [1, 2, 3], **columns})

    def make(start, fields):
        return Table(metadata={"plots": plots_of(start, [described(fields)], "primary")})

    return make


@pytest.mark.parametrize(
    ("hints", "fields", "expected"),
    [
        (ONE, ["det", "motor"], [":Curve   [motor]   (det)"]),
        (ONE, ["det", "i0", "motor"], [["det", "i0"], ":Curve   [motor]   (det)", ":Curve   [motor]   (i0)"]),
        (GRID, ["det", "slow", "fast"], [":Scatter   [fast]   (slow,det)"]),
        ({}, ["det"], [":Curve   [time]   (det)"]),
    ],
    ids=["a scan", "several detectors", "a grid", "a count"],
)
def test_every_plot_is_drawn_with_holoviews(table, hints, fields, expected):
    import holoviews

    holoviews.extension("bokeh", logo=False)
    source = table(started(hints), fields)
    access = PlotAccess(source)
    plots = [getattr(access, name)() for name in dir(access)]
    assert source.reads == len(plots)
    assert [list(plot.keys()) if isinstance(plot, holoviews.NdOverlay) else str(plot) for plot in plots] == expected
    assert str(access()) == str(plots[0])
    for plot in plots:
        holoviews.render(plot, backend="bokeh")


def test_other_plots_are_hvplots(table):
    source = table(started(), ["det", "motor"])
    access = PlotAccess(source)
    kinds = access.line, access.scatter, access.hist
    assert source.reads == 0
    assert all(map(callable, kinds))
    assert str(access.scatter(x="motor", y="det")) == ":Scatter   [motor]   (det)"
    assert str(access(x="motor", y="det")) == ":Curve   [motor]   (det)"
