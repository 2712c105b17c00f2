"""What is suggested for rows that no converter reads, shape by shape; the meaning of a value is never guessed."""

from __future__ import annotations

import random
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from hubdpo import console, load_preferences, prepare
from hubdpo.cli.app import app
from hubdpo.config.description import OPEN
from hubdpo.data.detection.seen import Seen
from hubdpo.data.detection.suggest import suggest
from hubdpo.data.raw.inner_rows import items_in
from hubdpo.errors import DataError
from tests.data.made import lines
from tests.data.shapes.unknown import SHAPES, Keys


@pytest.mark.parametrize("name", SHAPES)
def test_what_rows_seem_to_hold_is_filled_in(name: str) -> None:
    rows, keys = SHAPES[name]
    assert suggest(rows).keys == keys


def told(rows: list[dict[str, Any]], keys: Keys) -> dict[str, str]:
    """Return what a person who knows the rows writes in place of `...`."""
    column = next((keys[key] for key in ("vote", "label") if key in keys), None)
    values = list(dict.fromkeys(str(row[column]) for row in rows)) if isinstance(column, str) and column != OPEN else []
    if keys.get("first") == OPEN and "second" not in keys:
        return {"first": "0" if "0" in values else "1"}
    return {"roles": "user", **{key: values[at] for at, key in enumerate(("first", "second")) if values[at:]},
            **{key: values[at] for at, key in enumerate(("bad", "good")) if values[at:]}}  # fmt: skip


def kept(source: Any, out: Path, **options: Any) -> list[dict[str, Any]]:
    manifest = prepare(**({} if source is None else {"source": source}), output_dir=out, test_size=0, **options)
    assert manifest is not None
    return [row for row in load_preferences(out)["train"]]  # noqa: C416


PASTED = [
    name for name, (_, keys) in SHAPES.items() if OPEN not in (keys.get(key) for key in ("prompt", "vote", "scores"))
]
"""Shapes of which all places are known."""


def written(name: str, folder: Path) -> tuple[Path, dict[str, str]]:
    rows, keys = SHAPES[name]
    (folder / "raw.jsonl").write_bytes(lines(rows * 2))
    return folder / "raw.jsonl", told(rows, keys)


@pytest.mark.parametrize("name", PASTED)
def test_the_hint_can_be_pasted_on_the_command_line(name: str, tmp_path: Path) -> None:
    source, fills = written(name, tmp_path)
    with pytest.raises(DataError, match="no converter fits") as caught:
        prepare(source=source, output_dir=tmp_path / "out")
    words = [word.replace("customer=...", "customer=user") for word in shlex.split(caught.value.hint or "")]
    for key, value in fills.items():
        words = [word.replace(f"{key}=...", f"{key}={value}") for word in words]
    words = [fills["first"] if word == OPEN else word for word in words]
    done = CliRunner().invoke(app, ["prepare", str(source), "-o", str(tmp_path / "out"), "--test-size", "0", *words])
    assert done.exit_code == 0, done.output
    assert [*load_preferences(tmp_path / "out")["train"]]


@pytest.mark.parametrize("name", PASTED)
def test_the_hint_can_be_pasted_into_a_call(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console.output, "as_typed", False)
    source, fills = written(name, tmp_path)
    with pytest.raises(DataError) as caught:
        prepare(source=source, output_dir=tmp_path / "out")
    hint = (caught.value.hint or "").replace("customer=...", "customer=user")
    for key, value in fills.items():
        hint = hint.replace(f"{key}=...", f"{key}={value}").replace(f'{key}="..."', f'{key}="{value}"')
    assert kept(source, tmp_path / "out", **eval(f"dict({hint})"))


@pytest.mark.parametrize("name", PASTED)
def test_the_hint_can_be_pasted_into_an_item_of_sources(name: str, tmp_path: Path) -> None:
    source, fills = written(name, tmp_path)
    with pytest.raises(DataError, match="no converter fits") as caught:
        prepare(sources=[{"path": str(source)}], output_dir=tmp_path / "out")
    where, _, hint = (caught.value.hint or "").partition("`: ")
    assert where == f"in the item of `{source}"
    item = yaml.safe_load(f"{{{hint}}}")
    item = {key: fills.get(key, value) if value == OPEN else value for key, value in item.items()}
    item |= {"roles": dict.fromkeys(item["roles"], "user")} if "roles" in item else {}
    assert kept(None, tmp_path / "out", sources=[{"path": str(source), **item}])


