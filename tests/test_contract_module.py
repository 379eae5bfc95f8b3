"""What a configuration may say, and what the module offers without a broker: catalogs by name, and the legacy one."""

import copy
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import factories as make
import filebroker
from filebroker import (
    Broker,
    InvalidConfig,
    MissingPackage,
    NotSupported,
    RunCatalog,
    UnknownCatalogName,
    describe_configs,
    list_configs,
    lookup_config,
)
from filebroker.faces import discovery
from filebroker.faces.discovery import ConfigCatalog, EntrypointsCatalog, MergedCatalog
from filebroker.ground import config

MONGO = {
    "description": "old",
    "metadatastore": {
        "module": "databroker.headersource.mongo",
        "class": "MDS",
        "config": {"host": "localhost", "port": 27017, "database": "runs", "timezone": "US/Eastern"},
    },
    "assets": {
        "module": "databroker.assets.mongo",
        "class": "Registry",
        "config": {"host": "localhost", "port": 27017, "database": "assets"},
    },
    "handlers": {"FOO": {"module": "no_such_package.handlers", "class": "RawHandler"}},
    "root_map": {"foo": "/bar", "boo": "/far"},
}


@pytest.fixture
def own(own_home: Path) -> Path:
    """The user's own directory of configurations."""
    path = Path(config.search_path()[0])
    path.mkdir(parents=True)
    return path


@pytest.fixture
def intake_directory(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's directory of Intake catalog files; the environment has none."""
    monkeypatch.setenv("XDG_DATA_HOME", str(own_home / "data"))
    monkeypatch.setenv("VIRTUAL_ENV", str(own_home / "environment"))
    for variable in ("INTAKE_PATH", "INTAKE_CATALOG_PATH", "INTAKE_CONF_DIR", "INTAKE_CONF_FILE"):
        monkeypatch.delenv(variable, raising=False)
    path = Path(filebroker.catalog_search_path()[0])
    path.mkdir(parents=True)
    return path


def recorded(path: Path, number: int = 2) -> Path:
    broker = Broker(path)
    for pair in make.run(number):
        broker.insert(*pair)
    broker.close()
    return path


def source(name: str, path: Path | str, driver: str = "filebroker", more: str = "") -> str:
    return f"  {name}:\n    driver: {driver}\n    description: {name} of runs\n    args: {{url: '{path}'{more}}}\n"


# -- what a configuration may say


@pytest.mark.parametrize(
    "handler",
    [{"module": "doct", "class": "Document"}, "doct.Document", "doct:Document"],
    ids=["module and class", "dotted", "with a colon"],
)
def test_a_configuration_adds_handlers_to_those_discovered(handler: Any, tmp_path: Path) -> None:
    import doct

    settings = {"path": str(tmp_path), "handlers": {"FOO": handler}}
    broker = Broker.from_config(settings)
    assert {"FOO", "AD_HDF5"} <= set(broker.reg.handler_reg)
    assert broker.reg.handler_reg["FOO"] is doct.Document
    alone = Broker.from_config(settings, auto_register=False)
    assert set(alone.reg.handler_reg) == {"FOO"}


def test_a_handler_is_imported_when_it_is_needed_and_no_sooner(tmp_path: Path) -> None:
    broker = Broker.from_config({"path": str(tmp_path), "handlers": MONGO["handlers"]})
    assert "FOO" in broker.reg.handler_reg
    with pytest.raises(KeyError, match="no_such_package"):
        broker.reg.handler_reg["FOO"]


def test_named_registers_as_from_config_does(own: Path, tmp_path: Path) -> None:
    (own / "a.yml").write_text(f"path: {tmp_path}\nhandlers: {{FOO: doct.Document}}\n")
    assert "AD_HDF5" in Broker.named("a").reg.handler_reg
    assert set(Broker.named("a", auto_register=False).reg.handler_reg) == {"FOO"}


def test_a_relative_root_map_is_relative_to_the_file(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHERE", "/here")
    text = f"path: {tmp_path}\nroot_map: {{/old: images, /a: /b, /c: 's3://bucket/c', /d: ~/d, /e: $WHERE/e}}\n"
    (own / "a.yml").write_text(text)
    assert Broker.named("a").reg.root_map == {
        "/old": str(own / "images"),
        "/a": "/b",
        "/c": "s3://bucket/c",
        "/d": str(Path.home() / "d"),
        "/e": "/here/e",
    }


def test_a_relative_root_map_without_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="images") as caught:
        Broker.from_config({"path": str(tmp_path), "root_map": {"/old": "images"}})
    assert isinstance(caught.value, InvalidConfig)


def test_the_root_map_is_live(tmp_path: Path) -> None:
    broker = Broker.from_config({"path": str(tmp_path), "root_map": {"/a": "/b"}})
    broker.reg.root_map["/c"] = "/d"
    assert broker.handlers.root_map == {"/a": "/b", "/c": "/d"}


def marked(doc: dict[str, Any]) -> dict[str, Any]:
    return {**doc, "marked": True}


def test_transforms_change_documents_on_their_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "my_transforms", SimpleNamespace(marked=marked))
    kinds = ("start", "stop", "descriptor", "resource")
    settings = {"path": str(recorded(tmp_path)), "transforms": dict.fromkeys(kinds, "my_transforms.marked")}
    broker = Broker.from_config(settings)
    assert broker.transforms.keys() == set(kinds)
    documents = list(broker[-1].documents())
    assert {name for name, doc in documents if doc.get("marked")} == {"start", "stop", "descriptor"}
    assert "marked" not in Broker(tmp_path)[-1].start


