"""A pytest plugin: deselect what is out of scope, and write a line for each test with the requests that it sent.

It runs in the process of another project's tests, so it imports nothing of ours.
"""

from __future__ import annotations

import json
import os
import re
import time
import tomllib
from pathlib import Path

import pytest

LOG = Path(os.environ["UPSTREAM_LOG"])
"""The access log of the server, one line for each request."""
LATE_S = 0.05
"""Time after which the log has a request that was answered."""


class Recorder:
    def __init__(self) -> None:
        groups = tomllib.loads(Path(os.environ["UPSTREAM_SCOPE"]).read_text("utf-8"))
        self.groups = groups.get(os.environ["UPSTREAM_SUITE"], {})
        self.before: dict[str, int] = {}
        self.failed: dict[str, str] = {}
        self.skipped: dict[str, str] = {}

    def write(self, **entry: object) -> None:
        with Path(os.environ["UPSTREAM_OUT"]).open("a", encoding="utf-8") as out:
            out.write(json.dumps(entry) + "\n")

    def group_of(self, item: pytest.Item) -> str | None:
        name = item.nodeid.partition("/")[2]
        for group, rule in self.groups.items():
            marked = any(item.get_closest_marker(mark) for mark in rule.get("marks", []))
            if marked or any(re.match(pattern, name) for pattern in rule.get("tests", [])):
                return group
        return None

    def pytest_ignore_collect(self, collection_path: Path) -> bool | None:
        for group, rule in self.groups.items():
            if collection_path.name in rule.get("files", []):
                self.write(test=f"tests/{collection_path.name}", outcome="out of scope", group=group)
                return True
        return None

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        kept = []
        for item in items:
            if group := self.group_of(item):
                self.write(test=item.nodeid, outcome="out of scope", group=group)
            else:
                kept.append(item)
        config.hook.pytest_deselected(items=[item for item in items if item not in set(kept)])
        items[:] = kept

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.write(test=report.nodeid, outcome="failed", reason=_last(report), requests=1)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.before[nodeid] = _size()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed.setdefault(report.nodeid, _last(report))
        if report.skipped:
            self.skipped[report.nodeid] = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else "expected")

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        start = self.before[nodeid]
        if _size() == start:
            time.sleep(LATE_S)
        requests = _requests(start)
        if nodeid in self.failed:
            self.write(
                test=nodeid, outcome="failed", reason=self.failed[nodeid], requests=len(requests), last=requests[-6:]
            )
        elif nodeid in self.skipped:
            self.write(test=nodeid, outcome="skipped", reason=self.skipped[nodeid], requests=len(requests))
        else:
            self.write(test=nodeid, outcome="passed", requests=len(requests))


def _size() -> int:
    return LOG.stat().st_size if LOG.exists() else 0


def _requests(start: int) -> list[str]:
    if not LOG.exists():
        return ["?"]
    with LOG.open("rb") as stream:
        stream.seek(start)
        return stream.read().decode("utf-8", "replace").splitlines()


def _last(report: pytest.CollectReport | pytest.TestReport) -> str:
    """Return the line of a failure that says what is wrong."""
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash else str(report.longrepr)
    return " ".join(text.split())[:400]


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Recorder())
