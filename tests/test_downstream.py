"""`make downstream`: what it compares, and that cards and docs say what it found."""

from __future__ import annotations

import pytest

from hubdpo.cards.model.programs import programs
from hubdpo.cards.model.proofs import read_file, read_proofs
from hubdpo.cards.model.serving import Adapter
from tests.cards.made import CONFIG, SHAPES
from tests.downstream.answers import Answer, compare
from tests.downstream.card import block, lines
from tests.downstream.report import BEGIN, DOCS, END, markdown

PEFT = [Answer(["a", "b", "c"], [-0.1, -0.2, -0.3], [0.01, 5.0, 0.01])]


def test_equal_answers_differ_by_their_log_probs() -> None:
    found = compare(PEFT, [Answer(["a", "b", "c"], [-0.1, -0.25, -0.3])])
    assert (found.tokens, found.equal, found.lead) == (3, 3, None)
    assert found.largest_difference == pytest.approx(0.05)
    assert found.within(0.06) and not found.within(0.04)


@pytest.mark.parametrize(
    ("tokens", "equal", "good"),
    [(["a", "b", "x"], 2, True), (["a", "b"], 2, True), (["a", "x", "c"], 1, False), (["x", "b", "c"], 0, False)],
    ids=["two as good", "ends early", "not as good", "at once"],
)
def test_tokens_may_part_only_where_two_are_as_good_as_equal(tokens: list[str], equal: int, good: bool) -> None:
    found = compare(PEFT, [Answer(tokens, [-0.1, -0.2, -0.3][: len(tokens)])])
    assert (found.equal, found.within(0.02)) == (equal, good)


def test_text_that_parts_at_once_is_not_within_any_tolerance() -> None:
    assert not compare(PEFT, [Answer(["x", "b", "c"])]).within(9)


def test_what_comes_after_the_first_other_token_is_not_compared() -> None:
    assert compare(PEFT, [Answer(["a", "x", "c"], [-0.1, -9, -9])]).largest_difference == 0


def test_text_alone_has_no_log_probs() -> None:
    assert compare(PEFT, [Answer(["a", "b", "c"])]).largest_difference is None


def test_a_block_is_found_by_its_words_and_options_are_added_to_their_command() -> None:
    card = "```bash\nhf download x \\\n  --to y\nserve x\n```\n\n```python\nserve(1)\n```\n"
    code = block(card, "serve x")
    assert lines(code, [("serve", "--port 1")]) == ["hf download x    --to y", "serve x --port 1"]


def test_each_program_of_a_card_was_run_or_is_said_not_to_have_been() -> None:
    known = programs(Adapter(CONFIG, SHAPES, ["adapter_model.safetensors"], "me/adapter", "v1.0.0"), [])
    assert {one.name for one in known if one.proof is None} <= {*read_file()["not_run"]}
    assert {one.ran for one in known if one.name in read_file()["not_run"]} <= {"not tested"}
    assert not {*read_proofs()} & {*read_file()["not_run"]}


def test_each_result_is_within_its_tolerance() -> None:
    assert all((row["largest_difference"] or 0) <= row["tolerance"] for row in read_file()["programs"])


def test_the_docs_have_the_table_of_the_package() -> None:
    said = DOCS.read_text("utf-8").partition(BEGIN)[2].partition(END)[0]
    assert said.strip() == markdown(dict(read_file())).strip()