@pytest.mark.parametrize(
    ("transforms", "error", "message"),
    [
        ({"event": "copy.copy"}, NotSupported, "event documents cannot be transformed"),
        ({"start": "no_such_package.f"}, InvalidConfig, "no_such_package"),
        ({"start": "copy.no_such_function"}, InvalidConfig, "no_such_function"),
        ({"start": 5}, InvalidConfig, "give a function"),
        ({"start": "sys.path"}, InvalidConfig, "give a function"),
        ("copy.copy", InvalidConfig, "write for example 'transforms:"),
    ],
)
def test_transforms_that_cannot_be_are_refused(
    transforms: Any, error: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        Broker.from_config({"path": str(tmp_path), "transforms": transforms})


@pytest.mark.parametrize(("version", "kind"), [(None, Broker), (0, Broker), (1, Broker), (2, RunCatalog)])
def test_the_api_version_chooses_the_face(version: int | None, kind: type, own: Path, tmp_path: Path) -> None:
    settings = {"path": str(recorded(tmp_path)), "api_version": version}
    broker = Broker.from_config(settings, name="mine")
    assert type(broker) is kind
    assert broker.name == "mine"
    assert len(broker.v1[-1].table()) == 2
    (own / "a.yml").write_text(f"path: {tmp_path}\napi_version: {json.dumps(version)}\n")
    assert type(Broker.named("a")) is kind


@pytest.mark.parametrize("version", [3, -1, "2", True, 1.0])
def test_another_api_version_is_refused(version: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="0 or 1 for a Broker, or 2"):
        Broker.from_config({"path": str(tmp_path), "api_version": version})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"handlers": {"FOO": {"module": "doct"}}}, r"'FOO: \{module: my_package.handlers, class: MyHandler\}'"),
        ({"handlers": {"FOO": 5}}, "has the handler FOO: 5"),
        ({"handlers": {"FOO": "Document"}}, "has the handler FOO: 'Document'"),
        ({"handlers": ["FOO"]}, "write for example 'handlers:"),
        ({"root_map": "/a"}, "write for example 'root_map:"),
        ({"root_map": {"/a": 1}}, "both are paths"),
        ({"handler": {}}, "has 'handler', which means nothing"),
        ({"path": None}, "the configuration names no catalog"),
    ],
)
def test_a_configuration_that_cannot_be_used_is_explained(settings: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match=message):
        Broker.from_config({"path": str(tmp_path), **settings})


