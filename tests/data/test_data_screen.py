"""What is looked at before conversion: scores of a pair, columns that nobody reads, and who reads a row at all."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from hubdpo import load_preferences, prepare
from hubdpo.artefacts.manifests.prepare import PrepareManifest
from hubdpo.data.clean.screen import MOST_NAMES, OTHERS, Screen
from hubdpo.data.converters import CONVERTERS, ConvertOptions
from hubdpo.data.pairs.example import Rejection
from hubdpo.data.prepare.report import report_remarks
from hubdpo.data.raw import pieces
from hubdpo.errors import DataError
from tests.data.made import detect, find_converter, lines

ROW: dict[str, Any] = {"prompt": "q", "chosen": "a", "rejected": "b"}


def unused_of(
    name: str, *rows: dict[str, Any], keep: tuple[str, ...] = (), how: ConvertOptions | None = None
) -> Counter[str]:
    unused: Counter[str] = Counter()
    Screen(find_converter(name).columns_read(how or ConvertOptions()), keep, how or ConvertOptions()).look(rows, unused)
    return unused


@pytest.mark.parametrize(
    "names",
    [
        ("score_chosen", "score_rejected"), ("chosen_score", "rejected_score"), ("chosen-rating", "rejected-rating"),
        ("chosen_rating", "rejected_rating"), ("rating_chosen", "rating_rejected"),
        ("chosen_avg_rating", "rejected_avg_rating"),
        ("chosen_reward", "rejected_reward"), ("chosen score", "rejected score"),
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    ("better", "worse", "reason"),
    [
        (1, 1.0, "tie"), ("2", "2", "tie"), (1, 2, "inverted"), (2, 1.5, "below_margin"), (3, 1, None), (None, 1, None),
        ("high", "low", None),
    ],
)  # fmt: skip
def test_the_scores_of_a_pair_are_compared(names: tuple[str, str], better: Any, worse: Any, reason: str | None) -> None:
    row = {**ROW, names[0]: better, names[1]: worse}
    screen = Screen(find_converter("preference").columns_read(ConvertOptions()), how=ConvertOptions(min_margin=1))
    if reason is None:
        assert screen.one(row) == row
    else:
        with pytest.raises(Rejection) as caught:
            screen.one(row)
        assert caught.value.reason == reason


@pytest.mark.parametrize(
    "names",
    [("chosen_rank", "rejected_rank"), ("rank_chosen", "rank_rejected"), ("chosen ranking", "rejected ranking"),
     ("chosen_avg_rank", "rejected_avg_rank")],
)  # fmt: skip
@pytest.mark.parametrize(
    ("better", "worse", "reason"),
    [(1, 2, None), (2, 1, "inverted"), ("2", "1.0", "inverted"), (1, 1, "tie"), ("", 1, None)],
)
def test_of_ranks_the_lower_one_is_better(names: tuple[str, str], better: Any, worse: Any, reason: str | None) -> None:
    row = {**ROW, names[0]: better, names[1]: worse}
    screen = Screen(find_converter("preference").columns_read(ConvertOptions()))
    assert [*screen.look([row], Counter()).refused.values()] == ([reason] if reason else [])
    for scored in ({**row, "chosen_score": 2, "rejected_score": 1}, {"chosen_score": 2, "rejected_score": 1, **row}):
        assert len(screen.look([scored], Counter()).refused) == (reason is not None)
        assert screen.look([{**scored, "rejected_score": 3}], Counter()).refused


def test_the_least_margin_is_one_of_scores_where_there_are_any() -> None:
    how = ConvertOptions(min_margin=3)
    ranks = {**ROW, "chosen_rank": 1, "rejected_rank": 2}
    screen = Screen(find_converter("preference").columns_read(how), how=how)
    assert not screen.look([{**ranks, "score_chosen": 9, "score_rejected": 2}], Counter()).refused
    assert screen.look([{**ranks, "score_chosen": 3, "score_rejected": 2}], Counter()).refused == {0: "below_margin"}
    assert screen.look([ranks], Counter()).refused == {0: "below_margin"}


def test_a_position_is_no_rank() -> None:
    assert "chosen_position" in unused_of("preference", {**ROW, "chosen_position": 2, "rejected_position": 1})


@pytest.mark.parametrize("name", ["chosen_toxicity_score", "chosen_model", "chosen_length", "score"])
def test_other_numbers_are_no_scores_and_are_named(name: str) -> None:
    row = {**ROW, name: 1, name.replace("chosen", "rejected"): 2}
    assert name in unused_of("preference", row)


def test_scores_that_are_no_numbers_are_named() -> None:
    rows = [{**ROW, "score_chosen": 2, "score_rejected": 1}, {**ROW, "score_chosen": "good", "score_rejected": ""}]
    assert unused_of("preference", *rows) == {"score_chosen": 1}


def test_a_tie_in_the_columns_can_be_an_error(tmp_path: Path) -> None:
    (tmp_path / "raw.jsonl").write_bytes(lines([{**ROW, "score_chosen": 2, "score_rejected": 2}]))
    with pytest.raises(DataError, match="line 1: tie"):
        prepare(source=str(tmp_path / "raw.jsonl"), output_dir=tmp_path / "out", on_tie="error")


@pytest.mark.parametrize(
    ("name", "row", "unused"),
    [
        ("preference", {**ROW, "id": 0, "note": "", "tags": [], "flag": False, "meta": {}, "x": None}, {"id", "flag"}),
        ("preference", {**ROW, "chosen_response": "c"}, {"chosen_response"}),
        ("scored", {"prompt": "q", "instruction": "i", "input": "x", "responses": ["a"], "ratings": [1]},
         {"instruction", "input"}),
        ("scored", {"instruction": "i", "input": "x", "responses": ["a"], "ratings": [1]}, set()),
        ("scored", {"prompt": "q", "response": "a", "helpfulness": 1, "verbosity": 2}, {"verbosity"}),
        ("voted", {"prompt": "q", "response_0": "a", "response_1": "b", "better_response_id": 1, "winner": None},
         set()),
        ("voted", {"prompt": "q", "response_1": "a", "response_2": "b", "preference": 1, "label": 2}, {"label"}),
        ("openai", {"input": {"messages": [], "tools": [1], "x": None}, "preferred_output": 1,
                    "non_preferred_output": 2}, {"input.tools"}),
        ("voted", {"info": {"post": "p", "title": "t"}, "summaries": [], "choice": 1, "split": "s"},
         {"info.title", "split"}),
    ],
)  # fmt: skip
def test_columns_that_were_not_used_are_named(name: str, row: dict[str, Any], unused: set[str]) -> None:
    assert set(unused_of(name, row)) == unused


@pytest.mark.parametrize(
    ("row", "unused"),
    [
        ({**ROW, "system": "s", "sys_prompt": "t"}, {"sys_prompt"}), ({**ROW, "system": "s", "sysPrompt": "s"}, set()),
        ({**ROW, "system": "", "system_message": "s"}, set()), ({**ROW, "系统": "s", "system": "t"}, {"系统"}),
        ({**ROW, "system": "", "systemprompt": "s"}, set()),
        ({**ROW, "sys": "s", "system_id": 3}, {"sys", "system_id"}),
    ],
)  # fmt: skip
def test_of_several_system_prompts_those_not_used_are_named(row: dict[str, Any], unused: set[str]) -> None:
    assert set(unused_of("preference", row)) == unused


def test_of_several_system_prompts_the_same_column_is_read_in_every_row(tmp_path: Path) -> None:
    said = {"systemPrompt": "one", "system_prompt": "two"}
    table = [{**ROW, "prompt": f"q{n}", **dict(sorted(said.items(), reverse=n % 2 == 0))} for n in range(6)]
    (tmp_path / "raw.jsonl").write_bytes(lines(table))
    prepare(source=[str(tmp_path / "raw.jsonl")], output_dir=tmp_path / "out", test_size=0)
    prompts = load_preferences(tmp_path / "out")["train"]["prompt"]
    assert {prompt[0]["content"] for prompt in prompts} == {"one"}


def turn(role: str, content: Any = "x", **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


@pytest.mark.parametrize(
    ("messages", "unused"),
    [
        ([turn("user", name="Ann"), turn("assistant")], {"name"}), ([turn("user", id=0, ts="")], {"id"}),
        ([turn("assistant", weight=0)], {"weight"}), ([turn("assistant", loss_weight=0.5)], {"loss_weight"}),
        ([turn("assistant", weight=1), turn("user", weight=0)], set()), ([turn("assistant", train=True)], set()),
        ([turn("assistant", train=False)], {"train"}), ([turn("gpt", loss="False")], {"loss"}),
        ([turn("assistant", mask=True)], {"mask"}), ([turn("assistant", mask=0)], set()),
        ([turn("assistant", refusal=None, annotations=[])], set()), ([turn("assistant", refusal="no")], {"refusal"}),
        ([turn("assistant", value="x")], set()), ([turn("assistant", text="y")], {"text"}),
        ([turn("assistant", tool_calls=[1], thinking="t", images=["a"])], set()),
        ([{"from": "human", "value": "x", "name": "Ann"}], {"name"}),
        ([{"response": "a", "model": "m", "id": 1}], set()),
        (turn("assistant", name="Bob"), {"name"}), ([turn("user"), 3, None], set()),
        ('[{"role": "user", "content": "x", "name": "Ann"}]', {"name"}),
    ],
)  # fmt: skip
def test_members_of_messages_that_nobody_reads_are_named(messages: Any, unused: set[str]) -> None:
    plain = {**ROW, "chosen": [turn("assistant")]}
    found = unused_of("preference", plain, {**plain, "chosen": messages}, plain)
    assert found == {f"chosen[].{name}": 1 for name in unused}


def test_members_of_messages_inside_an_object_are_named() -> None:
    row = {"input": {"messages": [turn("user", name="Ann")]}, "preferred_output": 1, "non_preferred_output": 2}
    assert unused_of("openai", row) == {"input.messages[].name": 1}


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("tools", "without the tools"), ("available_tools", "without the tools"), ("tools_used", None),
        ("sys", "learned without it"), ("system_prompt", "learned without it"), ("系统提示", "learned without it"),
        ("dialogHistory", "earlier turns"), ("历史对话", "earlier turns"), ("documents", "not in the prompt"),
        ("retrieved_context", "not in the prompt"), ("context_id", None), ("reference_answer", None),
        ("参考资料", "not in the prompt"), ("input", "not in the prompt"), ("input_tokens", None), ("id", None),
        ("sample_weight", "weigh the same"), ("info.context", "not in the prompt"), ("name", None),
        ("chosen[].name", "who speaks"), ("chosen[].weight", "learned whole"), ("chosen[].loss_mask", "learned whole"),
        ("chosen[].id", None), ("chosen[].x.tools", None), ("photo", "not image"),
    ],
)  # fmt: skip
def test_columns_that_change_what_is_learned_are_warned_of(
    name: str, why: str | None, capsys: pytest.CaptureFixture[str], dataset_dir: Path
) -> None:
    manifest = PrepareManifest.read(dataset_dir / "prepare.json")
    capsys.readouterr()
    report_remarks(manifest.model_copy(update={"unused_columns": {name: 3}}))
    warned = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    assert len(warned) == (why is not None)
    assert all(why in line and f"`{name}` is not used, in 3 rows" in line for line in warned if why)


def test_kept_columns_are_used() -> None:
    assert unused_of("preference", {**ROW, "id": 1, "x": 2}, keep=("id",)) == {"x": 1}


def test_the_score_that_was_named_is_read() -> None:
    row = {"prompt": "q", "response": "a", "helpfulness": 1, "verbosity": 2}
    assert unused_of("scored", row, how=ConvertOptions(score_field="verbosity")).keys() <= {"helpfulness"}


def test_names_without_end_are_counted_together() -> None:
    unused = unused_of("preference", *({**ROW, f"key {i}": 1} for i in range(1000)))
    assert len(unused) == MOST_NAMES + 1
    assert unused[OTHERS] == 1000 - MOST_NAMES


def test_unused_columns_are_told_the_same_by_any_number_of_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pieces, "PIECE_BYTES", 3000)
    values = [{**ROW, "prompt": f"q{i}", "id": i, "rare" if i % 7 else "seldom": i % 3} for i in range(300)]
    (tmp_path / "raw.jsonl").write_bytes(lines(values))
    found = []
    for workers in (1, 2):
        manifest = prepare(source=str(tmp_path / "raw.jsonl"), output_dir=tmp_path / f"{workers}", num_proc=workers)
        assert isinstance(manifest, PrepareManifest)
        found.append(manifest.unused_columns)
    assert found[0] == found[1] == {"id": 300, "rare": 257, "seldom": 43}
    assert "columns not used: `id` (300 rows), `rare` (257 rows), `seldom` (43 rows)" in capsys.readouterr().err
    assert "`id` (300), `rare` (257), `seldom` (43)." in (tmp_path / "1" / "README.md").read_text()


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({**ROW, "completion": "a", "label": True}, "preference"),
        ({"input": "q", "chosen": "a", "rejected": "b", "generations": ["a", "b"], "rating": [2, 1]}, "alpaca"),
        ({**ROW, "response_a": "a", "response_b": "b", "winner": "model_a"}, "preference"),
        ({"chosen": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
          "rejected": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "b"}],
          "messages": [{"role": "user", "content": "q"}]}, "implicit-prompt"),
        ({"messages": [{"role": "user", "content": "q"}], "chosen": {"role": "assistant", "content": "a"},
          "rejected": {"role": "assistant", "content": "b"}}, "sharegpt"),
        ({"prompt": "q", "completion": "a", "label": 1}, "unpaired"),
    ],
)  # fmt: skip
def test_columns_that_say_which_is_better_win(row: dict[str, Any], name: str) -> None:
    assert detect([row]) == name
    find_converter(name).bind(ConvertOptions())(row)


def test_every_converter_says_what_it_reads() -> None:
    assert all(converter.reads for converter in CONVERTERS.values())


def test_answers_that_stay_alone_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = [{"prompt": f"q{i // 2}", "completion": f"a{i}", "label": i % 2 == 0} for i in range(20)]
    (tmp_path / "raw.jsonl").write_bytes(lines([*values, {"prompt": "x", "completion": "a", "label": True}]))
    prepare(source=str(tmp_path / "raw.jsonl"), output_dir=tmp_path / "out", test_size=0)
    assert (
        "1 rows are alone: their prompt has one answer or one kind of label, and DPO needs two"
        in capsys.readouterr().err
    )
    (tmp_path / "raw.jsonl").write_bytes(lines(values[::2]))
    with pytest.raises(DataError) as caught:
        prepare(source=str(tmp_path / "raw.jsonl"), output_dir=tmp_path / "two", test_size=0)
    assert "each prompt has one answer and DPO needs two" in (caught.value.hint or "")


@pytest.mark.parametrize("rows", [1, 40])
def test_a_column_with_a_dot_in_its_name_is_no_member(tmp_path: Path, rows: int) -> None:
    values = [
        {"q": f"q{i}", "resp.a": f"a{i}", "resp.b": f"b{i}", "vote.x": "one", "meta.system": "Be brief", "meta.id": 3}
        for i in range(rows)
    ]
    (tmp_path / "raw.jsonl").write_bytes(lines(values))
    manifest = prepare(
        source=str(tmp_path / "raw.jsonl"), output_dir=tmp_path / "out", test_size=0, labels="first=one,second=two",
        map="prompt=q,first=resp.a,second=resp.b,vote=vote.x,system=meta.system",
    )  # fmt: skip
    assert manifest is not None
    assert (manifest.funnel.kept, manifest.unused_columns) == (rows, {"meta.id": rows})


OPTIONS = {"pairs": "all", "min_margin": 0.5, "score_field": "score", "on_tie": "error"}


@pytest.mark.parametrize(
    ("row", "unread"),
    [
        ({"prompt": "q", "chosen": "a", "rejected": "b"}, {"pairs", "min_margin", "score_field", "on_tie"}),
        ({"prompt": "q", "chosen": "a", "rejected": "b", "score_chosen": 3, "score_rejected": 1},
         {"pairs", "score_field"}),
        ({"prompt": "q", "response_a": "a", "response_b": "b", "winner": "model_a"}, {"pairs", "score_field"}),
        ({"prompt": "q", "completions": [{"response": "a", "score": 3}, {"response": "b", "score": 1}]}, set()),
    ],
)  # fmt: skip
def test_options_that_nothing_reads_are_told(
    tmp_path: Path, row: dict[str, Any], unread: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "raw.jsonl").write_bytes(lines([{**row, "prompt": f"q{i}"} for i in range(3)]))
    prepare(source=str(tmp_path / "raw.jsonl"), output_dir=tmp_path / "out", test_size=0, **OPTIONS)
    told = capsys.readouterr().err
    assert {name for name in OPTIONS if f"`--{name.replace('_', '-')}` is not used" in told} == unread


def test_an_option_at_its_default_is_not_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "raw.jsonl").write_bytes(lines([{"prompt": "q", "chosen": "a", "rejected": "b"}]))
    prepare(source=str(tmp_path / "raw.jsonl"), output_dir=tmp_path / "out", test_size=0, pairs="best-worst")
    assert "is not used" not in capsys.readouterr().err
