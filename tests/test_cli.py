"""The command: what it prints, and how it fails."""

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

import factories as make
from filebroker import Broker, __version__
from filebroker.commands.main import main


def test_demo_shows_a_table_a_search_and_the_way_on(capsys: pytest.CaptureFixture) -> None:
    assert main(["demo"]) == 0
    printed = capsys.readouterr().out
    for part in (
        ">>> db[-1].table()",
        "seq_num",
        "motor_setpoint",
        "plan_name='scan'",
        "docs/tutorials/first-steps.md",
    ):
        assert part in printed


def test_ls_lists_catalogs_and_runs(capsys: pytest.CaptureFixture) -> None:
    assert main(["ls"]) == 0
    assert capsys.readouterr().out.startswith("example              Simulated scans")
    assert main(["ls", "example", "-n", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["uid", "time", "scan_id", "status", "plan"]
    assert [line.split()[3] for line in lines[1:]] == ["22", "21", "20"]
    assert main(["ls", "example", "mirror"]) == 0
    assert {line.split()[3] for line in capsys.readouterr().out.splitlines()[1:]} == {"7", "8", "9"}
    assert main(["ls", "example", "plan_name=scan", "good"]) == 0
    assert {line.split()[3] for line in capsys.readouterr().out.splitlines()[1:]} == {"22", "5"}
    assert main(["ls", "example", "scan_id=14"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert main(["ls", "example", "nosuchword"]) == 0
    assert capsys.readouterr().err == "no run matches\n"


def test_show_and_table_take_a_run(capsys: pytest.CaptureFixture) -> None:
    assert main(["show", "example", "-1"]) == 0
    printed = capsys.readouterr().out
    assert "\n  plan_name               scan\n" in printed
    assert "\nstream primary: 11 events\n" in printed
    assert main(["table", "example", "14"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 22
    assert main(["table", "example", "--stream", "baseline"]) == 0
    assert "motor2_setpoint" in capsys.readouterr().out


def test_a_path_works_as_well_as_a_name(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    broker = Broker(tmp_path)
    for pair in make.run(1)[:-1]:
        broker.insert(*pair)
    assert main(["ls", str(tmp_path)]) == 0
    assert "in progress  count" in capsys.readouterr().out
    assert main(["show", str(tmp_path)]) == 0
    assert "no stop document yet" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ls", "nosuch"], "no catalog is named 'nosuch'"),
        (["ls", "nosuch"], '"filebroker ls" lists the names; a directory is given as ./NAME\n'),
        (["ls", "exmaple"], "did you mean example?\n"),
        (["ls", "/no/such/place"], "there is no filebroker catalog at /no/such/place"),
        (["ls", "/no/such/place"], '"filebroker init PATH" makes an empty one\n'),
        (["show", "example", "4711"], "No run with scan_id=4711"),
        (["show", "example", "4711"], '"filebroker ls example" lists its runs, "filebroker refresh example" finds'),
        (["show", "example", "zzz"], "has a uid that begins with 'zzz'"),
        (["show", "example", "-99"], "Catalog only contains 22 runs"),
        (["table", "example", "--field", "dte"], "has no field 'dte'; it has ['det', 'motor', 'motor_setpoint']"),
        (["table", "example", "--stream", "dark"], "has no stream 'dark'; it has ['baseline', 'primary']"),
    ],
)
def test_errors_say_what_is_wrong(arguments: list, message: str, capsys: pytest.CaptureFixture) -> None:
    assert main(arguments) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err


def test_documents_cannot_steer_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    broker = Broker(tmp_path)
    for pair in make.run(1, plan_name="\x1b[2J\x07scan", comment="\x1b]0;title\x07"):
        broker.insert(*pair)
    for arguments in (["ls", str(tmp_path)], ["show", str(tmp_path)]):
        assert main(arguments) == 0
        printed = capsys.readouterr().out
        assert "scan" in printed
        assert "\x1b" not in printed
        assert "\x07" not in printed


def test_the_version_is_that_of_the_source(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"filebroker {__version__}\n"


# ------------------------------------------------------------------------------- what a word of "ls" means


@pytest.fixture
def place(tmp_path: Path) -> str:
    """A catalog of three runs, the first of which knows little."""
    broker = Broker(tmp_path / "my runs")
    many: dict[str, Any] = {"calibrated": True, "points": 6, "tags": ["good", "new"], "shift": None, "file": 10}
    texts: dict[str, Any] = {"calibrated": "True", "points": "6", "tags": ["good"], "shift": "None", "file": "1_0"}
    texts["comment"] = "E = mc²"
    for number, keys in enumerate([{}, many, texts]):
        for pair in make.run(1, ["det", "img"][: 1 + number % 2], uid=f"run{number}", time=make.T0 + number, **keys):
            broker.insert(*pair)
    broker.close()
    return str(tmp_path / "my runs")


def listed(capsys: pytest.CaptureFixture) -> list[int]:
    """Give the numbers of the runs that were printed."""
    return [int(line[3]) for line in capsys.readouterr().out.splitlines()[1:]]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["calibrated=True"], [2, 1]),
        (["calibrated=true"], [1]),
        (["points=6"], [2, 1]),
        (["points=6.0"], [1]),
        (["points=+6"], [1]),
        (['points="6"'], [2]),
        (['points={"$gt": 5}'], [1]),
        (['points={"$gt": 5, "$lt": 6}'], []),
        (['tags=["good", "new"]'], [1]),
        (["tags=good"], [2, 1]),
        (["tags=new", "tags=good"], [1]),
        (["shift=null"], [1, 0]),
        (["shift=None"], [2, 1, 0]),
        (['shift={"$type": "null"}'], [1]),
        (["file=1_0"], [2]),
        (["file=10"], [1]),
        (['$or=[{"points": 6}, {"points": "6"}]'], [2, 1]),
        (["data_key=img"], [1]),
        (["text_search=good new"], [2, 1]),
        (["since=2001", "points=6"], [2, 1]),
        (["start_time=2001"], [2, 1, 0]),
        (["until=2001"], []),
        (['"E = mc²"'], [2]),
        (["good", "--", "-new"], [2]),
        (["-n", "1", "--", "good", "-nothing"], [2]),
    ],
    ids=str,
)
def test_a_word_means_what_a_scientist_means_by_it(
    place: str, words: list[str], expected: list[int], capsys: pytest.CaptureFixture
) -> None:
    assert main(["ls", place, *words]) == 0
    assert listed(capsys) == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nosuchword"], "no run matches\n"),
        (["points=7"], "no run matches\n"),
        (["point=6"], "no run matches: no run has the key 'point' (\"filebroker keys PLACE\" lists the keys)\n"),
        (['$or=[{"a": 1}, {"b": 2}]'], "no run matches: no run has the key 'a' or 'b' (\"filebroker keys PLACE\""),
        (["points>=5"], "has the key 'points>' "),
        (["points>5"], "no run matches; a range is written as in 'num_points={\"$gt\": 10}'\n"),
    ],
)
def test_what_may_be_wrong_is_told_when_no_run_matches(
    place: str, words: list[str], message: str, capsys: pytest.CaptureFixture
) -> None:
    assert main(["ls", place, *words]) == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err.replace(f"'{place}'", "PLACE")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["points={'$gt': 5}"], "the operators of 'points' are {'$gt': 5}, which is no JSON"),
        (["points={$gt: 5}"], "write names and text in double quotes"),
        (["$gt=5"], "$gt stands under a key, as in 'num_points={\"$gt\": 10}'"),
        (["since=2026", "--since", "2025"], "since is given twice, as '2026' and as '2025'; leave one of them out"),
        (["good", "text_search=new"], "text_search is given twice"),
        (["since=yesterday"], "failed to parse time: 'yesterday'"),
    ],
)
def test_a_word_that_means_nothing_is_an_error(
    place: str, words: list[str], message: str, capsys: pytest.CaptureFixture
) -> None:
    assert main(["ls", place, *words]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-bad"], 'unrecognized arguments: -bad; a word that begins with a minus comes after "--"'),
        (["-need"], "'eed' is no number from 1 on; a word that begins with a minus comes after \"--\""),
        (["-n", "0"], "'0' is no number from 1 on"),
    ],
)
def test_a_word_that_is_taken_for_an_option_is_explained(
    words: list[str], message: str, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit):
        main(["ls", "example", *words])
    assert message in capsys.readouterr().err


