"""The commands in the documentation: every ```console block is run, and prints what it says.

Lines that begin with "$ " are commands; lines that begin with "> " go on with the one before.  All of a page run in
order, in one shell that begins in an empty directory.  What follows a command is what it prints; "..." stands for
anything.  A command fails only where the next one is "echo $?".  A line "<!-- not run: reason -->" before a block
leaves it out.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
COMMAND = Path(sys.executable).with_name("filebroker")
_BLOCK = re.compile(
    r"(?:<!-- not run: (?P<reason>.+?) -->\n+)?^```console\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
_END = "\x01"


class Step(NamedTuple):
    """A command and what it is to print."""

    command: str
    expected: str


def blocks(text: str) -> list[list[Step]]:
    """Give the blocks of a page that are run."""
    return [steps(match["text"]) for match in _BLOCK.finditer(text) if match["reason"] is None]


def steps(block: str) -> list[Step]:
    """Give the commands of a block with what they are to print."""
    found: list[Step] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            found.append(Step(line[2:], ""))
        elif line.startswith("> ") and not found[-1].expected:
            found[-1] = Step(f"{found[-1].command}\n{line[2:]}", "")
        else:
            found[-1] = Step(found[-1].command, f"{found[-1].expected}{line}\n")
    return found


def is_as(printed: str, expected: str) -> bool:
    """Tell whether a text is as expected; spaces at the end of lines do not count."""
    pattern = "".join(map(_pattern, _trimmed(expected).splitlines()))
    return re.fullmatch(pattern, "".join(f"\n{line}" for line in _trimmed(printed).splitlines()), re.DOTALL) is not None


def _pattern(line: str) -> str:
    """Give what matches a line; one of "..." alone stands for any number of lines."""
    return "(?:\n.*)?" if line == "..." else "\n" + ".*".join(map(re.escape, line.split("...")))


def _trimmed(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.splitlines()).strip("\n")


def is_possible(command: str) -> bool:
    """Tell whether a command can be run here: some pipe into jq, which is not everywhere."""
    return "jq" not in command.split() or shutil.which("jq") is not None


def run_all(commands: list[str], home: Path) -> list[tuple[str, int]]:
    """Run commands in one shell, and give what each printed and how it ended."""
    # "$?" is kept for the command after.
    lines = (f"{command}\n_status=$?; printf '{_END}%s{_END}' $_status; (exit $_status)" for command in commands)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("FILEBROKER", "XDG"))}
    environment |= {"PATH": f"{COMMAND.parent}{os.pathsep}{os.environ['PATH']}", "HOME": str(home)}
    environment |= {"TZ": "UTC", "LC_ALL": "C.UTF-8", "COLUMNS": "100", "PYTHONUNBUFFERED": "1"}
    work = home / "work"
    work.mkdir()
    done = subprocess.run(
        ["bash", "-c", "exec 2>&1\n" + "\n".join(lines)],
        capture_output=True,
        text=True,
        cwd=work,
        env=environment,
        timeout=240,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    parts = done.stdout.split(_END)
    return [(printed, int(status)) for printed, status in zip(parts[::2], parts[1::2], strict=False)]


PAGES = [page for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))) if blocks(page.read_text())]


@pytest.mark.skipif(not COMMAND.exists(), reason="filebroker is not installed in this environment")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_says_is_printed(page: Path, tmp_path: Path) -> None:
    wanted = [step for block in blocks(page.read_text()) for step in block if is_possible(step.command)]
    done = run_all([step.command for step in wanted], tmp_path)
    assert len(done) == len(wanted), f"the shell ended after {wanted[len(done)].command!r}"
    wrong = []
    for place, (step, (printed, status)) in enumerate(zip(wanted, done, strict=True)):
        if not is_as(printed, step.expected):
            wrong.append(f"$ {step.command}\n{printed}instead of\n{step.expected}")
        is_asked = place + 1 < len(wanted) and wanted[place + 1].command == "echo $?"
        if status != 0 and not is_asked:
            wrong.append(f"$ {step.command}\nended with {status}")
    assert not wrong, "\n".join(wrong)


def test_every_block_that_looks_like_a_session_is_known() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        text = page.read_text()
        assert len(_BLOCK.findall(text)) == text.count("\n```console"), page
        assert "\n$ filebroker" not in re.sub(_BLOCK, "", text), f"{page} has a command in a block that is not run"


# ------------------------------------------------------------------------------- what runs them


@pytest.mark.parametrize(
    ("printed", "expected", "same"),
    [
        ("one\ntwo\n", "one\ntwo\n", True),
        ("one  \ntwo\n", "one\ntwo\n", True),
        ("one\ntwo\n", "one\n", False),
        ("one\ntwo\nthree\n", "one\n...three\n", True),
        ("0.12 s, 3 runs\n", "... s, 3 runs\n", True),
        ("0.12 s, 4 runs\n", "... s, 3 runs\n", False),
        ("", "", True),
        ("", "...", True),
        ("one\n", "...\none\n...\n", True),
        ("one\ntwo\n", "...\none\n", False),
        ("a.b", "a?b", False),
    ],
)
def test_output_is_compared_with_wildcards(printed: str, expected: str, same: bool) -> None:
    assert is_as(printed, expected) is same


def test_a_page_is_one_shell(tmp_path: Path) -> None:
    page = "```console\n$ cd ..; x=5\n$ false\n$ echo $?\n1\n$ cat <<E\n> $x\n> E\n5\n```\n"
    page += "<!-- not run: it would end the world -->\n```console\n$ boom\n```\n```console\n$ echo $x >&2\n5\n```\n"
    (first, second) = blocks(page)
    assert [step.command for step in first] == ["cd ..; x=5", "false", "echo $?", "cat <<E\n$x\nE"]
    done = run_all([step.command for step in first + second], tmp_path)
    assert done == [("", 0), ("", 1), ("1\n", 0), ("5\n", 0), ("5\n", 0)]
