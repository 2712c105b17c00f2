"""What tests of the judge share."""

from __future__ import annotations

import pytest

from hubdpo.evaluation.judge import server
from hubdpo.hub import retry


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were made, in seconds; none of them takes any time. No key is set."""
    made: list[float] = []
    monkeypatch.setattr(retry, "pause", made.append)
    for name in server.KEYS:
        monkeypatch.delenv(name, raising=False)
    return made