def test_ls_explains_in_words_that_can_be_typed(capsys: pytest.CaptureFixture) -> None:
    assert main(["ls", "example", "since=2026", "good", "sample.id=S002", "--explain"]) == 0
    assert "search     db('good', since='2026', **{'sample.id': 'S002'})\n" in capsys.readouterr().err


# -------------------------------------------------------------------------------------------- the verbs


def test_the_help_has_examples(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "examples:" in capsys.readouterr().out


@pytest.mark.parametrize("part", ["'\"good sample\"'", "'rob*'", "operator:chen", '{"$gt": 10}', '"--"', "exit status"])
def test_the_help_of_ls_says_what_can_be_searched(part: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        main(["ls", "--help"])
    assert part in capsys.readouterr().out


def test_refresh_finds_what_was_copied_by_hand_and_tells_others(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    other = Broker(tmp_path / "other")
    for pair in make.run(1, uid="run9", time=1.8e9):
        other.insert(*pair)
    other.close()
    shutil.copytree(next((tmp_path / "other").glob("20*")), Path(place) / "2027")
    for expected in ("1 added, 0 changed, 0 removed, 0 unreadable\n", "0 added, 0 changed, 0 removed, 0 unreadable\n"):
        assert main(["refresh", place]) == 0
        assert capsys.readouterr().out == expected
    monkeypatch.setenv("FILEBROKER_CACHE", str(tmp_path / "of another user"))
    assert main(["ls", place, "-n", "1"]) == 0
    assert listed(capsys) == [9]


def test_refresh_makes_no_catalog(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["refresh", str(tmp_path / "nowhere")]) == 1
    assert "there is no filebroker catalog" in capsys.readouterr().err
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(
    ("called", "path", "printed"),
    [
        (".venv/bin/filebroker", "", ".venv/bin/filebroker"),
        (".venv/bin/filebroker", ".venv/bin", "filebroker"),
        ("-c", "", "filebroker"),
    ],
)
def test_demo_prints_a_command_that_works(
    called: str,
    path: str,
    printed: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    script = tmp_path / ".venv" / "bin" / "filebroker"
    script.parent.mkdir(parents=True)
    script.touch(mode=0o755)
    monkeypatch.setattr(sys, "argv", [str(tmp_path / called) if "/" in called else called])
    monkeypatch.setenv("PATH", str(tmp_path / path) if path else "")
    monkeypatch.chdir(tmp_path)
    assert main(["demo"]) == 0
    assert f'More: "{printed} ls example", "{printed} show example -1"' in capsys.readouterr().out