def test_a_configuration_is_a_mapping() -> None:
    with pytest.raises(InvalidConfig, match="a configuration is a mapping"):
        Broker.from_config("/data/beamtime")


def test_a_broker_knows_its_configuration(own: Path, tmp_path: Path) -> None:
    settings = {"path": str(tmp_path), "description": "mine", "root_map": {"/a": "/b"}}
    before = {**settings}
    broker = Broker.from_config(settings)
    assert broker.get_config() == settings == before
    assert broker.name is None
    (own / "a.yml").write_text(f"path: {tmp_path}\n")
    assert Broker.named("a").get_config() == lookup_config("a") == {"path": str(tmp_path)}
    assert Broker(tmp_path).get_config() is None
    assert filebroker.temp().get_config() is None


def test_a_class_of_ones_own_is_kept(tmp_path: Path) -> None:
    class Mine(Broker):
        pass

    assert type(Mine.from_config({"path": str(tmp_path)})) is Mine
    assert type(Mine.named("example")) is Mine


def test_a_source_of_an_intake_file_may_say_the_same(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HALL", "hall_a")
    recorded(own / "hall_a" / "runs")
    (own / "site.yml").write_text(
        "sources:\n  hall:\n    driver: filebroker\n    args:\n"
        "      url: '{{ CATALOG_DIR }}/{{ env(HALL) }}/runs'\n      read_only: true\n"
        "      handler_registry: {FOO: doct.Document}\n      root_map: {/old: images}\n"
        "      transforms: {start: copy.copy}\n"
    )
    broker = Broker.named("hall")
    assert len(broker.catalog) == 1
    assert broker.catalog.read_only
    assert "FOO" in broker.reg.handler_reg
    assert broker.reg.root_map == {"/old": str(own / "images")}
    assert broker.transforms.keys() == {"start"}


# -- databroker's own configurations


def test_a_configuration_of_a_database_opens_and_says_at_the_first_question_where_the_runs_are() -> None:
    with pytest.warns(UserWarning, match="localhost:27017/runs") as caught:
        broker = Broker.from_config(MONGO, name="old")
    assert Path(caught[0].filename) == Path(__file__)
    assert broker.get_config() == MONGO
    assert {"FOO", "AD_HDF5"} <= set(broker.reg.handler_reg)
    assert broker.reg.root_map == MONGO["root_map"]
    assert repr(broker) == "<Broker 'old' at localhost:27017/runs, which filebroker does not read>"
    questions = [
        lambda: broker[-1],
        lambda: broker["84d9ee"],
        lambda: list(broker()),
        lambda: broker.insert("start", make.start()),
        lambda: len(broker.v2),
        lambda: broker.catalog,
    ]
    for question in questions:
        with pytest.raises(InvalidConfig, match=r"filebroker import .data.runs NAME"):
            question()


def test_a_password_is_never_shown() -> None:
    settings = {**MONGO["metadatastore"], "config": {"uri": "mongodb://me:secret@db.example.org:27017"}}
    with pytest.warns(UserWarning, match=r"mongodb://db\.example\.org:27017") as caught:
        broker = Broker.from_config({"metadatastore": settings})
    with pytest.raises(InvalidConfig) as error:
        broker[-1]
    assert "secret" not in f"{caught[0].message} {broker!r} {error.value}"


@pytest.mark.parametrize("key", ["metadatastore", "assets"])
@pytest.mark.parametrize("other", [{"host": "localhost"}, {"port": 27017}])
def test_a_database_is_named_by_its_uri_or_by_its_host(key: str, other: dict[str, Any]) -> None:
    store = {**MONGO[key], "config": {"uri": "mongodb://localhost", "database": "runs", **other}}
    with pytest.raises(InvalidConfig, match=f"{key} has both uri and {next(iter(other))}"):
        Broker.from_config({**MONGO, key: store})


@pytest.mark.parametrize("store", [{"class": "MDS", "config": {}}, {"module": "a", "class": "b"}, "mongo", None])
def test_half_a_configuration_of_databroker_is_refused(store: Any) -> None:
    with pytest.raises(InvalidConfig, match="metadatastore"):
        Broker.from_config({**MONGO, "metadatastore": store})


def test_a_configuration_with_a_directory_is_a_catalog_there(tmp_path: Path) -> None:
    settings = {
        "metadatastore": {
            "module": "databroker.headersource.sqlite",
            "class": "MDS",
            "config": {"directory": str(tmp_path), "timezone": "US/Eastern"},
        },
        "assets": {
            "module": "databroker.assets.sqlite",
            "class": "Registry",
            "config": {"dbpath": str(tmp_path / "database.sql")},
        },
    }
    broker = Broker.from_config(settings)
    assert broker.get_config() == settings
    for pair in make.run(2):
        broker.insert(*pair)
    assert len(Broker(tmp_path)[-1].table()) == 2


def test_a_directory_of_databroker_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "run_starts.json").write_text("[]")
    store = {"module": "databroker.headersource.sqlite", "class": "MDS", "config": {"directory": str(tmp_path)}}
    with pytest.raises(InvalidConfig, match=r"is one of databroker's.*run_starts\.json"):
        Broker.from_config({"metadatastore": store})
    assert [path.name for path in tmp_path.iterdir()] == ["run_starts.json"]


