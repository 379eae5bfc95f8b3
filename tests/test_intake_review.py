"""What people stumbled over who tried catalogs of Intake for the first time."""

import re
import warnings
from pathlib import Path
from typing import Any

import intake
import pytest

import factories
from filebroker import Broker, list_configs
from filebroker.ground.errors import (
    AmbiguousPrefix,
    CatalogNotFound,
    DamagedRunWarning,
    InvalidConfig,
    InvalidKey,
    InvalidOption,
    InvalidQuery,
    RunNotFound,
    UnknownCatalogName,
)

EXAMPLE = Path(__file__).parents[1] / "sample_data" / "example"
SOURCE = "sources: {{{name}: {{driver: {driver}, description: x, args: {args}}}}}"


@pytest.fixture
def catalog() -> Any:
    return intake.open_filebroker(EXAMPLE)


def write_source(own_home: Path, args: str, name: str = "found", driver: str = "filebroker") -> str:
    file = own_home / ".config" / "filebroker" / "a.yml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(SOURCE.format(name=name, driver=driver, args=args))
    return str(file)


def test_damage_is_told_to_everyone_who_asks_for_the_run(tmp_path: Path) -> None:
    with_run = Broker(tmp_path / "runs")
    for pair in factories.run(3):
        with_run.insert(*pair)
    with_run.close()
    (page,) = (tmp_path / "runs").rglob("primary/*.parquet")
    page.write_bytes(page.read_bytes()[:100])
    kept = []
    for _ in range(2):
        with pytest.warns(DamagedRunWarning, match="damaged"):
            kept.append((primary := intake.open_filebroker(tmp_path / "runs")[-1].primary, primary.read()))


def test_a_template_that_only_intake_can_fill_is_no_directory(own_home: Path) -> None:
    file = write_source(own_home, '{url: "/data/{{ site }}"}')
    assert "found" in list_configs()
    with pytest.raises(InvalidConfig, match=re.escape("{{ site }}")) as caught:
        Broker.named("found")
    assert file in str(caught.value)


def test_parameters_of_a_whole_file_are_filled_in(own_home: Path) -> None:
    file = write_source(own_home, f'{{url: "{EXAMPLE.parent}/{{{{ site }}}}"}}')
    shared = "\nmetadata: {parameters: {site: {type: str, description: x, default: example}}}\n"
    Path(file).write_text(Path(file).read_text() + shared)
    assert len(Broker.named("found").catalog) == 22


def test_a_name_of_one_run_is_no_broker(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_source(own_home, f"{{url: {EXAMPLE}, run: -1}}", driver="filebroker_run")
    monkeypatch.setenv("INTAKE_PATH", str(Path(file).parent))
    with pytest.raises(UnknownCatalogName, match="no catalog of runs"):
        Broker.named("found")


def test_renewed_credentials_are_used_although_an_older_source_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"token": {"env": "HALL_A_TOKEN"}}
    monkeypatch.setenv("HALL_A_TOKEN", "testing-one")
    before = intake.open_filebroker("memory://renewed", storage_options=options)
    place = before._place
    place.broker(read_only=False).insert("start", factories.start())
    first = before._broker
    assert intake.open_filebroker("memory://renewed", storage_options=options)._broker is first
    monkeypatch.setenv("HALL_A_TOKEN", "testing-two")
    assert intake.open_filebroker("memory://renewed", storage_options=options)._broker is not first
    first.close()


