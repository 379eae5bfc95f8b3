"""Names for catalogs: what ``filebroker config`` writes, and that it harms nothing that stands beside it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import factories as make
from filebroker import Broker, RecoveryWarning, describe_configs, list_configs, lookup_config
from filebroker.commands import config as config_verb
from filebroker.commands.main import main
from filebroker.ground import config as configs, intake_checks, registration
from filebroker.ground.errors import ConfigNotFound, InvalidConfig, StorageError
from filebroker.ground.intake_files import catalog_search_path
from filebroker.ground.registration import add_config, remove_config


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment of the test's own, of which Intake's directory is not there yet."""
    monkeypatch.setenv("VIRTUAL_ENV", str(tmp_path / "environment"))
    for variable in ("INTAKE_PATH", "INTAKE_CATALOG_PATH", "INTAKE_CONF_DIR", "INTAKE_CONF_FILE"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path / "environment" / "share" / "intake"


@pytest.fixture
def intakes() -> Path:
    """The user's directory of catalog files."""
    path = Path(catalog_search_path()[0])
    path.mkdir(parents=True)
    return path


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return recorded(tmp_path / "runs")


def recorded(path: Path, count: int = 2) -> Path:
    broker = Broker(path)
    for number in range(count):
        for pair in make.run(1, plan_name="scan", comment="good" if number else "bad"):
            broker.insert(*pair)
    broker.close()
    return path


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()} if directory.is_dir() else {}


def source_in(file: str) -> dict[str, Any]:
    (source,) = yaml.safe_load(Path(file).read_text(encoding="utf-8"))["sources"].values()
    return source


