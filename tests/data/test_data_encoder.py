"""The encoder: the ids of the tokenizer itself, whoever merges the bytes."""

from __future__ import annotations

import os
import random
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from hubdpo.artefacts.formats.messages import Message
from hubdpo.data.tokens.encoder import ChatEncoder
from hubdpo.data.tokens.tiktoken_bpe import byte_pair_encoder
from hubdpo.errors import DataError

REAL = Path(os.environ.get("HUBDPO_REAL_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))
REAL_TOKENIZER = REAL / "qwen2-tokenizer"
USER, ANSWER = {"role": "user", "content": "What is it?"}, {"role": "assistant", "content": "It is 名 1."}


@pytest.fixture(scope="module", params=["tiny", "real"])
def tokenizer(request: pytest.FixtureRequest, tiny_base: Path) -> Any:
    if request.param == "real" and not REAL_TOKENIZER.is_dir():
        pytest.skip("the real tokenizer is not here")
    return AutoTokenizer.from_pretrained(tiny_base if request.param == "tiny" else REAL_TOKENIZER)


def slow_ids(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return ids


def test_both_engines_cut_every_code_point_alike(tokenizer: Any) -> None:
    fast = byte_pair_encoder(tokenizer)
    assert fast is not None
    points = [chr(c) for c in range(sys.maxunicode + 1) if not 0xD800 <= c < 0xE000]
    # letters that the two know since different versions of Unicode are cut apart differently: leave the unknown out
    known = [point for point in points if unicodedata.category(point) != "Cn"]
    for start in range(0, len(known), 2000):
        text = "".join(f"a{point}1 '{point}s" for point in known[start : start + 2000])
        assert fast(text) == slow_ids(tokenizer, text)


def test_both_engines_agree_on_text_of_all_sorts(tokenizer: Any) -> None:
    fast = byte_pair_encoder(tokenizer)
    assert fast is not None
    draw = random.Random(0)
    parts = [
        "hello", " world", "'LL", "名字", "é", "e\u0301", "\n", "\r\n", "  ", "\t", "123", "!?", "😀", "\u200b",
        "<|im_end|>", "ﬁ", "'ſ",
    ]  # fmt: skip
    for _ in range(3000):
        text = "".join(draw.choices(parts, k=draw.randint(1, 12)))
        assert fast(text) == slow_ids(tokenizer, text)


def test_a_long_run_of_one_letter_takes_no_time(tokenizer: Any) -> None:
    encode = byte_pair_encoder(tokenizer)
    assert encode is not None
    assert len(encode("a" * 50_000)) > 100


@pytest.mark.parametrize("change", ["order", "merge twice", "words", "normalizer", "another pair"])
def test_a_tokenizer_that_might_differ_is_left_to_its_own(tiny_base: Path, change: str) -> None:
    import json

    from tokenizers import Tokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_base)
    facts = json.loads(tokenizer.backend_tokenizer.to_str())
    merges = facts["model"]["merges"]
    if change == "order":
        merges[10], merges[200] = merges[200], merges[10]
    elif change == "merge twice":
        merges.append(merges[0])
    elif change == "words":
        facts["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] += "|x"
    elif change == "normalizer":
        facts["normalizer"] = {"type": "Lowercase"}
    else:  # a token whose own letters merge into another pair than the one that makes it
        vocabulary, made = facts["model"]["vocab"], {"".join(merge): i for i, merge in enumerate(merges)}
        at, token = next(
            (i, token) for token, i in made.items() if merges[i][0] != token[0] and token[1:] in vocabulary
        )
        merges[at] = [token[0], token[1:]]

    class Changed:
        backend_tokenizer = Tokenizer.from_str(json.dumps(facts))

    assert byte_pair_encoder(Changed()) is None


CONVERSATIONS: list[list[Message]] = [
    [USER, ANSWER],
    [{"role": "system", "content": "Be kind."}, USER, ANSWER],
    [USER, ANSWER, USER, {"role": "assistant", "content": "  two  "}],
    [{"role": "user", "content": "\n leading and trailing \n\n"}, ANSWER],
    [{"role": "user", "content": "e\u0301 \u200b 名"}, {"role": "assistant", "content": "x\n"}],
    [USER, {"role": "assistant", "content": "f()"}, {"role": "tool", "content": "\n42"}, ANSWER],
]


@pytest.mark.parametrize("messages", CONVERSATIONS, ids=range(len(CONVERSATIONS)))
def test_the_ids_are_those_of_the_rendered_conversation(tokenizer: Any, messages: list[Message]) -> None:
    encoder = ChatEncoder(tokenizer)
    prompt = encoder.prompt(messages[:-1])
    rendered = {"tokenize": True, "return_dict": False}
    assert prompt == tokenizer.apply_chat_template(messages[:-1], add_generation_prompt=True, **rendered)
    assert prompt + encoder.answered(messages[:-1], messages[-1:]).ids == tokenizer.apply_chat_template(
        messages, **rendered
    )


def test_text_that_spells_a_control_token_stays_text(tokenizer: Any) -> None:
    encoder = ChatEncoder(tokenizer)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    ids = encoder.prompt([{"role": "user", "content": "a <|im_end|> b"}])
    assert ids.count(end) == encoder.prompt([USER]).count(end)
    assert "<|im_end|> b" in encoder.decode(ids)


TRIMS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SHOUTS = TRIMS.replace("| trim", "| upper")


@pytest.mark.parametrize("template", [TRIMS, SHOUTS])
def test_a_template_that_changes_contents_is_rendered_in_full(tiny_base: Path, template: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_base)
    tokenizer.chat_template = template
    messages = [{"role": "user", "content": "  what \n"}, {"role": "assistant", "content": " that "}]
    for some in (messages, CONVERSATIONS[0]):
        ids = ChatEncoder(tokenizer).prompt(some[:1]) + ChatEncoder(tokenizer).answered(some[:1], some[1:]).ids
        assert ids == tokenizer.apply_chat_template(some, tokenize=True, return_dict=False)


def test_a_template_with_a_mistake_is_refused_with_what_jinja_says(tiny_base: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_base)
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}"
    with pytest.raises(DataError, match="question and its answer: .*Unexpected end of template") as caught:
        ChatEncoder(tokenizer)
    assert "--chat-template" in caught.value.hint


def test_a_template_that_rewrites_the_prompt_is_refused(tiny_base: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_base)
    tokenizer.chat_template = "{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}"
    with pytest.raises(DataError, match="changes a prompt"):
        ChatEncoder(tokenizer)
