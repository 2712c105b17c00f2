"""Install the wheel and the source archive, each alone, on every Python of the classifiers that this machine has.

    python tests/check_packages.py [PYTHON...]

For each Python: a fresh virtual environment, torch as pinned, the wheel with its dependencies, then `hubdpo demo` in an
empty folder with an empty home and an environment of nothing. Then the source archive in the wheel's place, which must
install the same files. Pythons are those given, or `python3.X` on the PATH and those of pyenv. Ends with 1 when one
fails, or when there is none at all; names those that are not here.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]
CONSTRAINTS = ROOT / "constraints.txt"


def main(given: list[str]) -> int:
    with TemporaryDirectory(prefix="hubdpo-packages-") as place:
        dist = Path(place) / "dist"
        run([sys.executable, "-m", "build", "--no-isolation", "--outdir", str(dist), str(ROOT)])
        (wheel,), (archive,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
        pythons = {command: command for command in given} or {name: find(name) for name in versions()}
        tried = 0
        for name, python in pythons.items():
            if python is None:
                say(f"{name} is not on this machine")
                continue
            began = time.monotonic()
            with TemporaryDirectory(prefix="hubdpo-packages-") as folder:
                check(python, Path(folder), wheel, archive)
            say(f"{name}: wheel and source archive install alone and run, {time.monotonic() - began:.0f} s")
            tried += 1
    if not tried:
        say("no Python of the classifiers is on this machine")
    return 0 if tried else 1


def versions() -> list[str]:
    """The Pythons that the classifiers name, such as `python3.11`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = [re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", line) for line in project["classifiers"]]
    return [f"python{match[1]}" for match in found if match]


def find(name: str) -> str | None:
    """Return an interpreter of that version. A shim of pyenv is on the PATH for versions that it does not give, too."""
    version = name.removeprefix("python")
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [shutil.which(name), *(str(path) for path in sorted(pyenv.glob(f"{version}.*/bin/python")))]
    code = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"
    for candidate in filter(None, candidates):
        done = subprocess.run([candidate, "-c", code], capture_output=True, text=True)
        if done.stdout.strip() == version:
            return candidate
    return None


def check(python: str, folder: Path, wheel: Path, archive: Path) -> None:
    venv, home, work = folder / "venv", folder / "home", folder / "work"
    home.mkdir()
    work.mkdir()
    run([python, "-m", "venv", str(venv)])
    pip = [str(venv / "bin/python"), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    torch = next(line for line in CONSTRAINTS.read_text(encoding="utf-8").splitlines() if line.startswith("torch=="))
    run([*pip, "install", torch])
    run([*pip, "install", "--constraint", str(CONSTRAINTS), str(wheel)])
    run([*pip, "check"])
    before = installed(venv)

    bare = {"HOME": str(home), "PATH": os.defpath}
    run([str(venv / "bin/python"), "-W", "error", "-c", "import hubdpo"], cwd=work, env=bare)
    run([str(venv / "bin/hubdpo"), "demo", "--output-dir", "demo-run"], cwd=work, env=bare)
    if left := [path.name for path in work.iterdir() if path.name != "demo-run"]:
        raise SystemExit(f"the demo left {', '.join(left)} in its folder")

    run([*pip, "uninstall", "--yes", "hubdpo"])
    if left := [str(path) for path in (venv / "lib").glob("python*/site-packages/*hubdpo*")]:
        raise SystemExit(f"uninstalling left {', '.join(left)}")
    run([*pip, "install", "--no-deps", str(archive)])
    if (after := installed(venv)) != before:
        raise SystemExit(f"wheel and source archive install other files: {sorted(before ^ after)[:10]}")


def installed(venv: Path) -> set[str]:
    """Return the lines of pip's record of the package, path, hash and size, but those that installing itself makes."""
    (record,) = (venv / "lib").glob("python*/site-packages/hubdpo-*.dist-info/RECORD")
    lines = record.read_text(encoding="utf-8").splitlines()
    made = re.compile(r"__pycache__|direct_url\.json|/(RECORD|INSTALLER|REQUESTED),")
    return {line for line in lines if not made.search(line)}


def run(command: list[str], cwd: Path = ROOT, env: dict[str, str] | None = None) -> None:
    done = subprocess.run(
        command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        say(done.stdout)
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}")


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