def in_new_process(code: str, *arguments: str) -> Any:
    """Run a program that prints JSON."""
    command = [sys.executable, "-W", "error::UserWarning", "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def builtin() -> Any:
    """Give what ``intake.cat`` would be in a new process."""
    pytest.importorskip("intake")
    from intake import catalog

    return catalog._make_builtin()


# ------------------------------------------------------------------------------- a name that was given is known


def test_a_name_is_known_to_filebroker_at_once(runs: Path, capsys: pytest.CaptureFixture) -> None:
    file = add_config("beamtime", runs, description="Beamtime of November")
    assert Path(file) == Path(catalog_search_path()[0]) / "beamtime.yml"
    assert list_configs() == ["beamtime", "example"]
    assert describe_configs()["beamtime"] == "Beamtime of November"
    assert len(Broker.named("beamtime").catalog) == 2
    assert main(["ls"]) == 0
    assert "beamtime             Beamtime of November\n" in capsys.readouterr().out
    assert main(["ls", "beamtime"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_a_name_is_known_to_intake_in_a_new_process(runs: Path) -> None:
    pytest.importorskip("intake")
    add_config("beamtime", runs)
    add_config("good", runs, search="good", environment=True)
    program = "import intake, json; c = intake.cat; print(json.dumps([sorted(c), len(c.beamtime), len(c['good'])]))"
    assert in_new_process(program) == [["beamtime", "good"], 2, 1]


def test_a_search_is_a_catalog_of_its_own(runs: Path) -> None:
    assert source_in(add_config("good", runs, search="good"))["args"]["search"] == "good"
    assert len(list(Broker.named("good")())) == 1
    add_config("scans", runs, search=[{"plan_name": "scan"}, "bad"])
    assert len(list(Broker.named("scans")())) == 1


def test_a_search_may_have_keys_that_elsewhere_are_secrets(runs: Path) -> None:
    search = {"env": "lab 1", "token": "a", "num_points": {"$gt": np.float64(1.5)}}
    assert source_in(add_config("none", runs, search=search))["args"]["search"] == search
    assert list(Broker.named("none")()) == []


def test_what_is_read_only_stays_so(runs: Path) -> None:
    add_config("beamtime", runs, read_only=True)
    assert Broker.named("beamtime").catalog.read_only


def test_the_file_holds_no_more_than_was_given(runs: Path) -> None:
    file = Path(add_config("beamtime", runs))
    first, *rest = file.read_text().splitlines()
    assert first == '# Written by "filebroker config add"; "filebroker config remove beamtime" removes it.'
    assert yaml.safe_load("\n".join(rest)) == {
        "sources": {"beamtime": {"driver": "filebroker", "args": {"url": str(runs)}}}
    }
    assert [path.name for path in file.parent.iterdir()] == ["beamtime.yml"]


@pytest.mark.parametrize("given", ["runs", "x/../runs", "~/runs", "./runs/"])
def test_paths_are_made_absolute(given: str, own_home: Path) -> None:
    assert source_in(add_config("beamtime", given))["args"]["url"] == str(own_home / "runs")


def test_the_path_of_a_file_url_is_taken(tmp_path: Path) -> None:
    assert source_in(add_config("beamtime", (tmp_path / "my runs").as_uri()))["args"]["url"] == str(
        tmp_path / "my runs"
    )


def test_the_environments_directory_serves_all_who_use_it(runs: Path, environment: Path) -> None:
    assert Path(add_config("beamtime", runs, environment=True)) == environment / "beamtime.yml"
    assert "beamtime" in list_configs()
    assert Path(remove_config("beamtime")) == environment / "beamtime.yml"
    assert "beamtime" not in list_configs()


NAMES = [
    "Prüfstrahl 日本 🔬",
    "2026",
    "yes",
    "null",
    "1e3",
    "a.b",
    "qu'ote",
    "hash#x",
    "per%cent",
    "a&b (c), d=e;f",
    "{x}",
]
NAMES += ["dollar$HOME", "~tilde", "@at", "!bang", "back`tick", "search", "class"]


def test_names_that_are_no_identifiers_work_everywhere(runs: Path) -> None:
    for name in NAMES:
        add_config(name, runs)
    assert set(list_configs()) == {*NAMES, "example"}
    for name in NAMES:
        assert len(Broker.named(name).catalog) == 2
    catalog = builtin()
    assert set(catalog) == set(NAMES)
    for name in NAMES:
        assert len(catalog[name]) == 2
    for name in NAMES:
        remove_config(name)
    assert list_configs() == ["example"]


PATHS = ["with space", "Prüf 日本 🔬", "it's", 'say "x"', "a#b # c", "key: value", "100% %s", "two\nlines", "tab\there"]
PATHS += [
    "- x",
    "{x: 1}",
    "}} %}",
    "\N{NEXT LINE}\N{LINE SEPARATOR}\N{BYTE ORDER MARK}x",
    " ends ",
    "back\\slash",
    "*[?]&!|>",
]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_paths_of_all_kinds_are_given_back_as_they_are(tmp_path: Path) -> None:
    for number, name in enumerate(PATHS):
        add_config(f"c{number}", recorded(tmp_path / "x" / name, 1))
    catalog = builtin()
    for number in range(len(PATHS)):
        assert len(Broker.named(f"c{number}").catalog) == 1
        assert len(catalog[f"c{number}"]) == 1


def test_templates_in_a_description_are_rendered_by_nobody(runs: Path, tmp_path: Path) -> None:
    hostile = f"{{{{ shell('touch {tmp_path}/pwned') }}}} {{% nonsense {{# x\r\n: '\"#\n"
    add_config("beamtime", runs, description=hostile)
    assert describe_configs()["beamtime"] == hostile
    entry = builtin()["beamtime"]
    assert entry.description == hostile
    assert len(entry) == 2
    assert not (tmp_path / "pwned").exists()


# ------------------------------------------------------------------------------- what is refused


def refused(*arguments: Any, **keywords: Any) -> str:
    """Give the message of a refusal, which wrote nothing."""
    before = [contents(Path(directory)) for directory in catalog_search_path()]
    with pytest.raises(InvalidConfig) as caught:
        add_config(*arguments, **keywords)
    assert [contents(Path(directory)) for directory in catalog_search_path()] == before
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "it is empty"),
        (" x", "a space at its ends"),
        ("a/b", "it has '/'"),
        ("..", "it begins with '.'"),
        (".x", "it begins with '.'"),
        ("-x", "it begins with '.' or '-'"),
        ("a\\b", "it has '\\\\'"),
        ("C:", "it has ':'"),
        ("a*", "it has '*'"),
        ("a[b]", "it has '['"),
        ("a\nb", "cannot be printed"),
        ("a\x1b[2J", "cannot be printed"),
        ("a\x85b", "cannot be printed"),
        ("a\ud800", "cannot be printed"),
        ("{{ x }}", "it has '{{'"),
        ("{% x %}", "it has '{%'"),
        ("temp", "gives a temporary catalog"),
        ("x.yml", "ends with"),
        ("x.", "ends with"),
        ("x" * 101, "longer than 100"),
        ("日" * 70, "longer than 100 characters, or 200 bytes"),
    ],
)
def test_a_name_that_can_be_none_is_refused(name: str, message: str, runs: Path) -> None:
    assert message in refused(name, runs)


