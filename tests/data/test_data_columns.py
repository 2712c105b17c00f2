"""Rows taken together: what comes of them is what comes of each for itself, and nothing heavy is loaded for it."""

from __future__ import annotations

import io
import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hubdpo import prepare
from hubdpo.artefacts.manifests.prepare import PrepareManifest
from hubdpo.cards.dataset.plots import PLOT, draw_dataset_plots
from hubdpo.config.map_option import parse_map
from hubdpo.data.clean.keys import digests, fold, folded_keys, pair_digests
from hubdpo.data.clean.rows import suspects
from hubdpo.data.converters import CONVERTERS, ConvertOptions
from hubdpo.data.pairs.example import PreferenceExample
from hubdpo.data.pairs.message_column import MessageColumn, text_array
from hubdpo.data.prepare import convert_piece
from tests.data.made import contents, find_converter, lines

TOGETHER = sorted(name for name, converter in CONVERTERS.items() if converter.convert_many)


def say(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def plain_row(name: str, i: int) -> dict[str, Any]:
    history = [say("user", f"q{i} é"), say("assistant", "名"), say("user", f"more {i}")][: 1 + i % 2 * 2]
    if name == "preference":
        return {"prompt": f"q{i}", "chosen": f"yes {i}", "rejected": "no é"}
    if name == "implicit-prompt":
        return {"chosen": [*history, say("assistant", f"a{i}")], "rejected": [*history, say("assistant", "b")]}
    if name == "hh-rlhf":
        asked = "".join(f"\n\n{'Human' if m['role'] == 'user' else 'Assistant'}: {m['content']}" for m in history)
        return {"chosen": f"{asked}\n\nAssistant: a{i}\n\nyes", "rejected": f"{asked}\n\nAssistant:b"}
    return {"question": f"q{i}", "response_j": f"yes {i}", "response_k": "no", "qid": i, "date": None if i % 9 else "x"}


EDITS: list[Callable[[str], str]] = [
    lambda text: text + "\n\nHuman: more", lambda text: text + "\0", lambda text: "\n" + text, lambda text: " " + text,
    lambda text: text[: len(text) // 2], lambda text: text.replace("Human", "Assistant", 1),
    lambda text: text.rpartition("\n\nAssistant:")[0] + "\n\nAssistant: ", lambda text: text.replace("Human", "Robot"),
    lambda text: text + "<|im_end|>\n", lambda text: f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n",
    lambda text: f"Human: {text}\n\nAssistant:", lambda text: json.dumps([say("user", text), say("assistant", "a")]),
    lambda text: str([say("assistant", text)]), lambda text: "[{'role': 'user', " + text,
    lambda text: f"[INST] {text} [/INST]", lambda text: f"### Question: {text}\n### Answer:",
    lambda text: text + "</s>", lambda text: str([text]), lambda text: json.dumps(json.dumps([say("assistant", text)])),
    lambda text: repr(np.array([say("user", text), say("assistant", "b")])), lambda text: f"array([{{'role': '{text}",
]  # fmt: skip
BESIDE: list[dict[str, Any]] = [
    {"system": "Be brief."}, {"system": ""}, {"system": None, "system_prompt": "Be é."}, {"system": ["x"]},
    {"score_chosen": 2, "score_rejected": 1}, {"score_chosen": 1, "score_rejected": 1.0},
    {"score_chosen": "1", "score_rejected": "3"}, {"score_chosen": None, "score_rejected": "high"},
    {"systemPrompt": "Be brief."}, {"system": "", "sys_prompt": "Be é."}, {"system": "x", "System Message": "other"},
    {"system_message": {"role": "system", "content": "Be brief."}}, {"系统提示": "简短"}, {"sys_msg": 3},
    {"tools": [], "note": 0}, {"tools": [{"type": "function"}], "note": None}, {"image_prompt": "a red cat"},
]  # fmt: skip
"""What may stand beside the columns that are read."""


def mixed_rows(name: str) -> list[Any]:
    """Plain rows, among them some of every other kind: the same again, odd texts, lacking fields, other shapes."""
    draw = random.Random(name)
    rows: list[Any] = [plain_row(name, i) for i in range(400)]
    odd: list[Any] = ["", " ", "\n x", "x\0", "\u3000", "a\u2003", None, 3, [], ["x"], {"role": "assistant"}, "no "]
    for _ in range(200):
        row = json.loads(json.dumps(plain_row(name, draw.randrange(400))))  # no message is in it twice
        key = draw.choice(list(row))
        if isinstance(row[key], list) and draw.random() < 0.7:
            draw.choice(row[key])[draw.choice(("role", "content", "name", "tool_calls", "thinking"))] = draw.choice(
                [*odd, "tool", "human", "system"]
            )
        elif isinstance(row[key], str) and draw.random() < 0.7:
            row[key] = draw.choice(EDITS)(row[key])
        elif draw.random() < 0.5:
            row |= draw.choice(BESIDE)
        else:
            row[key] = draw.choice(odd)
        rows.insert(draw.randrange(len(rows)), row)
    return rows


@pytest.mark.parametrize("name", TOGETHER)
@pytest.mark.parametrize("options", [{}, {"dedupe": "near"}], ids=["exact", "near"])
def test_rows_taken_together_give_what_each_gives_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, options: dict[str, Any]
) -> None:
    (tmp_path / "raw.jsonl").write_bytes(lines(mixed_rows(name)))
    made = []
    for few in (4, 10**9):
        monkeypatch.setattr(convert_piece, "FEW", few)
        folder = tmp_path / str(few)
        prepare(source=str(tmp_path / "raw.jsonl"), output_dir=folder, converter=name, test_size=0.2, **options)
        made.append(contents(folder))
    assert made[0] == made[1]
    reasons = {json.loads(loss)["reason"] for loss in made[0]["rejected.jsonl"].splitlines()}
    assert len(reasons) > 3


@pytest.mark.parametrize("name", TOGETHER)
def test_plain_rows_are_taken_together(name: str) -> None:
    many = CONVERTERS[name].convert_many
    assert many is not None
    rows = [plain_row(name, i) for i in range(9)]
    columns = many(rows)
    assert columns is not None
    for number, row in enumerate(rows):
        alone = CONVERTERS[name].convert(row)
        assert alone == PreferenceExample(*(column.row(number) for column in columns))
    assert many([*rows, {}]) is None


def test_roles_of_other_names_are_not_taken_together() -> None:
    many = CONVERTERS["implicit-prompt"].convert_many
    assert many is not None
    row = {"chosen": [say("human", "q"), say("gpt", "a")], "rejected": [say("human", "q"), say("gpt", "b")]}
    assert many([row] * 9) is None
    assert CONVERTERS["implicit-prompt"].convert(row).prompt == [say("user", "q")]  # type: ignore[union-attr]


@pytest.mark.parametrize("system", ["s", "", None])
def test_named_columns_are_taken_together_as_alone(system: str | None) -> None:
    mapping = parse_map("prompt=q,chosen=a,rejected=b,system=s")
    many = find_converter("columns", mapping).convert_many
    assert many is not None
    rows = [{"q": f"q{i}", "a": "yes", "b": "no", "s": system if i % 2 else "t"} for i in range(9)]
    columns = many(rows)
    assert columns is not None
    for number, row in enumerate(rows):
        prompt, chosen, rejected = (column.row(number) for column in columns)
        assert find_converter("columns", mapping).bind(ConvertOptions())(row) == PreferenceExample(
            prompt, chosen, rejected
        )


def test_what_is_put_right_among_rows_taken_together_is_counted(tmp_path: Path) -> None:
    rows = [plain_row("preference", i) for i in range(50)]
    rows[20]["chosen"] = "\n yes"
    rows[30]["rejected"] = "\r\nno"
    (tmp_path / "raw.jsonl").write_bytes(lines(rows))
    manifest = prepare(source=str(tmp_path / "raw.jsonl"), output_dir=tmp_path / "out", test_size=0)
    assert manifest is not None
    assert (manifest.funnel.kept, manifest.changed) == (50, {"stripped_leading_newlines": 2})


SPACES = [chr(code) for code in range(0x3001) if chr(code).isspace()]


@pytest.mark.parametrize("space", SPACES, ids=lambda space: f"U+{ord(space):04X}")
def test_every_space_at_an_end_is_looked_at(space: str) -> None:
    chosen = ["a", "b", f"{space}c", f"d{space}", space]
    columns = (["q"] * 5, "user"), (chosen, "assistant"), (["b", "x", "c", "d", "e"], "assistant")
    assert suspects(*(MessageColumn.single_turns(texts, role) for texts, role in columns)).tolist() == [2, 3, 4]


def test_one_message_has_one_hash_whatever_stands_beside_it() -> None:
    one = [say("user", "q")]
    alone, beside = MessageColumn.of([one]), MessageColumn.of([one, [*one, say("assistant", "a"), *one], []])
    for hashes in (lambda column: digests(column, {}), lambda column: folded_keys(column, fold, {})[:, None]):
        assert (hashes(alone)[0] == hashes(beside)[0]).all()
        assert len({row.tobytes() for row in hashes(beside)}) == 3


@pytest.mark.parametrize(
    "other", [[say("user", "b"), say("user", "a")], [say("user", "a"), say("assistant", "b")], [say("user", "ab")]]
)
def test_order_role_and_border_of_messages_are_in_the_hash(other: list[dict[str, str]]) -> None:
    column = MessageColumn.of([[say("user", "a"), say("user", "b")], other])
    assert digests(column, {})[0].tolist() != digests(column, {})[1].tolist()


def test_a_pair_and_its_reverse_have_one_digest_and_two_sides() -> None:
    prompt, a, b = (MessageColumn.single_turns([text, text], "user") for text in "pab")
    there, back = (pair_digests(*(digests(c, {}) for c in columns)) for columns in ((prompt, a, b), (prompt, b, a)))
    assert (there[0] == back[0]).all()
    assert (there[1] != back[1]).all()
    assert (pair_digests(*(digests(c, {}) for c in (a, prompt, b)))[0] != there[0]).any()


@pytest.mark.parametrize("other", ["WHAT  is\nit?", "whatis it?", "\uff37hat is it\uff1f"])
def test_prompts_that_differ_in_spacing_or_case_fold_to_one(other: str) -> None:
    texts = ["What is it?", other, "What is it!", "名\ufb01", "名fi"]
    folded = fold(texts, [text.encode() for text in texts])
    assert folded[0] == folded[1] != folded[2]
    assert folded[3] == folded[4]


def test_folding_long_texts_leaves_their_borders_where_they_are() -> None:
    texts = ["a b" * 20_000, "", "c" * 40_000, " "]
    assert fold(texts, [text.encode() for text in texts]) == [b"ab" * 20_000, b"", b"c" * 40_000, b""]


def test_kept_texts_may_be_missing_or_bytes() -> None:
    assert text_array(["a", None, "é"]).to_pylist() == ["a", None, "é"]
    assert text_array([b"1", b"[2]"]).to_pylist() == ["1", "[2]"]
    assert text_array([None, None]).to_pylist() == [None, None]


def test_columns_can_be_cut_joined_and_mended() -> None:
    column = MessageColumn.concat(
        [MessageColumn.of([[say("user", "a")], []]), MessageColumn.of([[say("tool", "b")] * 2])]
    )
    assert column.to_arrow().to_pylist() == [[say("user", "a")], [], [say("tool", "b")] * 2]
    column.set_first(2, "é")
    kept = column.filter(np.array([False, True, True]))
    assert kept.to_arrow().to_pylist() == [[], [say("tool", "é"), say("tool", "b")]]


def test_nothing_heavy_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "raw.jsonl").write_bytes(lines([plain_row("stack-exchange-paired", i) for i in range(2000)]))
    code = (
        "import sys; import hubdpo.data.raw.pieces as r; r.PIECE_BYTES = 30_000\n"
        "from hubdpo import prepare\n"
        "prepare(source='raw.jsonl', output_dir='out', num_proc=1)\n"
        "print(sorted({'pandas', 'matplotlib', 'datasets', 'torch', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def _picture(folder: Path, rows: list[Any]) -> bytes:
    (folder / "raw.jsonl").write_bytes(lines(rows))
    manifest = prepare(source=str(folder / "raw.jsonl"), output_dir=folder / "out", test_size=0.3, dry_run=True)
    assert isinstance(manifest, PrepareManifest)
    png = draw_dataset_plots(manifest)[PLOT]
    assert png == draw_dataset_plots(manifest)[PLOT]
    return png


def test_pictures_show_the_data(tmp_path: Path) -> None:
    some = [plain_row("implicit-prompt", i) for i in range(50)]
    long = [{"prompt": "q" * (i * i + 1), "chosen": "x" * 900, "rejected": "y"} for i in range(50)]
    deep = [
        {
            "prompt": [*[say("user", f"{i}"), say("assistant", "a")] * i, say("user", "q")],
            "chosen": "x",
            "rejected": "y",
        }
        for i in range(60)
    ]
    pictures = [_picture(tmp_path, rows) for rows in (some, long, deep, some[:1])]
    assert len(set(pictures)) == 4
    for png in pictures:
        with Image.open(io.BytesIO(png)) as picture:
            assert picture.size == (1760, 600)
            assert len(picture.convert("RGB").getcolors(1 << 16) or []) > 5