def test_a_path_beside_the_database_is_where_the_runs_were_moved(own: Path, tmp_path: Path) -> None:
    broker = Broker.from_config({**MONGO, "path": str(recorded(tmp_path))})
    assert len(broker[-1].table()) == 2
    assert broker.reg.root_map == MONGO["root_map"]


def test_such_a_configuration_is_listed_and_described(own: Path) -> None:
    (own / "old.yml").write_text("description: old\nmetadatastore: {module: a, class: b, config: {}}\n")
    assert list_configs() == ["example", "old"]
    assert describe_configs()["old"] == "old"


# -- catalogs that Intake finds


def test_intake_directories_are_the_users_and_the_environments(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(own_home / "data"))
    monkeypatch.setenv("VIRTUAL_ENV", str(own_home / "venv"))
    user, environment = filebroker.catalog_search_path()
    assert Path(environment) == own_home / "venv" / "share" / "intake"
    if sys.platform == "linux":
        assert Path(user) == own_home / "data" / "intake"
    monkeypatch.delenv("VIRTUAL_ENV")
    monkeypatch.setenv("CONDA_PREFIX", "/anything")
    assert Path(filebroker.catalog_search_path()[1]) == Path(sys.prefix, "share", "intake")


def test_what_is_written_now_is_found_now(intake_directory: Path, tmp_path: Path) -> None:
    assert list(filebroker.yaml_catalogs) == []
    assert list(filebroker.catalog) == []
    (intake_directory / "a.yml").write_text("sources:\n" + source("mine", recorded(tmp_path)))
    assert list(filebroker.yaml_catalogs) == ["mine"]
    assert sorted(filebroker.catalog) == ["mine"]
    assert "mine" in filebroker.catalog
    assert len(filebroker.catalog) == 1
    filebroker.catalog.force_reload()
    (intake_directory / "a.yml").unlink()
    assert "mine" not in filebroker.catalog


@pytest.mark.parametrize("ending", ["yml", "yaml"])
def test_an_entry_is_opened_as_its_version_2_face(ending: str, intake_directory: Path, tmp_path: Path) -> None:
    (intake_directory / f"a.{ending}").write_text("sources:\n" + source("mine", recorded(tmp_path)))
    for entry in (filebroker.catalog["mine"], filebroker.catalog.mine, filebroker.yaml_catalogs["mine"]):
        assert isinstance(entry, RunCatalog)
        assert len(entry) == 1
        assert entry.name == "mine"
    assert isinstance(filebroker.catalog["example"], RunCatalog)
    assert len(filebroker.catalog.example) >= 20
    assert dict(filebroker.catalog.items()).keys() == {"mine"}