def test_a_name_of_full_length_is_none_too_long(runs: Path) -> None:
    add_config("x" * 100, runs)
    add_config("é" * 100, runs)
    assert len(Broker.named("é" * 100).catalog) == 2


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"secret": "hunter2-value"}, "storage_options.secret"),
        ({"key": "hunter2-value"}, "storage_options.key"),
        ({"aws_secret_access_key": "hunter2-value"}, "aws_secret_access_key"),
        ({"account_key": "hunter2-value"}, "account_key"),
        ({"sas_token": "hunter2-value"}, "sas_token"),
        ({"password": 4711081500}, "password"),
        ({"client_kwargs": {"headers": {"Authorization": "Bearer hunter2-value"}}}, "headers.Authorization"),
        ({"client_kwargs": {"headers": {"X-Api-Key": "hunter2-value"}}}, "X-Api-Key"),
        ({"s3_additional_kwargs": {"SSECustomerKey": "hunter2-value"}}, "SSECustomerKey"),
        ({"key": {"value": "hunter2-value"}}, "key"),
        ({"private_key": {"pem": "hunter2-value"}}, "private_key"),
        ({"pkey": "hunter2-value"}, "pkey"),
        ({"token": {"refresh": ["hunter2-value"]}}, "token.refresh"),
        ({"connection_string": "hunter2-value"}, "connection_string"),
        ({"key": {"env": "hunter2-value"}}, "storage_options.key names no environment variable"),
        ({"endpoint_url": "https://me:hunter2-value@host"}, "credentials in it"),
        ({"proxy": "https://host/x?X-Amz-Signature=hunter2-value"}, "X-Amz-Signature"),
    ],
)
def test_a_secret_is_refused_and_not_repeated(options: dict[str, Any], where: str) -> None:
    message = refused("x", "s3://bucket/x", storage_options=options)
    assert where in message
    assert "hunter2" not in message
    assert "4711" not in message


@pytest.mark.parametrize(
    "url",
    [
        "s3://me:hunter2@bucket/x",
        "https://me:hunter2@host/x",
        "https://host/x?token=hunter2",
        "simplecache::s3://a:hunter2@b",
    ],
)
def test_a_url_with_a_secret_is_refused_and_not_repeated(url: str) -> None:
    assert "hunter2" not in refused("x", url)


def test_secrets_are_written_by_name_and_other_options_as_they_are() -> None:
    options = {"key": {"env": "MY_KEY"}, "anon": False, "token": None, "client_kwargs": {"endpoint_url": "http://h:1"}}
    options |= {"max_concurrency": 4, "default_block_size": 1.5, "config_kwargs": {"s3": {"addressing_style": "path"}}}
    file = add_config("x", "s3://bucket/x", storage_options={**options, "asked": ("a", "b")})
    assert source_in(file)["args"]["storage_options"] == {**options, "asked": ["a", "b"]}


@pytest.mark.parametrize(
    "text", ["{{ env(HOME) }}", "{% if %}", "{# x #}", "a\rb", "ends\n", "a\0b", "!template x", "a\ud800"]
)
def test_what_intake_would_change_is_refused(text: str) -> None:
    for arguments in (
        {"url": f"/data/{text}"},
        {"url": f"s3://bucket/{text}"},
        {"url": "s3://bucket/x", "storage_options": {"profile": text}},
        {"url": "s3://bucket/x", "storage_options": {text: True}},
        {"url": "s3://bucket/x", "storage_options": {"a": [{"b": text}]}},
        {"url": "/data", "search": text},
        {"url": "/data", "search": {"plan_name": text}},
    ):
        assert "Intake does not give back as it stands" in refused("x", **arguments)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"url": ""}, "URL is empty"),
        ({"url": "/data/$HOME/x"}, "names a variable of the environment"),
        ({"search": 5}, "has the search 5"),
        ({"storage_options": {1: 2}}, "keys are text"),
        ({"storage_options": {"x": object()}}, "storage_options.x is a object"),
        ({"description": 5}, "the description is a text"),
        ({"description": "!template x"}, "the description has '!template '"),
        ({"description": "\ud800"}, "the description has"),
    ],
)
def test_what_cannot_be_written_is_refused(keywords: dict[str, Any], message: str) -> None:
    assert message in refused("x", **{"url": "/data", **keywords})


# ------------------------------------------------------------------------------- names that are taken


def test_the_same_once_more_is_nothing_to_do(runs: Path, capsys: pytest.CaptureFixture) -> None:
    file = Path(add_config("beamtime", runs))
    before = file.stat().st_mtime_ns
    assert add_config("beamtime", runs) == str(file)
    assert main(["config", "add", "beamtime", str(runs)]) == 0
    assert f"nothing to do: {file} says so already\n" in capsys.readouterr().err
    assert file.stat().st_mtime_ns == before


