"""Run other projects' own tests against `hubdpo serve-hub`, and say how it answers their clients.

    python -m tests.upstream huggingface_hub datasets peft [--work FOLDER] [--all] [-- PYTEST OPTIONS]

Each suite comes from the source archive of the version that is installed, which pip fetches, or finds in FOLDER.
"""  # fmt: skip

from __future__ import annotations

import argparse
import importlib.metadata
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.upstream.report import read_results, report
from tests.upstream.suites import SUITES, Setup, Suite

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
OPTIONS = "-q -p recorder -p no:randomly -p no:cacheprovider -o addopts= --tb=short --continue-on-collection-errors"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.upstream", description=__doc__)
    parser.add_argument("suites", nargs="+", choices=SUITES)
    parser.add_argument("--work", type=Path, help="folder for archives, tests and results (default: a new one)")
    own, passed_on = parser.parse_known_args()
    passed_on = [option for option in passed_on if option != "--"]
    work = (own.work or Path(tempfile.mkdtemp(prefix="upstream-"))).resolve()
    sys.stdout.write(f"working in {work}\n")
    results = [_run(name, SUITES[name], work, passed_on) for name in own.suites]
    return 0 if all(results) else 1


def _run(name: str, suite: Suite, work: Path, passed_on: list[str]) -> bool:
    """Run a suite and print its table. Return whether all tests in scope passed."""
    tests = _unpacked(name, work) / "tests"
    packages = _installed(suite, work)
    port = _free_port()
    setup = suite.adapt(tests, endpoint := f"http://127.0.0.1:{port}")
    results, log = work / f"{name}.jsonl", work / f"{name}.access.log"
    for path in (results, log):
        path.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="upstream-") as scratch, _serving(setup, Path(scratch) / "hub", port, log):
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUBDPO_"))},
            "HF_ENDPOINT": endpoint, "HF_HOME": f"{scratch}/home",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1", "HF_UPDATE_DOWNLOAD_COUNTS": "0", "TOKENIZERS_PARALLELISM": "false",
            "PYTHONPATH": os.pathsep.join([str(packages), str(HERE)]), "PYTHONSAFEPATH": "", "TMPDIR": scratch,
            "UPSTREAM_SUITE": name, "UPSTREAM_OUT": str(results), "UPSTREAM_LOG": str(log),
            "UPSTREAM_SCOPE": str(HERE / "out_of_scope.toml"), **setup.environment,
        }  # fmt: skip
        command = [sys.executable, "-m", "pytest", *OPTIONS.split(), *suite.options]
        command += [*(f"tests/{file}" for file in suite.files), *passed_on]
        with (work / f"{name}.pytest.log").open("w") as output:
            subprocess.run(command, cwd=tests.parent, env=environment, stdout=output, stderr=subprocess.STDOUT)
    table, good = report(f"{name} {importlib.metadata.version(name)}", read_results(results))
    sys.stdout.write(table)
    sys.stdout.flush()
    return good


def _unpacked(name: str, work: Path) -> Path:
    """Return the fresh folder of a source archive."""
    version = importlib.metadata.version(name)
    archive = work / f"{name}-{version}.tar.gz"
    if not archive.exists():
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--no-binary", ":all:", "--no-deps",
             "--dest", str(work), f"{name}=={version}"], check=True,
        )  # fmt: skip
    folder = work / archive.name.removesuffix(".tar.gz")
    shutil.rmtree(folder, ignore_errors=True)
    with tarfile.open(archive) as packed:
        members = [m for m in packed.getmembers() if "/src/" not in m.name]  # the installed package is tested
        packed.extractall(work, members, filter="data")
    (folder / "tests" / "__init__.py").touch()
    return folder


def _installed(suite: Suite, work: Path) -> Path:
    """Return a folder with what the tests import besides the packages of this environment."""
    folder = work / "packages"
    folder.mkdir(parents=True, exist_ok=True)
    missing = [name for name in suite.needs if not any(folder.glob(f"{name.replace('-', '_')}-*.dist-info"))]
    if missing:
        subprocess.run(
            [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder), "--no-deps", *missing],
            check=True,
        )
    return folder


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _serving(setup: Setup, folder: Path, port: int, log: Path) -> Iterator[None]:
    command = [sys.executable, "-m", "hubdpo", "serve-hub", str(folder), "--port", str(port), "--access-log", str(log)]
    command += [f"--org={organisation}" for organisation in setup.organisations]
    tokens = {"HUBDPO_HUB_TOKENS": " ".join(setup.tokens), "PYTHONPATH": str(ROOT)}
    with (log.parent / f"{log.stem}.server.log").open("w") as errors:
        server = subprocess.Popen(command, env=os.environ | tokens, stdout=subprocess.PIPE, stderr=errors, text=True)
        try:
            if not (server.stdout and server.stdout.readline().startswith("HF_ENDPOINT=")):
                raise SystemExit(f"the server did not start, see {errors.name}")
            yield
        finally:
            server.terminate()
            server.wait(30)


if __name__ == "__main__":
    sys.exit(main())