def test_names_are_shown_and_completed(intake_directory: Path) -> None:
    assert repr(filebroker.catalog) == "<catalogs: nothing>"
    assert repr(filebroker.yaml_catalogs) == "<YAML catalogs: nothing>"
    assert "example" not in dir(filebroker.catalog)
    assert filebroker.catalog._ipython_key_completions_() == []
    assert filebroker.catalog == filebroker.catalog
    assert filebroker.catalog() is filebroker.catalog


def test_catalogs_of_catalogs_can_be_copied_and_pickled() -> None:
    for again in (copy.copy(filebroker.catalog), pickle.loads(pickle.dumps(filebroker.catalog))):
        assert list(again) == list(filebroker.catalog)


def test_an_unknown_name_is_a_key_or_an_attribute_that_is_missing(intake_directory: Path) -> None:
    with pytest.raises(KeyError, match="the names known are example") as caught:
        filebroker.catalog["nosuch"]
    for place in (*filebroker.catalog_search_path(), *config.search_path()):
        assert place in str(caught.value)
    with pytest.raises(AttributeError, match="nosuch"):
        filebroker.catalog.nosuch  # noqa: B018
    assert not hasattr(filebroker.catalog, "__array__")
    assert filebroker.catalog.get("nosuch") is None


def test_a_broken_file_is_named_and_hides_nothing(intake_directory: Path, tmp_path: Path) -> None:
    (intake_directory / "a.yml").write_text("sources: [")
    (intake_directory / "b.yml").write_text("sources:\n" + source("mine", recorded(tmp_path)))
    (intake_directory / "c.yml").write_text("sources: {no: 5, what: }")
    with pytest.warns(UserWarning, match=r"a\.yml cannot be read"):
        assert sorted(filebroker.catalog) == ["mine"]
    assert len(filebroker.catalog["mine"]) == 1  # and nobody is bothered who asks for another
    assert "mine" in filebroker.catalog
    with pytest.raises(KeyError, match=r"a\.yml cannot be read"):
        filebroker.catalog["nosuch"]


def test_a_broken_configuration_is_named_and_hides_nothing(own: Path, intake_directory: Path) -> None:
    (own / "a.yml").write_text("path: [")
    with pytest.warns(UserWarning, match=r"a\.yml cannot be read"):
        assert list(filebroker.catalog) == []
    assert len(filebroker.catalog["example"]) >= 20


def test_of_two_with_one_name_the_first_counts(own: Path, intake_directory: Path, tmp_path: Path) -> None:
    one, two, three = (recorded(tmp_path / name, number) for name, number in (("1", 1), ("2", 2), ("3", 3)))
    (intake_directory / "a.yml").write_text("sources:\n" + source("mine", two))
    (intake_directory / "b.yml").write_text("sources:\n" + source("mine", three))
    with pytest.warns(UserWarning, match=r"'mine' is a source of .*a\.yml and of .*b\.yml; the first is used"):
        assert list(filebroker.yaml_catalogs) == ["mine"]
    assert filebroker.catalog["mine"].v1.catalog.folder.url == str(two)
    (own / "mine.yml").write_text(f"path: {one}\n")
    assert filebroker.catalog["mine"].v1.catalog.folder.url == str(one)


@pytest.mark.parametrize("how", ["INTAKE_PATH", "INTAKE_CATALOG_PATH", "conf.yaml", "a file"])
def test_intakes_own_search_path_is_followed(
    how: str, own_home: Path, intake_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "a.yml").write_text("sources:\n" + source("mine", tmp_path / "runs"))
    if how == "INTAKE_PATH":
        monkeypatch.setenv("INTAKE_PATH", f"/no/such/directory{os.pathsep}{elsewhere}")
    elif how == "INTAKE_CATALOG_PATH":
        monkeypatch.setenv("INTAKE_CATALOG_PATH", f"['/no/such/directory', '{elsewhere}']")
    elif how == "a file":
        monkeypatch.setenv("INTAKE_PATH", str(elsewhere / "a.yml"))
    else:
        (own_home / ".intake").mkdir()
        (own_home / ".intake" / "conf.yaml").write_text(f"catalog_path: [{elsewhere}]\n")
    assert list(filebroker.yaml_catalogs) == ["mine"]


