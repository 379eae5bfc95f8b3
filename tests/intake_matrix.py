"""Run the tests of Intake with its three generations, each in a virtual environment of its own.

``python tests/intake_matrix.py`` makes what is missing below ``.venv-intake``, and runs ``tests/test_intake_*.py``.
Where an interpreter is not on this machine that is said, and the others are run.
"""

import glob
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: Version of Intake, version of Python.  databroker 1.2.5 asks for 0.6.4, which no longer runs on Python 3.12.
CELLS = [("0.6.4", "3.11"), ("0.7.0", "3.11"), ("2.0.9", "3.11"), ("0.7.0", "3.13"), ("2.0.9", "3.13")]


def interpreter(version: str) -> str | None:
    """Give the path of a Python of a version, None where there is none that runs."""
    if sys.version_info[:2] == tuple(map(int, version.split("."))):
        return sys.executable
    found = shutil.which(f"python{version}")
    # pyenv has a stub of every version, which tells at its start that there is none; or which one to choose.
    candidates = [found, *sorted(glob.glob(os.path.expanduser(f"~/.pyenv/versions/{version}.*/bin/python")))]
    asks = ["-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    for path in filter(None, candidates):
        answer = subprocess.run([path, *asks], capture_output=True, text=True, check=False)
        if answer.returncode == 0 and answer.stdout.strip() == version:
            return path
    return None


def environment(python: str, cell: tuple[str, str]) -> Path:
    """Give the Python of a cell's environment, made anew when the project's dependencies have changed."""
    place = ROOT / ".venv-intake" / "-".join(cell)
    made, marker = place / ("Scripts" if os.name == "nt" else "bin") / "python", place / "installed"
    if not marker.exists() or marker.stat().st_mtime < (ROOT / "pyproject.toml").stat().st_mtime:
        subprocess.run([python, "-m", "venv", str(place)], check=True)
        wanted = ["--editable", f"{ROOT}[test-intake]", f"intake=={cell[0]}"]
        subprocess.run([made, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted], check=True)
        marker.touch()
    return made


def main() -> int:
    """Run all cells, and give 1 if one of them failed."""
    tests = sorted(glob.glob("tests/test_intake_*.py", root_dir=ROOT))
    failed, missing = [], []
    for cell in CELLS:
        python = interpreter(cell[1])
        if python is None:
            missing.append(cell)
            continue
        command = [environment(python, cell), "-m", "pytest", "--quiet", *tests]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        output = (done.stdout + done.stderr).strip()
        # All of it at once: other tests may be running beside.
        print(
            f"intake {cell[0]} on Python {cell[1]}: {output if done.returncode else output.splitlines()[-1]}",
            flush=True,
        )
        failed += [cell] if done.returncode else []
    for cell in missing:
        print(f"intake {cell[0]} on Python {cell[1]}: not run, because this machine has no Python {cell[1]}")
    return 1 if failed or len(missing) == len(CELLS) else 0


if __name__ == "__main__":
    sys.exit(main())
