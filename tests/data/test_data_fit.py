"""A pair is cut to a limit: for small numbers of every length, every limit and every budget that it can have."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from types import SimpleNamespace
from typing import Any

import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from hubdpo.data.pairs.example import PreferenceExample
from hubdpo.data.tokens.encoder import Answer, ChatEncoder
from hubdpo.data.tokens.pair import EncodedPair, encode_pair, fit
from hubdpo.data.tokens.tokenize import PairTokenizer

LIMITS = [(most, budget) for most in range(2, 8) for budget in range(1, most)]
FAST: Any = SimpleNamespace(fast=True, prompt=lambda messages, tools: [*range(sum(map(_size, messages)))])
"""An encoder of messages that are digits: so many ids each."""


def _size(message: dict[str, str]) -> int:
    return int(message["content"])


def say(role: str, content: object) -> dict[str, str]:
    return {"role": role, "content": str(content)}


def pairs() -> Iterator[EncodedPair]:
    """Pairs whose prompt is one message or two turns, and whose answers have one token and more."""
    for first, second, chosen, rejected in product((0, 1, 4), (1, 2, 5), (1, 3, 6), (1, 2, 7)):
        turns = [say("user", first), say("assistant", 0)] if first else []
        example = PreferenceExample([*turns, say("user", second)], [], [])
        sides = (Answer([*range(100, 100 + count)]) for count in (chosen, rejected))
        yield EncodedPair(FAST.prompt(example.prompt, ""), *sides, 0, (), example)


@pytest.mark.parametrize(("most", "budget"), LIMITS)
def test_no_sequence_is_longer_than_the_limit_and_none_loses_its_prompt_or_its_answer(most: int, budget: int) -> None:
    for pair in pairs():
        cut = fit(FAST, pair, max_length=most, prompt_budget=budget)
        assert cut.longest <= most
        assert min(map(len, (cut.prompt, cut.chosen.ids, cut.rejected.ids))) >= 1


@pytest.mark.parametrize(("most", "budget"), LIMITS)
def test_answers_are_cut_at_their_end_alone_and_to_all_the_room_there_is(most: int, budget: int) -> None:
    for pair in pairs():
        cut = fit(FAST, pair, max_length=most, prompt_budget=budget)
        room = most - len(cut.prompt)
        assert (cut.chosen.ids, cut.rejected.ids) == (pair.chosen.ids[:room], pair.rejected.ids[:room])


@pytest.mark.parametrize(("most", "budget"), LIMITS)
def test_what_was_cut_is_noted(most: int, budget: int) -> None:
    for pair in pairs():
        cut = fit(FAST, pair, max_length=most, prompt_budget=budget)
        assert any(note.startswith("prompt_cut") for note in cut.notes) == (len(cut.prompt) < len(pair.prompt))
        assert ("response_cut" in cut.notes) == (cut.chosen != pair.chosen or cut.rejected != pair.rejected)


@pytest.mark.parametrize(("most", "budget"), [(1, 0), (1, 1), (8, 0), (8, -1), (8, 8), (8, 9), (0, 0), (-1, -2)])
def test_a_budget_that_leaves_no_token_of_prompt_or_answers_is_refused(most: int, budget: int) -> None:
    with pytest.raises(ValueError, match="leaves no room"):
        fit(FAST, next(pairs()), max_length=most, prompt_budget=budget)


@pytest.fixture(scope="module")
def merging() -> PreTrainedTokenizerFast:
    """A tokenizer whose merges reach across messages, so that what the answers replace depends on all before them."""
    vocabulary = {"a": 0, "b": 1, "aa": 2}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE(vocabulary, [("a", "a")])))
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    return tokenizer


def rows() -> Iterator[PreferenceExample]:
    for first, second, chosen, rejected in product(("aa", "baaa"), ("aa", "aaaa"), ("a", "aab"), ("b", "aaab")):
        turns = [say("user", first), say("assistant", "a"), say("user", second)]
        yield PreferenceExample(turns, [say("assistant", chosen)], [say("assistant", rejected)])


@pytest.mark.parametrize(("most", "budget"), LIMITS)
def test_answers_that_replace_other_ids_after_a_shorter_prompt_fit_as_well(
    merging: PreTrainedTokenizerFast, most: int, budget: int
) -> None:
    encoder = ChatEncoder(merging)
    for row in rows():
        cut = fit(encoder, encode_pair(encoder, row), max_length=most, prompt_budget=budget)
        assert cut.longest <= most
        assert min(len(cut.chosen.ids), len(cut.rejected.ids)) >= 1


@pytest.mark.parametrize(("most", "budget"), LIMITS)
def test_every_row_is_a_pair_or_counted_as_dropped(merging: PreTrainedTokenizerFast, most: int, budget: int) -> None:
    made = PairTokenizer(merging, max_length=most, prompt_budget=budget)
    kept = [pair for row in rows() if (pair := made.pair(row)) is not None]
    dropped = sum(count for name, count in made.counts.items() if name.startswith("dropped_"))
    assert made.counts["pairs"] == len(kept)
    assert made.counts["rows"] == len(kept) + dropped == len([*rows()])