@pytest.mark.parametrize("content", ["catalog_path: [", "s3"])
def test_what_cannot_be_looked_through_is_named(
    content: str, own_home: Path, intake_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if content == "s3":
        monkeypatch.setenv("INTAKE_PATH", "s3://bucket/catalogs")
        message = "s3://bucket/catalogs is not looked through"
    else:
        (own_home / ".intake").mkdir()
        (own_home / ".intake" / "conf.yaml").write_text(content)
        message = "Intake's configuration cannot be read"
    with pytest.warns(UserWarning, match=message):
        assert list(filebroker.catalog) == []


def test_intake_opens_what_is_not_ours(intake_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = intake_directory / "a.yml"
    file.write_text("sources:\n" + source("table", "x.csv", "csv"))
    opened = SimpleNamespace(open_catalog=lambda path: {"table": ("opened", path)})
    monkeypatch.setitem(sys.modules, "intake", opened)
    assert filebroker.catalog["table"] == ("opened", str(file))
    monkeypatch.setitem(sys.modules, "intake", None)
    assert "table" in filebroker.catalog
    with pytest.raises(MissingPackage, match="pip install intake"):
        filebroker.catalog["table"]
    assert len(filebroker.catalog["example"]) >= 20  # which takes no Intake


def test_a_source_of_databroker_takes_databroker(intake_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (intake_directory / "a.yml").write_text("sources:\n" + source("pack", "x.msgpack", "bluesky-msgpack-catalog"))
    monkeypatch.setattr(discovery, "find_spec", lambda name: None)
    with pytest.raises(MissingPackage, match=r"which is databroker's: pip install 'databroker<2'"):
        filebroker.catalog["pack"]
    monkeypatch.setattr(discovery, "find_spec", lambda name: name)
    monkeypatch.setitem(
        sys.modules, "intake", SimpleNamespace(open_catalog=lambda path: {"pack": SimpleNamespace(v1=5)})
    )
    assert Broker.named("pack") == 5  # the broker of databroker


@pytest.fixture
def packages(tmp_path: Path) -> Iterator[Path]:
    """A directory of installed packages with one that offers a catalog."""
    information = tmp_path / "site" / "beamline-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: beamline\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(
        "[intake.catalogs]\nours = beamline:catalog\nbroken = no_such_package:catalog\n[other]\nno = beamline:catalog\n"
    )
    yield tmp_path / "site"
    sys.modules.pop("beamline", None)


def test_installed_packages_offer_catalogs(packages: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (packages / "beamline.py").write_text(
        f"from filebroker import Broker\ncatalog = Broker({str(tmp_path / 'c')!r}).v2\n"
    )
    found = MergedCatalog([EntrypointsCatalog(paths=[str(packages)]), ConfigCatalog()])
    assert sorted(found) == ["broken", "ours"]
    assert "beamline" not in sys.modules
    monkeypatch.syspath_prepend(str(packages))
    assert isinstance(found["ours"], RunCatalog)
    assert {"ours", "broken"} <= set(filebroker.catalog)
    assert isinstance(Broker.named("ours"), Broker)
    with pytest.raises(ImportError, match="no_such_package"):
        found["broken"]


def test_configurations_of_other_directories_can_be_merged(tmp_path: Path) -> None:
    for directory in ("a", "b"):
        (tmp_path / directory).mkdir()
        (tmp_path / directory / "mine.yml").write_text(f"path: {tmp_path / 'runs'}\n")
    found = ConfigCatalog(paths=[str(tmp_path / "a")])
    assert list(found) == ["mine"]
    with pytest.raises(KeyError, match=str(tmp_path / "a")):
        found["nosuch"]
    with pytest.warns(UserWarning, match="the first is used"):
        merged = MergedCatalog([ConfigCatalog(paths=[str(tmp_path / "a"), str(tmp_path / "b")])])
    assert "mine" in merged


def test_a_name_that_is_not_configured_is_looked_for_by_intake(intake_directory: Path, tmp_path: Path) -> None:
    (intake_directory / "a.yml").write_text("sources:\n" + source("mine", recorded(tmp_path)))
    broker = Broker.named("mine")
    assert type(broker) is Broker
    assert broker.name == "mine"
    assert len(broker[-1].table()) == 2
    with pytest.raises(UnknownCatalogName) as caught:
        Broker.named("nosuch")
    for place in (*filebroker.catalog_search_path(), *config.search_path()):
        assert place in str(caught.value)


def test_an_entry_that_holds_no_runs_is_no_broker(intake_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (intake_directory / "a.yml").write_text("sources:\n" + source("table", "x.csv", "csv"))
    monkeypatch.setitem(sys.modules, "intake", SimpleNamespace(open_catalog=lambda path: {"table": 5}))
    with pytest.raises(AttributeError, match="it is no catalog of runs: int"):
        Broker.named("table")


def test_importing_the_module_looks_nowhere_and_takes_no_intake() -> None:
    script = (
        "import filebroker, sys\nfilebroker.catalog, filebroker.yaml_catalogs, 'example' in filebroker.catalog\n"
        "print(*sorted({'intake', 'pandas', 'pyarrow', 'xarray', 'dask', 'fsspec'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


# -- the legacy configuration

LEGACY = ["db", "DataBroker", "get_events", "get_table", "stream", "get_fields", "restream", "process", "get_images"]


@pytest.fixture(params=["_legacy_config", "_test_legacy_config"])
def legacy_file(request: pytest.FixtureRequest, own: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    if request.param.startswith("_test"):
        monkeypatch.setenv("DATABROKER_TEST_MODE", "1")
    else:
        monkeypatch.delenv("DATABROKER_TEST_MODE", raising=False)
    return own / f"{request.param}.yml"


def test_without_a_legacy_configuration_there_are_no_functions(legacy_file: Path) -> None:
    for name in LEGACY:
        with pytest.raises(AttributeError, match=f"{name}.*{legacy_file.stem}"):
            getattr(filebroker, name)
    with pytest.raises(ImportError):
        from filebroker import get_table  # noqa: F401
    assert not set(LEGACY) & set(filebroker.__all__)


def test_with_a_legacy_configuration_there_are_and_they_warn(legacy_file: Path, tmp_path: Path) -> None:
    legacy_file.write_text(f"path: {recorded(tmp_path)}\n")
    assert legacy_file.stem not in list_configs()
    db = filebroker.db
    assert isinstance(db, Broker)
    assert filebroker.DataBroker is db
    header = db[-1]
    with pytest.warns(UserWarning, match="call db.get_table") as caught:
        assert len(filebroker.get_table(header)) == 2
    assert Path(caught[0].filename) == Path(__file__)
    with pytest.warns(UserWarning, match="get_events"):
        assert len(list(filebroker.get_events(header))) == 2
    with pytest.warns(UserWarning, match="get_fields"):
        assert filebroker.get_fields(header) == db.get_fields(header)
    for name in LEGACY[2:]:
        assert callable(getattr(filebroker, name))


def test_a_broken_legacy_configuration_warns_and_breaks_nothing(legacy_file: Path, tmp_path: Path) -> None:
    for content in (
        "path: [",
        "metadatastore: {class: MDS, config: {}}",
        f"path: {tmp_path}\ntransforms: {{start: a.b}}",
    ):
        legacy_file.write_text(content)
        with (
            pytest.warns(UserWarning, match=f"{legacy_file.stem}' cannot be opened"),
            pytest.raises(AttributeError, match="'db'"),
        ):
            filebroker.db  # noqa: B018
    assert Broker.named("example")


def test_the_legacy_configuration_may_change(legacy_file: Path, tmp_path: Path) -> None:
    legacy_file.write_text(f"path: {tmp_path / 'one'}\n")
    assert filebroker.db.catalog.folder.url == str(tmp_path / "one")
    legacy_file.write_text(f"path: {tmp_path / 'another'}\n")
    assert filebroker.db.catalog.folder.url == str(tmp_path / "another")
    legacy_file.unlink()
    assert not hasattr(filebroker, "db")