@pytest.mark.parametrize(
    ("ask", "error", "told"),
    [
        (lambda catalog: catalog.search("good", "sample"), InvalidQuery, "one string"),
        (lambda catalog: catalog.search({1: "x"}), InvalidQuery, "keys of a search are text"),
        (lambda catalog: catalog[-3:], InvalidKey, "catalog.v1"),
        (lambda catalog: catalog["s000022_scan_0a00d92d"], RunNotFound, "has the label"),
        (lambda catalog: catalog.get_table, AttributeError, "catalog.v1.get_table"),
        (lambda catalog: catalog[-1].table, AttributeError, "run.v1.table"),
        (lambda catalog: catalog[-1].nostream, AttributeError, "it has ..baseline., .primary"),
        (lambda catalog: catalog(serach="LaB6"), InvalidOption, "serach.*search"),
        (lambda catalog: catalog.to_dataframe(limit="many"), InvalidOption, "limit"),
        (reversed, TypeError, "reversible"),
        (lambda catalog: catalog[""], AmbiguousPrefix, "give more"),
        (lambda _: len(intake.open_filebroker("example")), CatalogNotFound, "Broker.named"),
        (lambda _: intake.open_filebroker("https://h/x?token=abcdef"), InvalidConfig, "token"),
        (lambda _: intake.open_filebroker(EXAMPLE, transforms={"start": lambda doc: doc}), InvalidConfig, "import"),
        (lambda _: intake.open_filebroker(EXAMPLE, storage_options={1: 2}), InvalidConfig, "no text"),
    ],
)
def test_a_mistake_is_told_with_what_to_do(catalog: Any, ask: Any, error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        ask(catalog)


def test_a_search_for_a_key_that_no_run_has_says_so(catalog: Any) -> None:
    assert "no run has the key 'plan', see v1.keys_seen()" in repr(catalog.search(plan="scan"))
    assert "no run has" not in repr(catalog.search(plan_name="nosuch"))


def test_a_year_in_a_catalog_file_is_a_year(own_home: Path) -> None:
    file = write_source(own_home, f"{{url: {EXAMPLE}, search: {{since: 2027}}}}")
    assert len(intake.open_catalog(file).found) == len(Broker.named("found")()) == 0
    file = write_source(own_home, f"{{url: {EXAMPLE}, search: {{since: 2026}}}}")
    assert len(intake.open_catalog(file).found) == len(Broker.named("found")()) == 22


def test_a_parameter_of_the_source_is_named_first_where_another_was_meant(own_home: Path) -> None:
    file = write_source(own_home, f'{{url: {EXAMPLE}, search: {{operator: "{{{{ operator }}}}"}}}}')
    text = Path(file).read_text()
    parameter = "parameters: {operator: {type: str, description: x, default: Ana}}, args"
    Path(file).write_text(text.replace("args", parameter))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Shell command not executed")
        found = intake.open_catalog(file).found
        assert len(found(operator="Chen")) == 2
        with pytest.raises(InvalidOption, match="may have operator, "):
            found(operater="Chen")


def test_read_takes_what_to_dataframe_takes(catalog: Any) -> None:
    assert catalog.read(["scan_id"], limit=2)["scan_id"].to_list() == [22, 21]


@pytest.mark.parametrize(
    ("default", "expected"),
    [("env(RUNS_OF_HALL_A)", 22), ("env(NOSUCHVARIABLE,unused)", None), ("shell(echo x)", None)],
)
def test_the_default_of_a_parameter_may_be_a_variable_and_is_no_command(
    own_home: Path, monkeypatch: pytest.MonkeyPatch, default: str, expected: int | None
) -> None:
    monkeypatch.setenv("RUNS_OF_HALL_A", "example")
    file = write_source(own_home, f'{{url: "{EXAMPLE.parent}/{{{{ where }}}}", read_only: true}}')
    parameter = f'parameters: {{where: {{type: str, description: x, default: "{default}"}}}}, args'
    Path(file).write_text(Path(file).read_text().replace("args", parameter))
    if expected is None:
        with pytest.raises((InvalidConfig, CatalogNotFound)):
            Broker.named("found")
    else:
        assert len(Broker.named("found").catalog) == expected


def test_a_stream_of_some_columns_offers_no_plot_of_others(catalog: Any) -> None:
    stream = catalog[-1].primary
    assert len(stream[["det", "motor"]].plots) == len(stream.plots) == 1
    assert stream[["det"]].plots == []


def test_a_file_that_intake_would_not_understand_is_named_where_its_name_is_asked_for(own_home: Path) -> None:
    file = own_home / ".local" / "share" / "intake" / "hall.yml"
    file.parent.mkdir(parents=True)
    file.write_text(f"path: {EXAMPLE}")
    with pytest.raises(InvalidConfig, match="sources") as caught:
        Broker.named("hall")
    assert str(file) in str(caught.value)


def test_every_place_of_intake_is_told_of_when_a_name_is_not_found(own_home: Path) -> None:
    with pytest.raises(UnknownCatalogName) as caught:
        Broker.named("nosuch")
    assert str(own_home / ".local" / "share" / "intake") in str(caught.value)


def test_credentials_within_options_are_shown_nowhere() -> None:
    options: dict[str, Any] = {
        "client_kwargs": {"endpoint_url": "https://ana:testing-canary@host"},
        "url": "https://host?token=testing-canary",
        "password": 12345678,
    }
    source = intake.open_filebroker("memory://none", storage_options=options)
    for text in (source.yaml(), repr(source), str(source.describe())):
        assert "testing-canary" not in text
        assert "12345678" not in text
