"""Short YAML that is large, deep or slow to build is refused quickly, with a short message."""

from __future__ import annotations

import time
import tracemalloc

import pytest

from hubdpo.loopback.api.content import card_checks
from hubdpo.loopback.api.content.card_checks import card_data

NESTED = "a: &a [x]\n" + "".join(f"k{i}: &k{i} [{', '.join([f'*{n}'] * 9)}]\n" for i, n in enumerate("a"))
BOMB = "a: &k0 [x, x]\n" + "".join(f"b{i}: &k{i + 1} [{', '.join([f'*k{i}'] * 9)}]\n" for i in range(5))
HOSTILE = {
    "aliases that expand": (BOMB + "datasets: *k5", "alias"),
    "one alias": (NESTED, "alias"),
    "an alias of itself": ("a: &a [*a]", "alias"),
    "an alias as a key": ("a: &a x\n*a : 1", "alias"),
    "100,000 levels of lists": ("a: " + "[" * 100_000, "levels"),
    "levels by indentation": ("\n".join(" " * i + "a:" for i in range(40)), "levels"),
    "levels of keys": ("? " * 5000 + "a", "levels"),
    "too long": ("a: " + "x" * card_checks.LARGEST, "longer than"),
    "a number of base 60": ("a: 1" + ":1" * 200_000, "a number of more"),
    "a long number": ("a: " + "9" * 5000, "a number of more"),
    "a long value where an id belongs": ("datasets: ['" + "x/" * 50_000 + "']", "not valid"),
    "an unknown tag": ("a: !" + "x" * 50_000 + " b", "YAML parse error"),
    "an object of Python": ("a: !!python/object/apply:os.system [exit]", "YAML parse error"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_costly_yaml_is_refused_in_little_time_and_memory(name: str) -> None:
    text, told = HOSTILE[name]
    started = time.process_time()
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=told):
            card_data(f"---\n{text}\n---\n")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 50e6 and time.process_time() - started < 10


@pytest.mark.parametrize(
    "text", ["a: &a x", "a: 1_000\nb: 2026-01-02", "a: [[[x]]]", "<<: {a: 1}", "a: '" + "9" * 500 + "'"]
)
def test_unusual_yaml_is_accepted(text: str) -> None:
    assert card_data(f"---\n{text}\n---\n")
