"""What else an adapter changed: likelihood, lengths, endings, languages and refusals, each against numbers by hand."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path

import numpy as np
import pytest

from hubdpo.artefacts.manifests.answered import ANSWERED_FILE, from_lines, to_lines
from hubdpo.artefacts.manifests.evaluation import EvalReport
from hubdpo.artefacts.manifests.health import AnswerHealth, Speed
from hubdpo.data.language import language_of
from hubdpo.errors import ArtefactError
from hubdpo.evaluation import refusals
from hubdpo.evaluation.answers import Answer, Answers, Prompt, Took
from hubdpo.evaluation.health import health_of_answers, likelihood_of, side_by_side, speed_of
from hubdpo.evaluation.refusals import list_version, refuses
from hubdpo.model.sampling import Sampling

ENGLISH = "Could you please tell me how to keep basil alive?"
SAMPLING = Sampling(max_new_tokens=8, stops=(1,), do_sample=True, temperature=0.7)


def health(*rows: tuple[str, str, str], tokens: tuple[tuple[int, int], ...] = ()) -> AnswerHealth:
    """Compare answers; a row is (prompt, answer of the base, answer of the adapter)."""
    lengths = tokens or ((8, 8),) * len(rows)
    prompts = [Prompt(row, ({"role": "user", "content": prompt},)) for row, (prompt, _, _) in enumerate(rows)]
    base, adapter = (
        [Answer(row, each[side], lengths[row][side - 1], lengths[row][side - 1] < 8) for row, each in enumerate(rows)]
        for side in (1, 2)
    )
    answers = Answers(prompts, {"base": base, "adapter": adapter}, SAMPLING)
    return health_of_answers(answers, side_by_side(answers))


def test_the_perplexity_is_that_of_all_tokens() -> None:
    found = likelihood_of(
        {
            "chosen_tokens": np.array([2, 8]), "rejected_tokens": np.array([1, 1]),
            "base_chosen": np.array([-4.0, -8.0]), "adapter_chosen": np.array([-2.0, -13.0]),
        }
    )  # fmt: skip
    assert (found.pairs, found.tokens) == (2, 10)
    assert math.exp(found.base.value) == pytest.approx(math.exp(12 / 10))
    assert found.adapter.value == pytest.approx(15 / 10)
    # either pair alone is among the draws: (2 - 4) / 2 and (13 - 8) / 8
    assert (found.rise.value, found.rise.low, found.rise.high) == pytest.approx((0.3, -1.0, 0.625))


def test_lengths_are_compared_on_the_same_prompts() -> None:
    found = health(("a", "x", "y"), ("b", "x", "x"), ("c", "x", "z"), tokens=((1, 3), (2, 4), (6, 8)))
    assert (found.lengths.base.value, found.lengths.adapter.value) == (3, 5)
    assert (found.lengths.base_median, found.lengths.adapter_median) == (2, 4)
    # each answer is two tokens longer, so nothing is left to chance
    assert (found.lengths.rise.low, found.lengths.rise.high) == (2, 2)
    assert found.equal == 1


def test_answers_that_do_not_end_are_counted() -> None:
    found = health(*[("a", "x", "y")] * 4, tokens=((1, 8), (8, 8), (1, 8), (1, 8)))
    assert (found.unended.base.value, found.unended.adapter.value) == (0.25, 1)
    assert (found.unended.only_base, found.unended.only_adapter) == (0, 3)
    assert found.unended.mcnemar_p == 0.25


def test_the_speed_is_that_of_the_answers_that_were_timed_on_one_machine() -> None:
    here, there = (Took(seconds=2.0, at_once=at_once, device=name) for at_once, name in ((2, "L4"), (4, "H100")))
    last = here.model_copy(update={"at_once": 1})
    timed = [
        Answer(0, "", 10, True, here),
        Answer(1, "", 8, False, here),
        Answer(2, "", 9, True, there),
        Answer(3, "", 3, True, last),
    ]
    speed = speed_of([*timed, Answer(4, "", 7, True)])
    assert speed == Speed(tokens=10 + 1 + 8 + 3 + 1, seconds=6.0, at_once=2, device="L4")
    assert speed_of([Answer(4, "", 7, True)]) is None


def test_prompts_that_were_not_asked_are_counted() -> None:
    prompts = [Prompt(row, ({"role": "user", "content": "a"},)) for row in range(3)]
    answered = [Answer(1, "x", 1, True)]
    answers = Answers(prompts, {"base": answered, "adapter": answered}, SAMPLING)
    found = health_of_answers(answers, side_by_side(answers))
    assert (found.prompts, found.not_asked) == (1, 2)
    assert (found.drawing.temperature, found.drawing.do_sample) == (0.7, True)


def test_another_language_than_that_of_the_prompt_is_counted() -> None:
    pytest.importorskip("py3langid")
    english, german = "Put it on a sunny windowsill, and water it often.", "Stell es auf eine sonnige Fensterbank."
    found = health(
        (ENGLISH, english, german), (ENGLISH, english, english), ("42?", english, german), (ENGLISH, "Yes.", german)
    )
    assert found.other_language is not None
    assert (found.other_language.prompts, found.other_language.only_adapter, found.other_language.base.value) == (
        2,
        1,
        0,
    )
    assert [(each.prompt, each.answer, each.times) for each in found.language_changes] == [("en", "de", 1)]
    assert health(("42?", english, german)).other_language is None


@pytest.mark.parametrize(
    ("text", "language"),
    [
        (ENGLISH, "en"),
        ("Stell das Basilikum auf eine sonnige Fensterbank.", "de"),
        ("茶是一种古老的饮料，起源于中国。", "zh"),
        ("お茶はとても古い飲み物です。中国から来ました。", "ja"),
        ("Ja, das geht gut.", None),
        ("```\n# the list of words is printed to the screen, one after another\n```", None),
        ("1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17", None),
    ],
)
def test_the_language_of_a_text_is_told_where_it_is_sure(text: str, language: str | None) -> None:
    pytest.importorskip("py3langid")
    assert language_of(text) == language


@pytest.mark.parametrize(
    ("text", "is_refusal"),
    [
        ("I'm sorry, but I can't help with that.", True),
        ("I’m sorry, but I can’t help with that.", True),
        ("That is a hard one. I cannot provide medical advice.", True),
        ("I'm unable\nto answer this.", True),
        ("抱歉，我无法回答这个问题。", True),
        ("Es tut mir leid, aber ich kann diese Frage nicht beantworten.", True),
        ("I can't believe it! Gladly: put it in water.", False),
        ("Put it in water. Then let it dry. I cannot provide more than that.", False),
        ("You can say: I'm sorry, but I can't help.", False),
        ("", False),
    ],
)
def test_refusals_are_told_by_their_beginning(text: str, is_refusal: bool) -> None:
    assert refuses(text) is is_refusal


def test_refusals_are_counted_with_the_version_of_the_list() -> None:
    found = health(("a", "Gladly.", "I cannot help."), ("b", "I cannot help.", "I cannot help."))
    assert (found.refusals.base.value, found.refusals.adapter.value, found.refusals.only_adapter) == (0.5, 1, 1)
    assert found.refusal_list == list_version() == 1


def test_the_list_of_refusals_is_written_as_answers_are_read() -> None:
    found = tomllib.loads(Path(refusals.__file__).with_name("refusals.toml").read_text(encoding="utf-8"))
    for language, beginnings in found["beginnings"].items():
        assert len(set(beginnings)) == len(beginnings), language
        for each in beginnings:
            assert refuses(f"{each} ..."), f"{language}: {each}"


def test_answers_side_by_side_are_read_as_they_were_written() -> None:
    tool = '[{"type":"function","function":{"name":"look","parameters":{}}}]'
    calls = {"role": "assistant", "content": "", "extra": '{"content":null,"tool_calls":[{"name":"look"}]}'}
    prompt = Prompt(3, ({"role": "user", "content": ENGLISH}, calls, {"role": "tool", "content": "42"}), tool)
    answers = Answers([prompt], {"base": [Answer(3, "No.", 2, True)], "adapter": [Answer(3, "", 0, True)]}, SAMPLING)
    written = side_by_side(answers)
    assert from_lines(to_lines(written)) == written
    assert written[0].prompt[1] == {"role": "assistant", "content": None, "tool_calls": [{"name": "look"}]}
    assert written[0].tools[0]["function"]["name"] == "look"
    with pytest.raises(ArtefactError, match=r"answered.jsonl`, line 2: these are not two answers to a prompt"):
        from_lines(to_lines(written) + b'{"row": 1}\n')


def test_an_evaluation_reports_health(run_dir: Path) -> None:
    report, pairs = EvalReport.read(run_dir / "eval.json"), (run_dir / "eval_pairs.jsonl").read_bytes().splitlines()
    health = report.health
    assert health is not None
    assert health.likelihood is not None
    assert health.divergence is not None
    assert health.answers is not None
    assert health.weights == report.samples_weights == "float32"
    assert (health.likelihood.pairs, health.divergence.pairs) == (len(pairs), len(pairs))
    assert health.divergence.value > 1e-6
    assert (health.answers.prompts, health.answers.drawing.max_new_tokens) == (4, 12)
    answered = from_lines((run_dir / ANSWERED_FILE).read_bytes())
    assert [each.base.tokens for each in answered] == [12] * 4  # random weights hardly ever end an answer
