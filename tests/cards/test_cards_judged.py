"""What a card says of answers that a judge compared, and which answers it quotes."""

from __future__ import annotations

from typing import Any

import pytest

from hubdpo.artefacts.manifests.evaluation import Quote, Quoted
from hubdpo.artefacts.manifests.judged import Judged, PerModel, Rate, Rubric
from hubdpo.cards.model.judged import judged_line, judged_sentences
from tests.cards.made import adapter_card, findings_in, report


def judged(**changes: Any) -> Judged:
    values: dict[str, Any] = {
        "model": "judge-70b", "served": "judge-70b-0426", "host": "api.example.com", "date": "2026-11-28",
        "rubric": Rubric(name="helpful", version=1, sha256="a" * 64), "weights": "bfloat16", "prompts": 32, "seed": 0,
        "wins": 15, "losses": 8, "ties": 7, "equal": 2, "order_decided": 3, "unparsed": 1, "refused": 1,
        "win_rate": Rate(value=0.6167, low=0.45, high=0.76), "sign_test_p": 0.21,
        "length_controlled": Rate(value=0.55, low=0.36, high=0.73), "longer": 0.7, "mean_tokens_longer": 12.5,
        "order_agreement": 0.9, "first_place": 0.55, "empty": PerModel(base=0, adapter=1),
        "refusals": PerModel(base=4, adapter=2), "cut": 1, "verdicts": 58, "asked_again": 3, "prompt_tokens": 41_000,
        "completion_tokens": 2_300,
    }  # fmt: skip
    return Judged(**values | changes)


def test_a_card_shows_the_win_rates_beside_what_they_are_worth() -> None:
    text = adapter_card(evaluation=report(judged=judged()))
    assert "| win rate of the adapter, a tie being half a win | 61.7 % (45.0–76.0) |" in text
    assert "| … at equal length | 55.0 % (36.0–73.0) |" in text
    assert "| verdicts for the answer in the first place | 55.0 % |" in text
    assert "with the generation settings of the base model, loaded in bfloat16." in " ".join(text.split())
    by = "by `judge-70b` (its server says `judge-70b-0426`) on api.example.com, by the rubric `helpful`, version 1"
    assert by in " ".join(text.split())
    assert "p = 0.21. That is not significant" in text
    assert "Left out: 1 prompt whose verdict could not be read and 1 prompt that the judge's server refused." in text
    assert "58 verdicts, 3 of them asked for twice: 41,000 tokens asked and 2,300 answered." in text
    assert not findings_in(text)


def test_a_card_without_a_judge_says_nothing_of_one() -> None:
    text = adapter_card(evaluation=report())
    assert "judge" not in text and "### Prompts and answers" not in text


def test_nothing_that_was_judged_is_no_rate() -> None:
    nothing = judged(win_rate=None, length_controlled=None, sign_test_p=None, unparsed=32, prompt_tokens=None)
    assert "| win rate of the adapter, a tie being half a win | – |" in adapter_card(evaluation=report(judged=nothing))
    assert judged_sentences(nothing)[-1].endswith("; the server did not count the tokens.")


def test_the_terminal_has_it_in_one_line() -> None:
    assert judged_line(judged()) == (
        "judged by judge-70b: the adapter wins 61.7 % (45.0–76.0) of 30 prompts, ties by half; at equal length "
        "55.0 % (36.0–73.0); both orders agree on 90.0 %"
    )
    assert judged_line(judged(win_rate=None)) == "judge-70b gave no verdict on 32 prompts"


def test_lengths_that_tell_nothing_are_named() -> None:
    assert "The lengths of these answers do not tell" in judged_sentences(judged(length_controlled=None))[1]


def test_names_of_a_judge_cannot_change_the_card() -> None:
    strange = judged(model="a`|b", served="<img>", host="[x](y)", rubric=Rubric(name="`#|", sha256="a" * 64))
    assert "compared by `a b` (its server says `img`) on x (y), by the rubric `#`" in " ".join(
        adapter_card(evaluation=report(judged=strange)).split()
    )


@pytest.mark.parametrize("outcome", ["adapter", None])
def test_quotes_stand_in_the_card_where_the_report_has_them(outcome: Any) -> None:
    quote = Quote(prompt="[user]\nTell me ``` something", base="", adapter="# Sure", outcome=outcome)
    text = adapter_card(evaluation=report(quoted=Quoted(of=32, seed=0, weights="bfloat16", quotes=[quote])))
    assert "1 of the 32 prompts that both models answered, drawn by chance" in text
    assert "````text\n[user]\nTell me ``` something\n\n[base] (empty answer)\n\n[adapter] # Sure" in text
    assert ("[judge] the adapter's answer is better" in text) == (outcome is not None)
    assert not findings_in(text)
