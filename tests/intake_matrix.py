"""Run the tests of Intake with its three generations, each in a virtual environment of its own.

``python tests/intake_matrix.py`` makes what is missing below ``.venv-intake``, and runs ``tests/test_intake_*.py``.
Where an interpreter is not on this machine that is said, and the others are run.
"""

import glob
import importlib.metadata
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYENV = os.environ.get("PYENV_ROOT", os.path.expanduser("~/.pyenv"))
#: Version of Intake, version of Python.  databroker 1.2.5 asks for 0.6.4, which no longer runs on Python 3.12.
CELLS = [("0.6.4", "3.11"), ("0.7.0", "3.11"), ("2.0.9", "3.11"), ("0.7.0", "3.13"), ("2.0.9", "3.13")]


def interpreter(version: str) -> str | None:
    """Give the path of a Python of a version, None where there is none that runs."""
    if sys.version_info[:2] == tuple(map(int, version.split("."))):
        return sys.executable
    # pyenv has a stub of every version, which tells at its start that there is none; or which one to choose.
    candidates = [shutil.which(f"python{version}"), *sorted(glob.glob(f"{PYENV}/versions/{version}.*/bin/python"))]
    return next((path for path in candidates if path is not None and _is_of(path, version)), None)


def _is_of(path: str, version: str) -> bool:
    """Tell whether an interpreter runs, is of a version, and can make environments."""
    try:
        asks = [path, "-c", "import sys, ensurepip; print('%d.%d' % sys.version_info[:2])"]
        answer = subprocess.run(asks, capture_output=True, text=True, check=False)
    except OSError:
        return False
    return answer.returncode == 0 and answer.stdout.strip() == version


def environment(python: str, intake: str, version: str) -> Path:
    """Give the Python of a cell's environment, which is made anew when the project's dependencies have changed.

    Raises
    ------
    Failed
        It cannot be made.
    """
    place = ROOT / ".venv-intake" / f"{intake}-{version}"
    made, marker = place / ("Scripts" if os.name == "nt" else "bin") / "python", place / "installed"
    if not marker.exists() or marker.stat().st_mtime < (ROOT / "pyproject.toml").stat().st_mtime:
        run(python, "-m", "venv", "--clear", place)
        wanted = ["--editable", f"{ROOT}[test-intake]", f"intake=={intake}"]
        run(made, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted)
        marker.touch()
    return made


class Failed(Exception):
    """A command failed; its output is the message."""


def run(*command: str | Path) -> str:
    """Run a command, and give what it says.

    Raises
    ------
    Failed
        It failed.
    """
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    output = (done.stdout + done.stderr).strip()
    if done.returncode:
        raise Failed(output)
    return output


def main() -> int:
    """Run all cells, and give 1 if one of them failed."""
    tests = sorted(glob.glob("tests/test_intake_*.py", root_dir=ROOT))
    is_well = True
    here = importlib.metadata.version("intake"), "{}.{}".format(*sys.version_info)
    for intake, version in CELLS:
        if (intake, version) == here:
            print(f"intake {intake} on Python {version}: this very environment, in which all tests run")
            continue
        python = interpreter(version)
        if python is None:
            print(f"intake {intake} on Python {version}: not run, because this machine has no Python {version}")
            continue
        # All of the output at once: other tests may be running beside.
        try:
            made = environment(python, intake, version)
            said = run(made, "-m", "pytest", "--quiet", "-p", "no:cacheprovider", *tests).splitlines()[-1]
        except Failed as error:
            said, is_well = str(error), False
        print(f"intake {intake} on Python {version}: {said}", flush=True)
    return 0 if is_well else 1


if __name__ == "__main__":
    sys.exit(main())
