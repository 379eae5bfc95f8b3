"""The command: what it prints, and how it fails."""

from pathlib import Path

import pytest

import factories as make
from filebroker import Broker, __version__
from filebroker.faces.cli import main


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
    assert "plan_name           : scan" in printed
    assert "stream primary: det, motor, motor_setpoint" in printed
    assert main(["table", "example", "14"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 22
    assert main(["table", "example", "--stream", "baseline"]) == 0
    assert "motor2_setpoint" in capsys.readouterr().out


def test_a_path_works_as_well_as_a_name(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    broker = Broker(tmp_path)
    for pair in make.run(1)[:-1]:
        broker.insert(*pair)
    assert main(["ls", str(tmp_path)]) == 0
    assert "live        count" in capsys.readouterr().out
    assert main(["show", str(tmp_path)]) == 0
    assert "no stop document yet" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ls", "nosuch"], "no catalog is named 'nosuch'"),
        (["ls", "/no/such/place"], "there is no filebroker catalog at /no/such/place"),
        (["show", "example", "4711"], "No run with scan_id=4711"),
        (["show", "example", "zzz"], "has a uid that begins with 'zzz'"),
        (["show", "example", "-99"], "Catalog only contains 22 runs"),
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
