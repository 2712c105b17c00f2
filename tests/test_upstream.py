"""The table of other projects' suites counts what a test says about the server."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from tests.upstream.report import report
from tests.upstream.suites import SUITES


def entry(outcome: str, requests: int = 1, **rest: Any) -> dict[str, Any]:
    return {"test": "tests/test_a.py::TestB::test_c", "outcome": outcome, "requests": requests, "reason": "no", **rest}


def test_a_test_that_sends_nothing_is_not_counted() -> None:
    table, good = report("x 1.0", [entry("passed"), entry("passed", 0), entry("failed", 0)])
    assert good
    assert "x 1.0: 1 of 1 in scope passed (100.0 %)" in table
    assert "failed without a request: tests/test_a.py::TestB::test_c: no" in table


def test_a_failure_is_named_with_its_reason() -> None:
    table, good = report("x 1.0", [entry("passed"), entry("failed", reason="404 Not Found")])
    assert not good
    assert "FAILED tests/test_a.py::TestB::test_c\n       404 Not Found" in table
    assert "1 of 2 in scope passed (50.0 %)" in table


def test_nothing_in_scope_is_no_success() -> None:
    table, good = report("x 1.0", [entry("out of scope", 0, group="buckets")])
    assert not good
    assert "out of scope,    1: buckets" in table


def test_each_group_out_of_scope_belongs_to_a_suite_and_names_tests() -> None:
    groups = tomllib.loads((Path(__file__).parent / "upstream" / "out_of_scope.toml").read_text(encoding="utf-8"))
    assert set(groups) <= set(SUITES)
    assert all(rule.keys() & {"marks", "tests", "files"} for rules in groups.values() for rule in rules.values())
