"""tiktoken in place of byte-level BPE: every family whose pre-tokenizer is known, and the proof's conditions."""

from __future__ import annotations

import json
import random
import sys
import unicodedata
from typing import Any

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from hubdpo.data.tokens import split_patterns
from hubdpo.data.tokens.tiktoken_bpe import byte_pair_encoder

BYTE_LEVEL = pre_tokenizers.ByteLevel(add_prefix_space=False)
DIGITS = pre_tokenizers.Digits(individual_digits=True)
TEXT = (
    "The Model's answer isn't LLAMA's: it's 1234 (or 56,78)!\n\n  def f(x):\r\n\treturn x/2  # nO, I'LL see\n "
    "名字 naïve e\u0301te\u0301 \u0915\u094d\u0937 \u00a0 $%&/\n\n\n camelCase ABCdef 2nd \u0662\u00b2 \u3042\u3044"
)
PARTS = (
    *TEXT.split(" "), " ", "  ", "\n", "\r\n", "\t", "\u3000", "'LL", "'\u017f", "\u200b", "\ufb01", "<|end|>",
    "<think>", "\x04", "\U00040000", "\U0010ffff", "/\n", "123456", " 7", "\u0903",
)  # fmt: skip


def by(pattern: str, behavior: str = "isolated") -> pre_tokenizers.Sequence:
    split = pre_tokenizers.Split(Regex(pattern), behavior, invert=behavior == "removed")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


FAMILIES: dict[str, pre_tokenizers.PreTokenizer] = {
    "gpt2": BYTE_LEVEL,
    "smollm2": pre_tokenizers.Sequence([DIGITS, BYTE_LEVEL]),
    "qwen2": by(split_patterns.QWEN2),
    "qwen3.5": by(split_patterns.QWEN35),
    "llama3": by(split_patterns.LLAMA3),
    "llama3, cut by what is kept": by(split_patterns.LLAMA3, "removed"),
    "gpt-oss": by(split_patterns.O200K),
    "mistral nemo": by(split_patterns.TEKKEN),
}


def trained(family: str, *, letters: list[str] | None = None) -> Tokenizer:
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer, raw.decoder = FAMILIES[family], decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet() if letters is None else letters
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    raw.train_from_iterator([TEXT] * 3, trainer)
    raw.add_special_tokens([AddedToken("<|end|>", special=True)])
    raw.add_tokens([AddedToken("<think>", special=False, normalized=False)])
    return raw


def with_all_pairs(raw: Tokenizer) -> Tokenizer:
    """The same as those of Llama 3: every two tokens that make one are a merge, and a word that is a token stays."""
    facts = json.loads(raw.to_str())
    vocabulary, merges = facts["model"]["vocab"], []
    for token in sorted(vocabulary, key=vocabulary.__getitem__):
        cuts = [(token[:at], token[at:]) for at in range(1, len(token))]
        merges += [pair for pair in sorted(cuts) if all(part in vocabulary for part in pair)]
    facts["model"] |= {"merges": merges, "ignore_merges": True}
    return Tokenizer.from_str(json.dumps(facts))


def of(raw: Tokenizer) -> Any:
    return PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|end|>")


def assert_same(tokenizer: Any, *, rounds: int = 1500) -> None:
    fast = byte_pair_encoder(tokenizer)
    assert fast is not None
    draw = random.Random(0)
    for _ in range(rounds):
        text = "".join(draw.choices(PARTS, k=draw.randint(1, 12)))
        assert fast(text) == tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]


@pytest.mark.parametrize("family", FAMILIES)
def test_both_engines_give_the_same_ids(family: str) -> None:
    assert_same(of(trained(family)))


@pytest.mark.parametrize("family", FAMILIES)
def test_both_engines_cut_every_code_point_alike(family: str) -> None:
    tokenizer = of(trained(family))
    fast = byte_pair_encoder(tokenizer)
    assert fast is not None
    points = [chr(c) for c in range(sys.maxunicode + 1) if not 0xD800 <= c < 0xE000]
    # letters that the two know since different versions of Unicode are cut apart differently: leave the unknown out,
    # and of private use and of ideographs, which all are alike, take a few
    known = [p for p in points if unicodedata.category(p) not in ("Cn", "Co", "Lo")] + points[0x4E00:0x4E10]
    known += [p for p in points[:0x4E00] if unicodedata.category(p) == "Lo"] + points[0xE000:0xE010]
    for start in range(0, len(known), 2000):
        text = "".join(f"a{p}1 '{p}s A{p}b  {p}{p} \n{p}/\n" for p in known[start : start + 2000])
        assert fast(text) == tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]


@pytest.mark.parametrize("family", ["llama3", "gpt-oss"])
def test_a_vocabulary_with_every_pair_as_a_merge_is_the_same(family: str) -> None:
    raw = with_all_pairs(trained(family))
    assert json.loads(raw.to_str())["model"]["ignore_merges"]
    assert_same(of(raw))


def test_a_word_that_no_merge_reaches_is_a_token_only_as_a_whole() -> None:
    facts = json.loads(with_all_pairs(trained("llama3")).to_str())
    facts["model"]["vocab"]["zqxzqx"] = 1000
    tokenizer = of(Tokenizer.from_str(json.dumps(facts)))
    fast = byte_pair_encoder(tokenizer)
    assert fast is not None and fast("zqxzqx") == [1000]
    for text in ("zqxzqx", "zqxzqxz", " zqxzqx", "azqxzqx"):
        assert fast(text) == tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("ignores", [True, False])
def test_a_token_of_two_ids_that_no_merge_joins_is_left_to_tokenizers(ignores: bool) -> None:
    facts = json.loads(trained("llama3").to_str())
    facts["model"]["ignore_merges"] = ignores
    facts["model"]["vocab"]["zq"] = 1000
    encode = byte_pair_encoder(of(Tokenizer.from_str(json.dumps(facts))))
    assert (encode is None) is ignores  # without, no text becomes that token
    assert encode is None or encode("zq") == encode("z") + encode("q")


def test_a_vocabulary_without_some_bytes_is_the_same() -> None:
    letters = [letter for letter in pre_tokenizers.ByteLevel.alphabet() if letter not in ("\u0104", "\u00f1", "\u00f4")]
    tokenizer = of(trained("smollm2", letters=letters))
    assert tokenizer("a\x04b", add_special_tokens=False)["input_ids"] == tokenizer("ab")["input_ids"]
    assert_same(tokenizer)


@pytest.mark.parametrize("change", ["prefix space", "three digits", "words", "twice"])
def test_an_unknown_cutter_is_left_to_tokenizers(change: str) -> None:
    digits = pre_tokenizers.Digits(individual_digits=False)
    changed = {
        "prefix space": pre_tokenizers.ByteLevel(add_prefix_space=True),
        "three digits": pre_tokenizers.Sequence([digits, BYTE_LEVEL]),
        "words": by(split_patterns.LLAMA3 + "|x"),
        "twice": pre_tokenizers.Sequence([DIGITS, DIGITS, BYTE_LEVEL]),
    }
    raw = trained("gpt2")
    raw.pre_tokenizer = changed[change]
    assert byte_pair_encoder(of(raw)) is None


def test_a_special_token_that_is_normalised_stands_alone_where_nothing_is() -> None:
    raw = trained("gpt2")
    raw.add_special_tokens([AddedToken("<|eos|>", special=True, normalized=True)])
    assert_same(of(raw), rounds=100)
    raw.normalizer = normalizers.NFC()
    assert byte_pair_encoder(of(raw)) is None