@pytest.mark.parametrize("name", SHAPES)
def test_the_description_is_a_file_in_which_what_is_open_is_marked(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, fills = written(name, tmp_path)
    prepare(source=source, describe=True)
    text = capsys.readouterr().out
    made, keys = yaml.safe_load(text), SHAPES[name][1]
    assert made == {"source": str(source), **keys}
    is_open = [OPEN in (value.values() if isinstance(value, dict) else [value]) for value in keys.values()]
    assert text.count("# needed") == sum(is_open)
    assert ("# a guess" in text and " -> " in text) is not any(is_open)
    if name in PASTED:
        made = {key: fills.get(key, value) if value == OPEN else value for key, value in made.items()}
        made |= {"roles": dict.fromkeys(made["roles"], "user")} if "roles" in made else {}
        assert kept(made.pop("source"), tmp_path / "out", **made)


@pytest.mark.parametrize(
    ("row", "hint"),
    [
        ({"Frage": "Q", "Eins": "one", "Zwei": "two"}, "hubdpo prepare --describe '{}' > data.yaml"),
        (
            {"ask": "Q", "outputs": [{"out": "a", "n": 3}, {"out": "b", "n": 1}]},
            "hubdpo prepare --describe '{}' > data.yaml",
        ),
        ({"good": "one", "bad": "two"}, "hubdpo prepare --describe '{}' > data.yaml"),
    ],
)
def test_where_little_is_known_the_hint_is_to_describe_it(row: dict[str, Any], hint: str, tmp_path: Path) -> None:
    (tmp_path / "a b.jsonl").write_bytes(lines([row] * 2))
    with pytest.raises(DataError, match="no converter fits") as caught:
        prepare(source=tmp_path / "a b.jsonl", output_dir=tmp_path / "out")
    assert caught.value.hint == hint.format(tmp_path / "a b.jsonl")


def test_rows_in_memory_are_described_by_the_call() -> None:
    with pytest.raises(DataError, match="no converter fits") as caught:
        prepare([{"Frage": "Q", "Eins": "one", "Zwei": "two"}], output_dir="out")
    assert caught.value.hint == "--describe"


def test_a_column_that_names_an_answer_is_told_but_not_taken(tmp_path: Path) -> None:
    rows, _ = SHAPES["a column that names an answer, and does not say why"]
    (tmp_path / "raw.jsonl").write_bytes(lines(rows))
    with pytest.raises(DataError, match=r"one of which is named by `Votum` \(A, B\), as the better or the w") as caught:
        prepare(source=tmp_path / "raw.jsonl", output_dir=tmp_path / "out")
    assert (caught.value.hint or "").startswith("hubdpo prepare --describe")


MEANINGLESS = (0, 1, 2, -1, "0", "1", 0.5, True, False, "yes", "no", "x", "win", "lose", "1/0", "7", "A is worse")
"""Values that could mean either of two answers whose names have no number."""


@pytest.mark.parametrize("seed", range(10))
def test_a_value_that_could_mean_either_answer_names_none(seed: int) -> None:
    draw = random.Random(seed)
    for _ in range(100):
        one, other = draw.choice((("a", "b"), ("left", "right"), ("first", "second")))
        vote = draw.choice(("vote", "label", "human", "preference", "winner", "verdict", "best"))
        shape = draw.choice(
            ({f"answer_{one}": "one", f"answer_{other}": "two"}, {one: {"text": "one"}, other: {"text": "two"}})
        )
        values = draw.choices(MEANINGLESS, k=draw.choice((1, 2, 5)))
        keys = suggest([{"prompt": "Q", **shape, vote: value} for value in values]).keys
        assert keys is not None
        assert keys["vote"] == vote and keys["first"] == keys["second"] == OPEN, (keys, values)


NAMES = (
    "prompt", "question", "q", "input", "good", "bad", "answer_a", "answer_b", "a", "b", "vote", "winner", "score",
    "scores", "rank", "responses", "cands", "text", "role", "speaker", "best_idx", "label", "x.y", "[]", "", " ", 
    "data", "messages",
)  # fmt: skip


def drawn(draw: random.Random, depth: int = 0) -> Any:
    kind = draw.random()
    if kind < 0.5 or depth > 3:
        return draw.choice(
            ("one", "two", "a", "", None, 0, 1, 2.5, True, "[1, 2]", '{"text": "one"}', '["x", "y"]', "{")
        )
    if kind < 0.75:
        return [drawn(draw, depth + 1) for _ in range(draw.randrange(3))]
    return {draw.choice(NAMES): drawn(draw, depth + 1) for _ in range(draw.randrange(4))}


def test_any_rows_are_looked_at_and_a_complete_description_reads_one() -> None:
    draw, complete = random.Random(0), 0
    for _ in range(3000):
        rows: list[dict[str, Any]] = draw.choice([*SHAPES.values()])[0] if draw.random() < 0.5 else [{}] * 2
        names = draw.sample(NAMES, draw.randrange(7))
        rows = [{**row, **{name: drawn(draw) for name in names}} for row in rows]
        if (found := suggest(rows)).is_complete:
            assert found.keys is not None
            read = (
                [item for row in rows for item in items_in(row, found.keys["rows"]) or ()]
                if "rows" in found.keys
                else rows
            )
            keys = {key: value for key, value in found.keys.items() if key != "rows"}
            assert {None, "tie"} & Seen(read).reasons(keys), (rows, keys)
            assert found.hint
            complete += 1
    assert complete > 500


def test_a_description_to_fill_in_shows_the_first_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = {"dialogue": [{"speaker": "human", "utterance": "Hi"}], "winner": "w " * 90, "n": 1}
    (tmp_path / "raw.jsonl").write_bytes(lines([row] * 5))
    prepare(source=str(tmp_path / "raw.jsonl"), describe=True)
    out = capsys.readouterr().out
    assert "# dialogue: [{'speaker': 'human', 'utterance': 'Hi'}]\n" in out
    assert "# " + "winner: " + ("w " * 30) + "…\n" in out
    assert "if `dialogue` is a conversation: role_key, content_key and roles name" in out
    assert yaml.safe_load(out)["prompt"] == OPEN
