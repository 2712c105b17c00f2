"""Break one line at a time and see a test die: `make mutants`, with the tables in tests/mutants/.

A mutant is a text of one file of the package that is replaced by another, the tests that must notice, and what would go
wrong. It is made in a copy of the project, so the working tree is never touched. A mutant that survives is a claim that
no test holds.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
TABLES = ROOT / "tests" / "mutants"
COPIED = ("hubdpo", "tests", "dataset_cards", "pyproject.toml", "README.md", "Makefile")
LONGEST_RUN_S = 900


@dataclass(frozen=True)
class Mutant:
    """`old` stands exactly once in `file`, a path below hubdpo/; `tests` are arguments of pytest."""

    name: str
    file: str
    old: str
    new: str
    tests: list[str]
    harm: str


def mutants() -> Iterator[Mutant]:
    """Yield every mutant of the tables, named TABLE.KEY."""
    for table in sorted(TABLES.glob("*.toml")):
        for key, fields in tomllib.loads(table.read_text(encoding="utf-8")).items():
            yield Mutant(name=f"{table.stem}.{key}", **fields)


def dies(mutant: Mutant | None, tests: list[str]) -> bool:
    """Run tests in a copy of the project, with the mutant in it, and tell whether one failed."""
    with tempfile.TemporaryDirectory(prefix="hubdpo-mutant-") as scratch:
        copy = Path(scratch)
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(source, copy / name)
        if mutant is not None:
            path = copy / "hubdpo" / mutant.file
            path.write_text(path.read_text(encoding="utf-8").replace(mutant.old, mutant.new), encoding="utf-8")
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
        environment = {**os.environ, "PYTHONPATH": scratch, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
        try:
            done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, timeout=LONGEST_RUN_S)
        except subprocess.TimeoutExpired:
            return True
        # 1: a test failed; 2: a module cannot be imported, which only a mutant may cause
        if done.returncode not in ((0, 1) if mutant is None else (0, 1, 2)):
            raise SystemExit(f"pytest cannot run {' '.join(tests)}:\n{done.stdout.decode()}{done.stderr.decode()}")
        return done.returncode != 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="names of mutants, or the beginnings of names; all without")
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    chosen = [mutant for mutant in mutants() if mutant.name.startswith(tuple(arguments.names or [""]))]
    suites = sorted({tuple(mutant.tests) for mutant in chosen})
    with ThreadPoolExecutor(arguments.jobs) as pool:
        # tests that fail without a mutant would call every mutant dead
        for tests, failed in zip(suites, pool.map(lambda tests: dies(None, list(tests)), suites), strict=True):
            if failed:
                raise SystemExit(f"{' '.join(tests)} fails without any mutant")
        survivors = 0
        for mutant, died in zip(chosen, pool.map(lambda one: dies(one, one.tests), chosen), strict=True):
            survivors += not died
            sys.stdout.write(f"{'dead    ' if died else 'SURVIVED'} {mutant.name}: {mutant.harm}\n")
            sys.stdout.flush()
    sys.stdout.write(f"{len(chosen)} mutants, {survivors} survived\n")
    sys.exit(bool(survivors))


if __name__ == "__main__":
    main()
