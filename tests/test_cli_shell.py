"""The command as a process: shells, pipes, terminals, signals."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import factories as make
from filebroker import Broker, add_config
from filebroker.cataloging.run import Run
from filebroker.commands.main import main
from filebroker.ground import config

SCRIPT = [sys.executable, "-c", "import sys; from filebroker.commands.main import main; sys.exit(main())"]
#: An environment in which nothing but this matters.
QUIET = {"TZ": "UTC", "PYTHONUNBUFFERED": "", "PYTHONIOENCODING": ""}


def run(*words: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in (os.environ | QUIET | variables).items() if value}
    encoding = "latin-1" if variables.get("PYTHONIOENCODING") == "latin-1" else "utf-8"
    return subprocess.run(
        [*SCRIPT, *words], capture_output=True, env=environment, timeout=60, check=False, encoding=encoding
    )


def shell(script: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run a script of bash that calls the command as "filebroker"."""
    code = f'filebroker() {{ "{sys.executable}" -c "{SCRIPT[2]}" "$@"; }}\n{script}'
    return subprocess.run(
        ["bash", "-c", code], capture_output=True, text=True, env=os.environ | variables, timeout=60, check=False
    )


# ------------------------------------------------------------------------------------------ pipes


@pytest.mark.parametrize("words", ["documents example 22", "--help", "tail example"])
def test_a_reader_that_has_seen_enough_is_no_error(words: str) -> None:
    done = shell(f"filebroker {words} | true; echo ${{PIPESTATUS[0]}}")
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_a_full_disk_is_told_of() -> None:
    done = shell("filebroker ls example > /dev/full")
    assert done.returncode == 1
    assert "filebroker: [Errno 28] No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_closed_output_is_nobodys_loss() -> None:
    done = shell("filebroker ls example >&- ")
    assert (done.returncode, done.stdout) == (0, "")
    assert "Traceback" not in done.stderr


# ------------------------------------------------------------------------------------------ terminals and locales


