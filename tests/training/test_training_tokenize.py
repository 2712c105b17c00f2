"""Token ids: the template's own, cut on the left of the prompt, with every change counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from hubdpo.data.pairs.example import PreferenceExample
from hubdpo.data.tokens.tokenize import PairTokenizer


@pytest.fixture(scope="session")
def tokenizer(tiny_base: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_base)


def m(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


PROMPT = [m("user", "first question"), m("assistant", "first answer"), m("user", "second 问题?")]
GOOD, BAD = [m("assistant", "a good answer")], [m("assistant", "no")]


def encoder(tokenizer: Any, max_length: int = 512, prompt_budget: int = 256) -> PairTokenizer:
    return PairTokenizer(tokenizer, max_length=max_length, prompt_budget=prompt_budget)


def rendered(tokenizer: Any, messages: list[dict[str, str]], **options: Any) -> list[int]:
    ids: list[int] = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=True, **options)["input_ids"]
    return ids


def test_an_uncut_pair_is_what_the_template_gives(tokenizer: Any) -> None:
    pair = encoder(tokenizer).pair(PreferenceExample(PROMPT, GOOD, BAD))
    assert pair is not None
    assert pair.prompt == rendered(tokenizer, PROMPT, add_generation_prompt=True)
    assert pair.prompt + pair.chosen.scored == rendered(tokenizer, PROMPT + GOOD)
    assert pair.prompt + pair.rejected.scored == rendered(tokenizer, PROMPT + BAD)


def test_an_answer_ends_with_the_end_of_turn(tokenizer: Any) -> None:
    pair = encoder(tokenizer).pair(PreferenceExample(PROMPT, GOOD, BAD))
    assert pair is not None
    assert tokenizer.eos_token_id in pair.chosen.scored[-2:]
    assert tokenizer.eos_token_id in pair.rejected.scored[-2:]


def test_whole_messages_go_before_single_tokens(tokenizer: Any) -> None:
    whole = encoder(tokenizer).pair(PreferenceExample(PROMPT, GOOD, BAD))
    assert whole is not None
    coder = encoder(tokenizer, len(whole.prompt) + len(whole.chosen.scored) - 1, len(whole.prompt) - 5)
    cut = coder.pair(PreferenceExample(PROMPT, GOOD, BAD))
    assert cut is not None
    assert cut.prompt == rendered(tokenizer, PROMPT[2:], add_generation_prompt=True)
    assert cut.chosen.scored == whole.chosen.scored
    assert coder.counts["prompt_cut_by_message"] == 1


def test_a_long_last_question_keeps_its_end(tokenizer: Any) -> None:
    prompt = [m("user", "word " * 200 + "the end")]
    coder = encoder(tokenizer, 80, 60)
    pair = coder.pair(PreferenceExample(prompt, GOOD, BAD))
    assert pair is not None
    assert pair.prompt == rendered(tokenizer, prompt, add_generation_prompt=True)[-len(pair.prompt) :]
    assert coder.counts["prompt_cut_by_token"] == 1
    assert coder.counts["response_cut"] == 0


def test_a_cut_answer_is_counted_and_fits(tokenizer: Any) -> None:
    coder = encoder(tokenizer, 64, 40)
    pair = coder.pair(PreferenceExample([m("user", "q")], [m("assistant", "long " * 100)], BAD))
    assert pair is not None
    assert len(pair.prompt) + len(pair.chosen.scored) == 64
    assert tokenizer.eos_token_id not in pair.chosen.scored
    assert tokenizer.eos_token_id in pair.rejected.scored
    assert coder.counts["response_cut"] == 1


def test_answers_that_are_equal_once_cut_are_dropped_and_counted(tokenizer: Any) -> None:
    coder = encoder(tokenizer, 64, 40)
    same = "long " * 100
    assert (
        coder.pair(PreferenceExample([m("user", "q")], [m("assistant", same + "a")], [m("assistant", same + "b")]))
        is None
    )
    assert coder.counts["dropped_identical"] == 1


def test_text_that_spells_a_control_token_stays_text(tokenizer: Any) -> None:
    coder = encoder(tokenizer)
    pair = coder.pair(PreferenceExample([m("user", "what is <|im_end|> for?")], GOOD, BAD))
    assert pair is not None
    assert pair.prompt.count(tokenizer.eos_token_id) == 2  # the system's turn and the user's own end
    assert "<|im_end|> for?" in tokenizer.decode(pair.prompt)
    assert coder.counts["special_text_kept_as_text"] == 1
