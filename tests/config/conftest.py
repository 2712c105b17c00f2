"""Calls from Python, where the other tests read messages as they are written."""

from __future__ import annotations

import pytest

from hubdpo import console


@pytest.fixture
def from_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console.output, "as_typed", False)
