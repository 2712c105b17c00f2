"""Thousands of descriptions and rows, drawn at random: each is read, or dropped for a named reason."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from hubdpo import prepare
from hubdpo.config.description import SourceConfig
from hubdpo.data.clean.rows import clean
from hubdpo.data.clean.screen import Screen
from hubdpo.data.converters import ConvertOptions
from hubdpo.data.converters.columns import Columns
from hubdpo.data.converters.formats.described import converter
from hubdpo.data.converters.vote_words import normalize
from hubdpo.data.pairs.example import NotText, PreferenceExample, Rejection, ScoredAnswer
from hubdpo.errors import ConfigError, DataError

TRIES = 20_000
REGULAR: dict[str, tuple[Any, ...]] = {
    "q": ("Q", "R", [{"role": "user", "content": "Q"}], {"text": "Q"}),
    "one": ("good", "fine", "A"), "two": ("bad", "poor", "B"), "s.1": (1, 2, "3"), "s2": (0, 1.5, 5),
    "v": ("one", "two", 0, 1, "tie"), "all": (["x", "y"], ["x", "y", "z"], [{"text": "x", "n": 1}, {"text": "y"}]),
    "ns": ([1, 2], [3, 1], [1, 2, 3]), "ok": ("yes", "no", True), "问": ("S", None),
}  # fmt: skip
"""Columns with the values that they should hold."""
PATHS = (
    *REGULAR, "q.text", "q.0", "q.-1.content", "all[].text", "all[]", "all[].n", "all.0", "all.1", "s.1.f", "x", "",
    " ", "a..b", "[]", ".", "all[][]", "all.99999999999999999999", "...",
)  # fmt: skip
VALUES = ("A", "B", "tie", "1", "0", "", "first", 1, 0, True, 2.0, -1, "yes", "...")
TEXTS = (
    "", " ", "Q", "good", "bad", "\n\nHuman: Q\n\nAssistant: A", "<|im_start|>user\nQ<|im_end|>",
    '["x"]', '[{"role": "user", "content": "Q"}]', '{"text": "Q"}', "[1, 2]", "A", "2", "1,5", "nan", "\0", "{", "[[",
    '"\\ud800"', "tie", "b", "assistant",
)  # fmt: skip
ROLES = ("user", "assistant", "system", "tool", "human", "gpt", "boss", "function_call", "", 3, None)


def number(draw: random.Random) -> Any:
    return draw.choice((0, 1, 2, -1, 1.5, 1e308, 2**70, float("nan"), float("inf"), True, None))


def message(draw: random.Random) -> Any:
    keys = draw.choice((("role", "content"), ("from", "value"), ("who", "says"), ("role", "text")))
    made = {keys[0]: draw.choice(ROLES), keys[1]: draw.choice((draw.choice(TEXTS), None, 3, [{"type": "text"}]))}
    if draw.random() < 0.1:
        made["tool_calls"] = draw.choice(([], None, "x", [{"function": {"name": "f", "arguments": "{}"}}]))
    return made


def value(draw: random.Random, depth: int = 0) -> Any:
    kind = draw.random()
    if kind < 0.45 or depth > 3:
        return draw.choice(TEXTS)
    if kind < 0.6:
        return number(draw)
    if kind < 0.75:
        return [message(draw) for _ in range(draw.randrange(4))]
    if kind < 0.9:
        return [value(draw, depth + 1) for _ in range(draw.randrange(4))]
    return {key: value(draw, depth + 1) for key in draw.sample(("text", "content", "x", "f", "y", "score"), 2)}


def row(draw: random.Random) -> dict[str, Any]:
    """Return a row that most often holds what it should."""
    names = [name for name in REGULAR if draw.random() < 0.95]
    return {name: draw.choice(REGULAR[name]) if draw.random() < 0.8 else value(draw) for name in names}


def places(draw: random.Random, *regular: str) -> list[str]:
    """Return as many paths, most often these."""
    return [name if draw.random() < 0.9 else draw.choice(PATHS) for name in regular]


def description(draw: random.Random) -> dict[str, Any]:
    """Return a description, most often one that names its answers and what tells the better one."""
    few = draw.choice((("one", "two"), ("all",), ("all[].text",), ("one", "two", "q")))
    points = {1: ("ns",), 2: ("s.1", "s2"), 3: ("s.1", "s2", "v")}[len(few)]
    pair = dict(zip(("chosen", "rejected"), places(draw, "one", "two"), strict=True))
    way: dict[str, Any] = draw.choice((
        pair,
        {**pair, draw.choice(("scores", "ranks")): places(draw, "s.1", "s2")},
        {**pair, "margin": places(draw, "s2")[0]},
        {"answers": places(draw, *few), draw.choice(("scores", "ranks")): places(draw, *points)},
        {"answers": places(draw, *few), "vote": places(draw, *(("v",) * draw.randrange(1, 3)))},
        {"answer": places(draw, "one")[0], "label": places(draw, "ok")[0]},
        {"answer": places(draw, "one")[0], "scores": places(draw, "s2")},
    ))  # fmt: skip
    made: dict[str, Any] = {"path": "x", **way, "prompt": places(draw, "q", *draw.choice(((), (), ("v",))))}
    beside = {"system": "问", "tools": "x", "history": "all", "role_key": "who", "content_key": "says"}
    made |= {name: places(draw, usual)[0] for name, usual in beside.items() if draw.random() < 0.1}
    if "vote" in made and draw.random() < 0.7:
        made |= draw.choice(
            ({"first": 0, "second": 1}, {"first": 0}, {"first": "one", "second": ["two", draw.choice(VALUES)]})
        )
    if "label" in made and draw.random() < 0.7:
        made |= {"good": ["yes", True], "bad": draw.choice(("no", *VALUES))}
    if draw.random() < 0.1:
        made[draw.choice(("first", "second", "tie", "good", "bad"))] = draw.choice(VALUES)
    if draw.random() < 0.1:
        made["roles"] = {"boss": draw.choice(("user", "king"))}
    return made


def outcome(source: SourceConfig, drawn: dict[str, Any]) -> str:
    """Return what becomes of a row: a kind of result, or the reason why it is dropped."""
    columns = Columns.of(source)
    how = ConvertOptions(labels=source.meanings(normalize))
    read = converter(columns)
    try:
        made = read.bind(how)(Screen(read.columns_read(how), how=how).one(drawn))
        pairs = [made] if isinstance(made, PreferenceExample) else [] if isinstance(made, ScoredAnswer) else list(made)
        for pair in pairs:
            if isinstance(pair, Rejection):
                return pair.reason
            clean(pair)
    except NotText:
        return "media"
    except Rejection as rejection:
        return rejection.reason
    return "pairs" if pairs else "single"


@pytest.mark.parametrize("seed", range(4))
def test_a_drawn_description_is_refused_or_reads_rows_or_drops_them_for_a_reason(seed: int) -> None:
    draw = random.Random(seed)  # noqa: S311 - no secret
    seen: Counter[str] = Counter()
    for _ in range(TRIES // 4):
        try:
            source = SourceConfig.item(description(draw), "a source")
            source.meanings(normalize)
        except ConfigError as refused:
            assert refused.hint
            seen["refused"] += 1
            continue
        seen[outcome(source, row(draw)) if source.names_columns else "no columns"] += 1
    assert seen["pairs"] > 300 and seen["single"] > 200 and len(seen) > 15, seen


@pytest.mark.parametrize("seed", range(40))
def test_every_drawn_row_is_accounted_for(seed: int, tmp_path: Path) -> None:
    draw = random.Random(seed)  # noqa: S311 - no secret
    rows = [row(draw) for _ in range(30)]
    (tmp_path / "raw.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    source = {**description(draw), "path": str(tmp_path / "raw.jsonl")}
    try:
        manifest = prepare(sources=[source], output_dir=tmp_path / "out", test_size=0)
    except (ConfigError, DataError) as refused:
        assert refused.hint
        return
    assert manifest.funnel.adds_up()
    assert manifest.funnel.read == len(rows)
