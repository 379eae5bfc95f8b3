"""Catalogs by name: which files are found, in which order, and what is said when none is."""

from pathlib import Path

import pytest

import factories as make
from filebroker import (
    Broker,
    ConfigNotFound,
    InvalidConfig,
    UnknownCatalogName,
    describe_configs,
    list_configs,
    lookup_config,
    temp,
    temp_config,
)
from filebroker.ground import config


@pytest.fixture
def own(own_home: Path) -> Path:
    """The user's own directory of configurations."""
    path = Path(config.search_path()[0])
    path.mkdir(parents=True)
    assert path.is_relative_to(own_home)
    return path


def recorded(path: Path) -> Path:
    broker = Broker(path)
    for pair in make.run(2):
        broker.insert(*pair)
    return path


def test_the_example_is_always_there() -> None:
    assert list_configs() == ["example"]
    broker = Broker.named("example")
    assert broker.name == "example"
    assert len(broker.catalog) >= 20
    assert broker.catalog.read_only


def test_a_path_is_the_configuration(own: Path, tmp_path: Path) -> None:
    (own / "beamtime.yml").write_text(f"description: mine\npath: {recorded(tmp_path / 'runs')}\n")
    assert list_configs() == ["beamtime", "example"]
    assert describe_configs()["beamtime"] == "mine"
    assert (
        lookup_config("beamtime")
        == lookup_config("beamtime.yml")
        == {"description": "mine", "path": str(tmp_path / "runs")}
    )
    assert len(Broker.named("beamtime")[-1].table()) == 2


def test_a_relative_path_is_relative_to_the_file(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded(own / "runs")
    (own / "beamtime.yml").write_text("path: runs\n")
    monkeypatch.chdir(tmp_path)
    assert len(Broker.named("beamtime")[-1].table()) == 2


def test_variables_and_the_home_are_expanded(own: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded(own_home / "runs")
    monkeypatch.setenv("WHERE", str(own_home))
    for path in ("~/runs", "$WHERE/runs"):
        (own / "beamtime.yml").write_text(f"path: {path}\n")
        assert len(Broker.named("beamtime").catalog) == 1


def test_options_are_passed_on(own: Path, tmp_path: Path) -> None:
    recorded(tmp_path / "runs")
    (own / "beamtime.yml").write_text(f"path: {tmp_path / 'runs'}\nread_only: true\n")
    assert Broker.named("beamtime").catalog.read_only


def test_sources_of_an_intake_catalog_are_names(own: Path) -> None:
    recorded(own / "runs")
    (own / "site.yml").write_text(
        "sources:\n"
        "  hall_a:\n    driver: filebroker\n    description: Hall A\n    args: {url: '{{ CATALOG_DIR }}/runs'}\n"
        "  table:\n    driver: csv\n    args: {urlpath: x.csv}\n"
    )
    assert list_configs() == ["example", "hall_a"]
    assert describe_configs()["hall_a"] == "Hall A"
    assert len(Broker.named("hall_a").catalog) == 1


def test_the_first_place_wins_and_a_warning_names_both(own: Path, own_home: Path, tmp_path: Path) -> None:
    databroker = own_home / ".config" / "databroker"
    databroker.mkdir(parents=True)
    (databroker / "beamtime.yml").write_text("path: /other\n")
    assert list_configs() == ["beamtime", "example"]
    (own / "beamtime.yml").write_text(f"path: {recorded(tmp_path / 'runs')}\n")
    with pytest.warns(UserWarning, match="filebroker/beamtime.yml and in .*databroker/beamtime.yml; the first is used"):
        assert list_configs() == ["beamtime", "example"]
    assert len(Broker.named("beamtime").catalog) == 1


def test_the_shipped_example_is_replaced_in_silence(own: Path, tmp_path: Path) -> None:
    (own / "example.yml").write_text(f"description: mine\npath: {tmp_path}\n")
    assert list_configs() == ["example"]
    assert describe_configs() == {"example": "mine"}


def test_every_place_is_named_when_a_name_is_not_found() -> None:
    with pytest.raises(UnknownCatalogName) as caught:
        Broker.named("nosuch")
    for place in config.search_path():
        assert place in str(caught.value)
    assert "The names known are example" in str(caught.value)
    with pytest.raises(AttributeError):
        Broker.named("nosuch")
    with pytest.raises(ConfigNotFound, match=r"nosuch\.yml"):
        lookup_config("nosuch")
    with pytest.raises(FileNotFoundError):
        lookup_config("nosuch.yml")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "needs a line such as"),
        ("path: 5", "needs a line such as"),
        ("path: /x\npaht: /y", "has 'paht', which means nothing"),
        ("path: /x\nstorage_options: anon", "write for example 'storage_options: {anon: true}'"),
        ("path: /x\nread_only: yes please", "write for example 'read_only: true'"),
        ("path:/x", "mind the space"),
    ],
)
def test_a_broken_configuration_is_explained(own: Path, content: str, message: str) -> None:
    (own / "broken.yml").write_text(content)
    with pytest.raises(InvalidConfig, match=message):
        Broker.named("broken")


@pytest.mark.parametrize("content", [b"a: [", b"\xff\xfe", b"- 1", b"", b"!!python/object/apply:os.system ['id']"])
def test_a_file_that_is_no_configuration_never_hides_the_others(own: Path, content: bytes) -> None:
    (own / "broken.yml").write_bytes(content)
    with pytest.warns(UserWarning, match=r"broken\.yml cannot be read"):
        assert list_configs() == ["example"]
    assert Broker.named("example").name == "example"  # and nobody is bothered who asks for another
    with pytest.raises(InvalidConfig, match=r"broken\.yml cannot be used"):
        Broker.named("broken")


def test_the_legacy_configuration_is_left_out(own: Path) -> None:
    (own / "_legacy_config.yml").write_text("path: /x\n")
    assert list_configs() == ["example"]
    assert describe_configs().keys() == {"example"}
    assert lookup_config("_legacy_config") == {"path": "/x"}


def test_the_message_of_a_missing_file_leaves_the_legacy_configuration_out(own: Path) -> None:
    (own / "_legacy_config.yml").write_text("path: /x\n")
    with pytest.raises(ConfigNotFound, match="The names known are example"):
        lookup_config("nosuch")


def test_other_directories_can_be_given(tmp_path: Path) -> None:
    (tmp_path / "a.yml").write_text("path: /x\n")
    assert list_configs([str(tmp_path)]) == ["a"]
    assert lookup_config("a", [str(tmp_path)]) == {"path": "/x"}


def test_temporary_catalogs_are_independent_and_vanish() -> None:
    one, other = temp(), Broker.named("temp")
    one.insert("start", make.start())
    assert len(one.catalog) == 1
    assert len(other.catalog) == 0
    folder = Path(one.catalog.folder.url)
    assert folder.is_dir()
    del one
    assert not folder.exists()
    with pytest.raises(NotImplementedError):
        temp_config()
