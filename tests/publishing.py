"""What the tests of push share: folders of their own to publish, short waits, faults that go with the test."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner, Result

import hubdpo
from hubdpo import console
from hubdpo.cli.app import app
from hubdpo.hub import retry
from hubdpo.loopback.faults import Faults

if TYPE_CHECKING:
    from tests.conftest import Hub

LOCAL = shutil.ignore_patterns("release.json", "checkpoint-*")


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "LONGEST_WAIT_S", 0.02)


@pytest.fixture
def faults(hub: Hub) -> Iterator[Faults]:
    yield hub.server.faults
    hub.server.faults.clear()


@pytest.fixture
def data(dataset_dir: Path, tmp_path: Path) -> Path:
    """The session's dataset, for this test alone."""
    return Path(shutil.copytree(dataset_dir, tmp_path / "data", ignore=LOCAL))


@pytest.fixture
def run(run_dir: Path, tmp_path: Path) -> Path:
    """The session's run, for this test alone."""
    return Path(shutil.copytree(run_dir, tmp_path / "run", ignore=LOCAL))


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """Another dataset, of one pair."""
    (tmp_path / "raw.jsonl").write_text('{"prompt": "other", "chosen": "a", "rejected": "b"}\n')
    hubdpo.prepare(source=[str(tmp_path / "raw.jsonl")], output_dir=tmp_path / "other", test_size=0)
    return tmp_path / "other"


@pytest.fixture
def run_cli(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """The command line in this process."""

    def run(*arguments: str) -> Result:
        monkeypatch.setattr(console.output, "format", console.Format.human)
        return CliRunner().invoke(app, list(arguments))

    return run