def test_a_name_that_is_taken_is_refused_with_the_file_that_has_it(
    runs: Path, intakes: Path, environment: Path, own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment.mkdir(parents=True)
    own = own_home / ".config" / "databroker"
    own.mkdir(parents=True)
    (own / "csx.yml").write_text(f"path: {runs}\n")
    (intakes / "several.yaml").write_text("sources:\n  one: {driver: csv}\n  two: {driver: filebroker}\n")
    (environment / "others.yml").write_text("sources:\n  three: {driver: parquet}\n")
    (tmp_path / "added.yml").write_text("sources:\n  four: {driver: parquet}\n")
    monkeypatch.setenv("INTAKE_PATH", str(tmp_path / "added.yml"))
    added = add_config("mine", runs)
    places = {"csx": own / "csx.yml", "one": intakes / "several.yaml", "two": intakes / "several.yaml", "mine": added}
    places |= {"three": environment / "others.yml", "four": tmp_path / "added.yml", "example": "example.yml"}
    for name, place in places.items():
        for everybody in (False, True):
            message = refused(name, "/other", environment=everybody)
            assert f"the name {name!r} is taken: it stands in " in message
            assert str(place) in message


@pytest.mark.parametrize("there", ["beamtime.yml", "BEAMTIME.yml", "Beamtime.yaml"])
def test_a_file_of_that_name_is_never_replaced(there: str, runs: Path, intakes: Path) -> None:
    (intakes / there).write_text("sources: {}\n")
    assert str(intakes / there) in refused("beamtime", runs)


def test_names_that_differ_by_their_encoding_alone_are_refused(runs: Path) -> None:
    add_config("Pru\u0308fstrahl", runs)
    assert "not every filesystem tells them apart" in refused("Pr\u00fcfstrahl", runs)


def test_the_name_of_an_entry_point_is_taken(runs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    packages = tmp_path / "packages"
    info = packages / "others-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: others\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[intake.catalogs]\nbeamtime = others:catalog\n")
    monkeypatch.syspath_prepend(packages)
    assert "the entry point others:catalog of an installed package" in refused("beamtime", runs)


# ------------------------------------------------------------------------------- others beside it


FOREIGN = {
    "broken.yml": b"sources: {x: [}\n",
    "latin1.yaml": "path: /data/Pr\u00fcf\n".encode("latin-1"),
    "empty.yml": b"",
    "list.yml": b"- a\n- b\n",
    "take2.yml": b"version: 2\ndata: {}\nentries: {}\n",
    "number.yml": b"sources: {2026: {driver: csv}}\n",
    "word.yml": b"sources: {x: y}\n",
    "windows.yml": b"sources:\r\n  table:\r\n    driver: csv   # kept\r\n    args: {urlpath: 'x.csv'}\r\n",
    "README.txt": b"\x00\xff",
    ".hidden.yml": b"&a [*a]",
}


def test_files_of_others_stay_byte_for_byte_and_hide_nothing(runs: Path, intakes: Path) -> None:
    for name, data in FOREIGN.items():
        (intakes / name).write_bytes(data)
    add_config("beamtime", runs)
    with pytest.warns(UserWarning, match="cannot be read"):
        assert list_configs() == ["beamtime", "example"]
    assert len(Broker.named("beamtime").catalog) == 2
    remove_config("beamtime")
    assert contents(intakes) == FOREIGN


def test_sources_of_others_stay_in_intakes_catalog(runs: Path, intakes: Path) -> None:
    (intakes / "windows.yml").write_bytes(FOREIGN["windows.yml"])
    assert list(builtin()) == ["table"]
    add_config("beamtime", runs)
    assert set(builtin()) == {"table", "beamtime"}
    remove_config("beamtime")
    assert list(builtin()) == ["table"]


def test_what_keeps_intake_from_working_is_told(
    runs: Path, intakes: Path, environment: Path, capsys: pytest.CaptureFixture
) -> None:
    environment.mkdir(parents=True)
    for name, data in FOREIGN.items():
        (intakes / name).write_bytes(data)
    (environment / "again.yml").write_text("sources:\n  table: {driver: csv}\n")
    assert main(["config", "add", "beamtime", str(runs)]) == 0
    told = capsys.readouterr().err
    for name in (
        "broken.yml",
        "latin1.yaml",
        "empty.yml",
        "list.yml",
        "take2.yml",
        "number.yml",
        "word.yml",
        ".hidden.yml",
    ):
        assert f"intake.cat cannot be used until this is mended: {intakes / name} " in told
    assert f"'table' is a source of {intakes / 'windows.yml'} and of {environment / 'again.yml'}" in told
    with pytest.raises(Exception, match=r"."):
        builtin()


def test_each_obstacle_alone_keeps_intake_from_working(intakes: Path) -> None:
    for name in (
        "broken.yml",
        "latin1.yaml",
        "empty.yml",
        "list.yml",
        "take2.yml",
        "number.yml",
        "word.yml",
        ".hidden.yml",
    ):
        (intakes / name).write_bytes(FOREIGN[name])
        assert len(intake_checks.obstacles()) == 1
        with pytest.raises(Exception, match=r"."):
            builtin()
        (intakes / name).unlink()
    assert intake_checks.obstacles() == []
    assert list(builtin()) == []


# ------------------------------------------------------------------------------- at once, cut short, refused

RACE = """
import json, sys, time
from pathlib import Path
from filebroker.ground import config as configs, intake_checks, registration
registration.Draft.check_free = lambda self: None  # all of them have looked already
go, url = Path(sys.argv[1]), sys.argv[2]
Path(f"{go}.{url[-1]}").touch()
while not go.exists():
    time.sleep(0.0005)
try:
    registration.add_config("beamtime", url)
    print(json.dumps("won"))
except registration.InvalidConfig as error:
    print(json.dumps(str(error)))
"""


def race(tmp_path: Path, urls: list[str]) -> list[str]:
    """Let processes add one name at once, and give what each of them says."""
    go = tmp_path / "go"
    command = [sys.executable, "-c", RACE, str(go)]
    racers = [subprocess.Popen([*command, url], stdout=subprocess.PIPE, text=True) for url in urls]
    while len(list(tmp_path.glob("go.*"))) < len(set(urls)):
        assert all(racer.poll() is None for racer in racers)
    go.touch()
    return [json.loads(racer.communicate(timeout=60)[0]) for racer in racers]


def test_of_several_at_once_one_wins(tmp_path: Path, intakes: Path) -> None:
    urls = [f"/data/{number}" for number in range(4)]
    said = race(tmp_path, urls)
    assert said.count("won") == 1
    assert source_in(str(intakes / "beamtime.yml"))["args"]["url"] == urls[said.index("won")]
    for message in said:
        assert message == "won" or "another process has just written" in message
    assert list(contents(intakes)) == ["beamtime.yml"]


def test_several_that_say_the_same_at_once_all_win(tmp_path: Path, intakes: Path) -> None:
    assert race(tmp_path, ["/data/0"] * 3) == ["won"] * 3
    assert list(contents(intakes)) == ["beamtime.yml"]


KILLED = """
import os, signal, sys
from filebroker.ground import config as configs, intake_checks, registration
registration._move_to_new = lambda temporary, file: os.kill(os.getpid(), signal.SIGKILL)
registration.add_config("beamtime", sys.argv[1])
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_kill_before_the_file_has_its_name_leaves_nothing_that_harms(runs: Path, intakes: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(runs)], timeout=60)
    assert done.returncode == -signal.SIGKILL
    (left,) = contents(intakes)
    assert left.startswith(".")
    assert left.endswith(".tmp")
    assert list_configs() == ["example"]
    assert list(builtin()) == []
    add_config("beamtime", runs)
    assert list(builtin()) == ["beamtime"]


def test_a_disk_that_is_read_only_gives_an_error(runs: Path, intakes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(registration, "open", refuse, raising=False)
    monkeypatch.setattr(registration, "remove", refuse)
    with pytest.raises(StorageError, match=r"cannot write .*beamtime.yml: Read-only file system"):
        add_config("beamtime", runs)


@pytest.mark.parametrize("code", ["EACCES", "EROFS", "ENOSPC"])
def test_a_directory_that_cannot_be_written_gives_an_error(
    code: str, runs: Path, intakes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    number = getattr(errno, code)

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(registration.os, "link", refuse)
    with pytest.raises(StorageError, match=f"cannot write .*beamtime.yml: {os.strerror(number)}"):
        add_config("beamtime", runs)
    assert contents(intakes) == {}


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_directory_gives_an_error(runs: Path, intakes: Path) -> None:
    intakes.chmod(0o555)
    with pytest.raises(StorageError, match="cannot write"):
        add_config("beamtime", runs)
    intakes.chmod(0o755)
    add_config("beamtime", runs)
    intakes.chmod(0o555)
    with pytest.raises(StorageError, match="cannot remove"):
        remove_config("beamtime")
    intakes.chmod(0o755)


def test_a_file_in_the_place_of_the_directory_is_told(runs: Path, environment: Path) -> None:
    environment.parent.mkdir(parents=True)
    environment.write_text("")
    with pytest.raises(StorageError, match=r"cannot make the directory .*share/intake"):
        add_config("beamtime", runs, environment=True)


def test_a_disk_without_links_serves_as_well(runs: Path, intakes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(registration.os, "link", refuse)
    add_config("beamtime", runs)
    assert list(contents(intakes)) == ["beamtime.yml"]
    monkeypatch.setattr(registration.Draft, "check_free", lambda _: None)
    assert "another process has just written" in refused("beamtime", "/other")


# ------------------------------------------------------------------------------- taking a name away


def test_a_name_is_taken_away_and_the_runs_stay(runs: Path, intakes: Path, capsys: pytest.CaptureFixture) -> None:
    add_config("it's mine", runs)
    assert main(["config", "remove", "it's mine"]) == 0
    assert capsys.readouterr().out == f"removed {intakes / chr(105)}t's mine.yml; the runs stay where they are\n"
    assert contents(intakes) == {}
    assert len(Broker(runs).catalog) == 2


def test_arguments_that_somebody_added_do_not_keep_a_file(runs: Path) -> None:
    file = Path(add_config("beamtime", runs))
    file.write_text(f"{file.read_text()}      root_map: {{/a: /b}}\n")
    remove_config("beamtime")
    assert not file.exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.partition("\n")[2],
        lambda text: f"# mine\n{text}",
        lambda text: text.replace("remove beamtime", "remove other"),
        lambda text: text.replace("driver: filebroker", "driver: csv"),
        lambda text: text.replace("  beamtime:", "  other: {driver: filebroker}\n  beamtime:"),
        lambda text: text.replace("  beamtime:", "  other: 5\n  beamtime:"),
        lambda text: text.replace("sources:", "sources: ["),
    ],
)
def test_a_file_that_somebody_made_is_left_alone(change: Any, runs: Path) -> None:
    file = Path(add_config("beamtime", runs))
    file.write_text(change(file.read_text()))
    before = file.read_bytes()
    with pytest.raises(InvalidConfig, match="left alone: remove it, or what it says of 'beamtime', by hand") as caught:
        remove_config("beamtime")
    assert str(file) in str(caught.value)
    assert file.read_bytes() == before


def test_what_stands_elsewhere_is_named_and_left_alone(runs: Path, intakes: Path, own_home: Path) -> None:
    own = own_home / ".config" / "filebroker"
    own.mkdir(parents=True)
    (own / "csx.yml").write_text(f"path: {runs}\n")
    (intakes / "several.yml").write_text("sources:\n  one: {driver: csv}\n")
    for name, place in {"csx": own / "csx.yml", "one": intakes / "several.yml"}.items():
        with pytest.raises(InvalidConfig) as caught:
            remove_config(name)
        assert str(place) in str(caught.value)
        assert place.exists()
    with pytest.raises(InvalidConfig, match="comes with filebroker"):
        remove_config("example")


@pytest.mark.parametrize("name", ["nosuch", "", "../x", "a\0b", "*"])
def test_what_is_not_there_cannot_be_taken_away(name: str) -> None:
    with pytest.raises(ConfigNotFound, match="nothing to remove"):
        remove_config(name)


# ------------------------------------------------------------------------------- the command


def test_the_command_writes_what_its_options_say(intakes: Path, capsys: pytest.CaptureFixture) -> None:
    words = ["--description", "Hall A", "--search", "good sample", "--read-only"]
    options = ["key=env:MY_KEY", "anon=true", "a.b.c=5", "a.b.d=x=y", 'quoted="17"', "a.e=None", "text=yes"]
    for option in options:
        words += ["--storage-option", option]
    assert main(["config", "add", "hall_a", "s3://bucket/hall_a", *words]) == 0
    assert source_in(str(intakes / "hall_a.yml")) == {
        "description": "Hall A",
        "driver": "filebroker",
        "args": {
            "url": "s3://bucket/hall_a",
            "storage_options": {
                "key": {"env": "MY_KEY"},
                "anon": True,
                "a": {"b": {"c": 5, "d": "x=y"}, "e": None},
                "quoted": "17",
                "text": "yes",
            },
            "search": "good sample",
            "read_only": True,
        },
    }
    printed = capsys.readouterr()
    assert printed.out.splitlines()[0] == str(intakes / "hall_a.yml")
    assert "could not be seen: storage_options take a value from the environment variable MY_KEY" in printed.err


@pytest.mark.parametrize("words", [["a=1", "a=2"], ["a.b=1", "a=2"], ["a=1", "a.b=2"], ["a=1", "a.b.c=2"]])
def test_an_option_that_is_given_twice_is_refused(words: list[str], capsys: pytest.CaptureFixture) -> None:
    arguments = [part for word in words for part in ("--storage-option", word)]
    assert main(["config", "add", "x", "s3://bucket/x", *arguments]) == 1
    assert "is given twice" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["hunter2", "=hunter2", "a..b=hunter2"])
def test_an_option_that_is_none_is_refused_and_not_repeated(option: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        main(["config", "add", "x", "s3://bucket/x", "--storage-option", option])
    told = capsys.readouterr().err
    assert "an option is written as KEY=VALUE" in told
    assert "hunter2" not in told


@pytest.mark.parametrize(
    ("name", "entry", "word"),
    [
        ("beamtime", "intake.cat.beamtime", "beamtime"),
        ("it's mine", 'intake.cat["it\'s mine"]', "'it'\"'\"'s mine'"),
        ("class", "intake.cat['class']", "class"),
        ("search", "intake.cat['search']", "search"),
        ("_x", "intake.cat['_x']", "_x"),
    ],
)
def test_what_to_try_is_told(name: str, entry: str, word: str, runs: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["config", "add", name, str(runs)]) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines()[1:] == [f"  Broker.named({name!r})", f"  {entry}", f"  filebroker ls {word}"]
    assert printed.err == ""
    intake = type("intake", (), {"cat": builtin()})
    assert len(eval(entry, {"intake": intake})) == 2


def test_no_attribute_of_intakes_catalogs_is_told_as_an_entry() -> None:
    catalog = builtin()
    public = {name for name in object.__dir__(catalog) if not name.startswith("_")}
    assert public <= config_verb._HIDING


@pytest.mark.parametrize("kind", ["missing", "empty", "hidden"])
def test_a_directory_that_is_nothing_yet_is_noted(
    kind: str, tmp_path: Path, intakes: Path, capsys: pytest.CaptureFixture
) -> None:
    place = tmp_path / kind
    if kind != "missing":
        place.mkdir()
    if kind == "hidden":
        (place / ".DS_Store").touch()
    assert main(["config", "add", "new", str(place)]) == 0
    assert f"there is nothing at {place} yet; the catalog begins with the first" in capsys.readouterr().err
    recorded(place)
    assert len(Broker.named("new").catalog) == 2
    assert len(builtin()["new"]) == 2


@pytest.mark.parametrize("kind", ["files", "file"])
def test_a_directory_of_other_things_is_refused(
    kind: str, tmp_path: Path, intakes: Path, capsys: pytest.CaptureFixture
) -> None:
    place = tmp_path / "other"
    if kind == "files":
        place.mkdir()
        (place / "notes.txt").touch()
    else:
        place.touch()
    assert main(["config", "add", "new", str(place)]) == 1
    assert str(place) in capsys.readouterr().err
    assert contents(intakes) == {}


def test_a_store_that_cannot_be_reached_is_noted(intakes: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["config", "add", "far", "no-such-protocol://bucket/far"]) == 0
    assert "whether there is a catalog at no-such-protocol://bucket/far could not be seen" in capsys.readouterr().err
    assert list(contents(intakes)) == ["far.yml"]


CUT_SHORT = """
import os, sys
sys.path.insert(0, sys.argv[1])
import factories as make
from filebroker import Broker
broker = Broker(sys.argv[2], sync="always")
for pair in make.run(2)[:-1]:
    broker.insert(*pair)
os._exit(9)
"""


def test_looking_into_a_catalog_changes_nothing(tmp_path: Path) -> None:
    arguments = [os.path.dirname(make.__file__), str(tmp_path / "runs")]
    assert subprocess.run([sys.executable, "-c", CUT_SHORT, *arguments], timeout=60).returncode == 9
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    assert main(["config", "add", "cut", str(tmp_path / "runs")]) == 0
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before
    with pytest.warns(RecoveryWarning):
        Broker(tmp_path / "runs")


def test_all_names_are_listed_with_their_files(
    runs: Path, intakes: Path, own_home: Path, capsys: pytest.CaptureFixture
) -> None:
    add_config("beamtime", runs, description="two\nlines \x1b[2J")
    own = own_home / ".config" / "databroker"
    own.mkdir(parents=True)
    (own / "mongo.yml").write_text(
        "metadatastore: {module: m, class: C, config: {host: h, port: 1, database: d, timezone: UTC}}\n"
    )
    (own / "beamtime.yml").write_text("path: /shadow\n")
    (own / "leak.yml").write_text("path: s3://me:hunter2@bucket/x\n")
    (own / "bad.yml").write_text("path: [\n")
    assert main(["config", "list"]) == 0
    printed = capsys.readouterr()
    assert f"example              {Broker.named('example').catalog.folder.url}\n" in printed.out
    assert f"mongo                -\n{'':<21}{own / 'mongo.yml'}\n" in printed.out
    assert "\x1b" not in printed.out
    assert f"the catalog 'beamtime' is configured in {own / 'beamtime.yml'} and in {intakes}" in printed.err
    assert f"{own / 'bad.yml'} cannot be read" in printed.err
    assert "intake.cat cannot" not in printed.err
    assert main(["config", "list", "--json"]) == 0
    rows = {row["name"]: row for row in map(json.loads, capsys.readouterr().out.splitlines())}
    assert rows["beamtime"] == {
        "name": "beamtime",
        "url": "/shadow",
        "description": None,
        "file": str(own / "beamtime.yml"),
    }
    assert rows["leak"]["url"] is None
    assert "hunter2" not in printed.out + printed.err + json.dumps(rows)


def test_obstacles_of_intake_are_listed(intakes: Path, capsys: pytest.CaptureFixture) -> None:
    (intakes / "take2.yml").write_bytes(FOREIGN["take2.yml"])
    assert main(["config", "list"]) == 0
    told = capsys.readouterr().err
    assert "intake.cat cannot be used until 1 thing is mended:\n" in told
    assert f"{intakes / 'take2.yml'} is no catalog file of Intake's: it has no sources" in told


def test_every_place_is_listed_in_its_order(
    intakes: Path, environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("INTAKE_PATH", str(tmp_path))
    assert main(["config", "where"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"yes  {intakes}  (config add)" in lines
    assert f"no   {environment}  (config add --environment)" in lines
    assert lines[-2] == f"yes  {tmp_path}"
    assert main(["config", "where", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["directory"] for row in rows] == [line[5:].partition("  (")[0] for line in lines]
    assert rows[-3] == {"directory": str(environment), "exists": False, "written_by": "config add --environment"}


@pytest.mark.parametrize(
    ("intake", "missing", "activated", "lack"),
    [
        ("2.0.9", {"intake"}, True, "Intake is not installed: pip install intake"),
        ("2.0.9", {"distutils"}, True, None),
        ("2.0.9", {"distutils"}, False, "pip install setuptools, or activate the environment"),
        ("0.7.0", {"distutils"}, False, "pip install setuptools, or activate the environment"),
        ("0.7.0", {"msgpack"}, False, None),
        ("0.6.4", {"distutils"}, True, "which this Python lacks: pip install setuptools"),
        ("0.6.4", {"msgpack"}, True, "pip install msgpack"),
        ("2.0.9", set(), False, None),
    ],
)
def test_what_intake_lacks_is_told_with_what_to_install(
    intake: str,
    missing: set[str],
    activated: bool,
    lack: str | None,
    runs: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.setattr(config_verb, "find_spec", lambda name: None if name in missing else True)
    monkeypatch.setattr(config_verb, "version", lambda _: intake)
    monkeypatch.delenv("CONDA_PREFIX", raising=False)
    if not activated:
        monkeypatch.delenv("VIRTUAL_ENV")
    assert main(["config", "add", "beamtime", str(runs)]) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("intake.cat cannot")]
    assert len(told) == (lack is not None)
    assert (lack or "") in "".join(told)


def test_what_is_told_of_intake_here_is_true(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("intake")
    for variable in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        lack = config_verb._lack()
        done = subprocess.run([sys.executable, "-c", "import intake; intake.cat"], capture_output=True, timeout=60)
        assert (done.returncode == 0) == (lack is None), done.stderr
        monkeypatch.delenv(variable, raising=False)


def test_a_search_that_is_kept_narrows_what_ls_lists(capsys: pytest.CaptureFixture[str]) -> None:
    example = Path(__file__).parents[1] / "sample_data" / "example"
    add_config("lab6", example, search="LaB6")
    assert main(["ls", "lab6"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(Broker.named("lab6")()) == 5
    assert main(["ls", "lab6", "plan_name=rel_scan"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(Broker.named("lab6")(plan_name="rel_scan"))


def test_a_kept_search_may_have_conditions(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "add", "scans", str(runs), "--search", "LaB6 plan_name=scan num_points=5"]) == 0
    assert list(lookup_config("scans")["search"]) == ["text_search", "plan_name", "num_points"]
    assert main(["config", "add", "broken", str(runs), "--search", "plan_name='scan"]) == 1
    assert "cannot be read" in capsys.readouterr().err


def test_a_url_without_its_slashes_is_no_directory() -> None:
    with pytest.raises(InvalidConfig, match="s3://"):
        add_config("bucket", "s3:/hall-a/runs")


def test_nothing_is_written_for_a_machine_where_no_environment_is_activated(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(registration, "environment_prefix", lambda: None)
    with pytest.raises(InvalidConfig, match="activate"):
        add_config("lab6", "runs", environment=True)


def test_a_driver_that_is_hardly_what_was_meant_is_told_of(intakes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (intakes / "zz.yml").write_text("sources: {zz: {driver: filebrokr, args: {url: x}}}")
    assert main(["config", "list"]) == 0
    assert "'filebrokr' is not known" in capsys.readouterr().err


def test_a_parameter_that_intake_refuses_is_told_of(intakes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (intakes / "zz.yml").write_text("sources: {zz: {driver: csv, parameters: {s: {type: str}}, args: {}}}")
    assert main(["config", "list"]) == 0
    assert "the parameter 's' has no description" in capsys.readouterr().err


def test_places_of_moved_files_are_written_down(capsys):
    assert main(["config", "add", "moved", "runs", "--root-map", "/old=new", "--root-map", "6b71=/images"]) == 0
    config = configs.find("moved")
    assert config.root_map == {"/old": os.path.abspath("new"), "6b71": "/images"}
    with pytest.raises(SystemExit):
        main(["config", "add", "other", "runs", "--root-map", "nowhere"])
    assert "'nowhere' is not OLD=NEW" in capsys.readouterr().err