@pytest.mark.parametrize("variables", [{"LC_ALL": "C"}, {"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "latin-1"}])
def test_any_locale_will_do(variables: dict[str, str], tmp_path: Path) -> None:
    broker = Broker(tmp_path / "runs")
    for pair in make.run(3, sample="測試", comment="µm \ud800"):
        broker.insert(*pair)
    broker.close()
    for words in (["show"], ["ls", "--csv", "--columns", "sample,comment"]):
        done = run(words[0], str(tmp_path / "runs"), *words[1:], **variables)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
    if variables.get("PYTHONIOENCODING") == "ascii":
        assert done.stdout == "sample,comment\n??,?m \\ud800\n"


def test_a_plot_is_ascii_where_there_is_nothing_else() -> None:
    assert run("show", "example", "22", PYTHONIOENCODING="ascii").stdout.isascii()
    assert "⠒" in run("show", "example", "22", PYTHONIOENCODING="utf-8").stdout


def on_a_terminal(words: list[str], columns: int, **variables: str) -> str:
    """Run the command with a terminal around it, and give all that it prints there."""
    master, slave = pty.openpty()
    environment = os.environ | QUIET | {"COLUMNS": str(columns)} | variables
    child = subprocess.Popen([*SCRIPT, *words], stdout=slave, stderr=slave, stdin=slave, env=environment)
    os.close(slave)
    printed = b""
    while select.select([master], [], [], 60)[0]:
        try:
            part = os.read(master, 65536)
        except OSError:
            break
        if not part:
            break
        printed += part
    os.close(master)
    assert child.wait(60) == 0, printed
    return printed.decode()


@pytest.mark.parametrize("words", [["ls", "example"], ["show", "example"], ["reindex"]])
def test_a_terminal_is_not_steered(words: list[str], tmp_path: Path) -> None:
    broker = Broker(tmp_path / "runs")
    for pair in make.run(5, plan_name="\x1b[2J\x9b31mscan", sample={"\x1b]0;title\x07": "x"}):
        broker.insert(*pair)
    broker.close()
    place = [*words, str(tmp_path / "runs")] if len(words) == 1 else words
    printed = on_a_terminal(place, 40, NO_COLOR="1")
    assert "\x1b[3" not in printed  # no colours; a progress bar moves the cursor
    if words[0] == "ls":
        assert max(map(len, printed.splitlines()[:-1])) <= 40  # the last line says that there are more


def test_progress_is_for_terminals_alone(tmp_path: Path) -> None:
    broker = Broker(tmp_path / "runs")
    for pair in make.run(1):
        broker.insert(*pair)
    broker.close()
    done = run("reindex", str(tmp_path / "runs"))
    assert (done.stdout, done.stderr) == ("1 runs\n", "")


def test_a_warning_is_a_line_for_people(tmp_path: Path) -> None:
    broker = Broker(tmp_path / "runs")
    for pair in make.run(3):
        broker.insert(*pair)
    broker.close()
    (page,) = (tmp_path / "runs").glob("*/*/*/*/primary/*.parquet")
    page.unlink()
    done = run("table", str(tmp_path / "runs"))
    assert done.stderr.startswith("filebroker: run '")
    assert "is missing" in done.stderr
    assert ".py:" not in done.stderr


# ------------------------------------------------------------------------------------------ signals


def read_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def test_tail_prints_events_as_they_come_and_ends_with_ctrl_c(tmp_path: Path) -> None:
    broker = Broker(tmp_path / "runs")
    pairs: list[Any] = list(make.run(3))
    for pair in pairs[:3]:
        broker.insert(*pair)
    words = ["tail", str(tmp_path / "runs"), "--interval", "0.05"]
    with subprocess.Popen([*SCRIPT, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        try:
            assert read_line(child).startswith("run f")
            assert read_line(child).startswith("stream primary: ")
            assert read_line(child).split()[:2] == ["primary", "1"]
            broker.insert(*pairs[3])
            assert read_line(child).split()[:2] == ["primary", "2"]
            child.send_signal(signal.SIGINT)
            printed, told = child.communicate(timeout=60)
        finally:
            child.kill()
    assert (child.returncode, printed, told) == (130, "", "filebroker: interrupted\n")
    broker.close()


@pytest.mark.parametrize("place", ["config.find", "documents"])
def test_ctrl_c_ends_any_verb_with_130(
    place: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def interrupt(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    if place == "documents":
        monkeypatch.setattr(Run, "documents", interrupt)
    else:
        monkeypatch.setattr(config, "find", interrupt)
    assert main(["documents", "example"]) == 130
    assert capsys.readouterr().err == "filebroker: interrupted\n"


# ------------------------------------------------------------------------------------------ quick beginnings


def test_what_is_not_needed_is_not_imported() -> None:
    heavy = ["pandas", "fsspec", "h5py", "dask", "xarray", "tqdm", "intake", "urllib.request", "whoosh"]
    code = f"""
import json, sys
from filebroker.commands.main import main
assert main([]) == 0
bare = [name for name in {[*heavy, "numpy", "pyarrow"]} if name in sys.modules]
assert main(["ls", "example", "-n", "1"]) == 0
print(json.dumps([bare, [name for name in {heavy} if name in sys.modules]]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == [[], []]


def test_only_the_module_of_the_verb_is_imported() -> None:
    code = """
import json, sys
from filebroker.commands.main import main
main(["ls"])
print(json.dumps(sorted(name for name in sys.modules if name.startswith("filebroker.commands."))))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    names = {name.rpartition(".")[2] for name in json.loads(done.stdout.splitlines()[-1])}
    assert names == {"main", "finding", "columns", "output", "selection", "terminal", "words"}


# ------------------------------------------------------------------------------------------ completion

_COMPLETE = """
eval "$(filebroker completion bash)"
complete -p filebroker
answer() {
    COMP_LINE="$1"; COMP_POINT=${#COMP_LINE}; COMP_TYPE=9; COMP_WORDS=($1)
    [[ "$1" == *" " ]] && COMP_WORDS+=("")
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMPREPLY=(); _python_argcomplete filebroker
    echo "$1: ${COMPREPLY[*]}"
}
"""


def test_bash_completes_verbs_options_and_names(tmp_path: Path) -> None:
    pytest.importorskip("argcomplete")
    add_config("beamtime", tmp_path / "runs")
    asked = ["sh", "ls b", "ls beamtime --col", "config ", "completion ", "ls beamtime good"]
    script = _COMPLETE + "\n".join(f"answer 'filebroker {words}'" for words in asked)
    done = shell(script)
    lines = done.stdout.splitlines()
    assert lines[0].startswith("complete ")
    assert lines[0].endswith("-F _python_argcomplete filebroker")
    answers = {line.partition(": ")[0]: line.partition(": ")[2].split() for line in lines[1:]}
    assert answers["filebroker sh"] == ["show"]
    assert answers["filebroker ls b"] == ["beamtime"]
    assert answers["filebroker ls beamtime --col"] == ["--columns"]
    assert {"add", "list", "remove", "where"} <= set(answers["filebroker config "])
    assert {"bash", "zsh", "fish"} <= set(answers["filebroker completion "])
    assert answers["filebroker ls beamtime good"] == []


@pytest.mark.parametrize(("name", "part"), [("zsh", "#compdef filebroker"), ("fish", "complete --command filebroker")])
def test_other_shells_are_given_theirs(name: str, part: str) -> None:
    pytest.importorskip("argcomplete")
    done = run("completion", name)
    assert done.returncode == 0
    assert part in done.stdout
