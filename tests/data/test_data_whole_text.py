"""Tokenizers that are not byte-level, and tags that are text: the ids are those of the rendered conversation."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import trl
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from hubdpo.artefacts.formats.messages import Message
from hubdpo.data.pairs.example import PreferenceExample
from hubdpo.data.tokens import encoder as encoding
from hubdpo.data.tokens.encoder import ChatEncoder
from hubdpo.data.tokens.pair import encode_pair, fit, measure
from hubdpo.data.tokens.tokenize import PairTokenizer

SHIPPED = Path(trl.__file__).parent / "chat_templates"
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% else %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
)
ZEPHYR = (
    "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + eos_token + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
MERGING = ZEPHYR.replace("eos_token", "'\n'")
"""Tags and ends that are text, and merge with what they enclose."""
TEMPLATES = {
    "mistral": MISTRAL,
    "zephyr": ZEPHYR,
    "no token at all": MERGING,
    "gemma": (SHIPPED / "gemma.jinja").read_text(encoding="utf-8"),
    "llama3": (SHIPPED / "llama3.jinja").read_text(encoding="utf-8"),
}
KINDS = ("metaspace", "prepend", "gemma", "strips")
TEXT = "hello world, it is low\n\n[INST] the user [/INST]\n<|user|>\nthe end\n<|assistant|>\n" * 3
PARTS = (
    "hello",
    " world",
    "it is low",
    "\n",
    "\n\n",
    " ",
    "\t",
    "名字",
    "😀",
    "e\u0301",
    "<|user|>",
    "user",
    "!\n",
    "]",
)
SPELT = (*PARTS, "</s>", "<s>", "<pad>", " </s> ")
CONTROL = ("<unk>", "<s>", "</s>", "<pad>")


def say(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def make_tokenizer(kind: str, template: str) -> Any:
    """BPE as SentencePiece trains it, in the ways in which transformers writes it: blanks are letters, bytes tokens."""
    raw = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    blanks = normalizers.Replace(" ", "▁")
    if kind == "metaspace":
        raw.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    elif kind == "gemma":
        raw.normalizer, raw.pre_tokenizer = blanks, pre_tokenizers.Split(" ", "merged_with_previous")
    else:
        raw.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), blanks])
    raw.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    letters = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=[*CONTROL, *letters], show_progress=False)
    raw.train_from_iterator(TEXT.split("\n\n"), trainer)
    made = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(raw.to_str()), unk_token="<unk>", bos_token="<s>", eos_token="</s>",
        pad_token="<pad>",
    )  # fmt: skip
    return with_flags(made, template, strips=kind == "strips")


def with_flags(made: Any, template: str, *, strips: bool) -> Any:
    """Leave the bytes tokens of the model alone, and let control tokens take the blanks after them, as Phi-3's do."""
    raw = Tokenizer(made.backend_tokenizer.model)
    raw.normalizer, raw.pre_tokenizer = made.backend_tokenizer.normalizer, made.backend_tokenizer.pre_tokenizer
    raw.decoder = made.backend_tokenizer.decoder
    raw.add_special_tokens([AddedToken(token, special=True, normalized=False, rstrip=strips) for token in CONTROL])
    names = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, **names)
    tokenizer.chat_template = TEMPLATES.get(template, template)
    return tokenizer


def rendered(tokenizer: Any, messages: list[Message], *, ask: bool = False) -> list[int]:
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=ask)
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


LETTERS = {"</s>": "\ue123", "<s>": "\ue124", "<pad>": "\ue125"}


def replaced(text: str, words: dict[str, str]) -> str:
    for old, new in words.items():
        text = text.replace(old, new)
    return text


def conversation(draw: random.Random, parts: tuple[str, ...]) -> tuple[list[Message], list[Message], list[Message]]:
    def text() -> str:
        return "".join(draw.choices(parts, k=draw.randint(1, 5)))

    prompt: list[Message] = []
    for _ in range(draw.randint(0, 2)):
        prompt += [say("user", text()), say("assistant", text())]
    return [*prompt, say("user", text())], [say("assistant", text())], [say("assistant", text())]


def common(*sequences: list[int]) -> int:
    pairs = enumerate(zip(*sequences, strict=False))
    return next((i for i, tokens in pairs if len(set(tokens)) > 1), min(map(len, sequences)))


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_ids_are_those_of_the_rendered_text(kind: str, template: str) -> None:
    tokenizer = make_tokenizer(kind, template)
    encoder = ChatEncoder(tokenizer)
    draw = random.Random(kind)
    for _ in range(30):
        prompt, *answers = conversation(draw, PARTS)
        asked = rendered(tokenizer, prompt, ask=True)
        whole = [rendered(tokenizer, prompt + answer) for answer in answers]
        pair = encode_pair(encoder, PreferenceExample(prompt, *answers))
        assert encoder.prompt(prompt) == asked
        assert [pair.prompt + pair.chosen.ids, pair.prompt + pair.rejected.ids] == whole
        assert len(pair.prompt) == common(asked, *whole)  # as in TRL
        assert pair.prompt.count(tokenizer.bos_token_id) == tokenizer.chat_template.count("bos_token")


@pytest.mark.parametrize("template", ["mistral", "zephyr"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_spells_a_control_token_is_text_and_all_else_is_as_rendered(kind: str, template: str) -> None:
    tokenizer = make_tokenizer(kind, template)
    encoder = ChatEncoder(tokenizer)
    draw = random.Random(kind)
    for _ in range(30):
        prompt, answer, _ = conversation(draw, SPELT)
        ids = encoder.prompt(prompt)[: len(encoder.prompt(prompt)) - encoder.answered(prompt, answer).replaced]
        ids = ids + encoder.answered(prompt, answer).ids
        said = tokenizer.convert_ids_to_tokens(ids)
        ended = sum(message["role"] == "assistant" or template == "zephyr" for message in prompt + answer)
        assert (said.count("<s>"), said.count("</s>"), said.count("<pad>")) == (template == "mistral", ended, 0)
        # letters that no token has, in place of the spelt tokens
        other = rendered(tokenizer, [say(m["role"], replaced(m["content"], LETTERS)) for m in prompt + answer])
        assert tokenizer.decode(ids) == replaced(tokenizer.decode(other), {v: k for k, v in LETTERS.items()})


def test_text_that_cannot_be_kept_apart_is_dropped() -> None:
    tokenizer = make_tokenizer("metaspace", "mistral")
    made = PairTokenizer(tokenizer, max_length=64, prompt_budget=32)
    answers = [say("assistant", "b")], [say("assistant", "c")]
    assert made.pair(PreferenceExample([say("user", "a \U000f0000 </s>")], *answers)) is None
    assert made.counts["dropped_special_text"] == 1
    assert made.pair(PreferenceExample([say("user", "a \U000f0000")], *answers)) is not None


@pytest.mark.parametrize("template", ["mistral", "zephyr", "gemma"])
@pytest.mark.parametrize("kind", KINDS)
def test_other_turns_inside_an_answer_are_read_and_not_scored(kind: str, template: str) -> None:
    tokenizer = make_tokenizer(kind, template)
    encoder = ChatEncoder(tokenizer)
    talk = [say("assistant", "hello"), say("user", "it is </s> low"), say("assistant", "the end")]
    found = encoder.answered([say("user", "world")], talk)
    edges = [0, *(edge for span in found.context for edge in span), len(found.ids)]
    first, between, last = (tokenizer.decode(found.ids[i:j]) for i, j in zip(edges, edges[1:], strict=False))
    assert "hello" in first and "low" not in first and "user" not in first and "INST" not in first
    assert "it is </s> low" in between and "hello" not in between and "the end" not in between
    assert "the end" in last and "INST" not in last and "assistant" not in last


@pytest.mark.parametrize("kind", ["metaspace", "prepend"])
def test_a_cut_prompt_has_the_ids_of_its_last_messages(kind: str) -> None:
    tokenizer = make_tokenizer(kind, "mistral")
    encoder = ChatEncoder(tokenizer)
    prompt = [say("user", "hello " * 30), say("assistant", "it is"), say("user", "so")]
    chosen, rejected = [say("assistant", "no")], [say("assistant", "yes, it is")]
    pair = encode_pair(encoder, PreferenceExample(prompt, chosen, rejected))
    cut = fit(encoder, pair, max_length=pair.longest - 1, prompt_budget=16)
    assert "prompt_cut_by_message" in cut.notes
    assert cut.prompt + cut.chosen.ids == rendered(tokenizer, prompt[2:] + chosen)
    assert cut.prompt + cut.rejected.ids == rendered(tokenizer, prompt[2:] + rejected)
    example = PreferenceExample(prompt=list(prompt), chosen=chosen, rejected=rejected)
    lengths = measure(example, encoder, max_length=pair.longest - 1, over_length="truncate")
    assert example.prompt == prompt[2:]
    assert (lengths.prompt, lengths.chosen) == (len(cut.prompt), len(cut.chosen.ids))
    short = fit(encoder, pair, max_length=len(cut.prompt) + 1, prompt_budget=len(cut.prompt))
    assert (short.prompt, short.chosen.ids) == (cut.prompt, cut.chosen.ids[:1])


def test_merges_that_reach_across_a_short_message_are_made_again() -> None:
    vocabulary = {"a": 0, "b": 1, "aa": 2}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE(vocabulary, [("a", "a")])))
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    encoder = ChatEncoder(tokenizer)
    prompt = [say("user", "aaaaa"), say("assistant", "aa"), say("user", "aa")]
    pair = encode_pair(encoder, PreferenceExample(prompt, [say("assistant", "ab")], [say("assistant", "bb")]))
    assert (pair.chosen.ids, pair.rejected.ids) == ([2, 1], [0, 1, 1])
    cut = fit(encoder, pair, max_length=6, prompt_budget=3)
    assert (cut.prompt, cut.chosen.ids, cut.rejected.ids) == ([2], [0, 1], [1, 1])


def test_a_tokenizer_that_does_not_cut_after_all_is_encoded_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "cuts_at_added_tokens", lambda tokenizer: True)
    tokenizer = make_tokenizer("metaspace", "zephyr")
    encoder = ChatEncoder(tokenizer)
    prompt, answer = [say("user", "hello")], [say("assistant", "it is")]
    pair = encode_pair(encoder, PreferenceExample(prompt, answer, answer))
    assert pair.prompt + pair.chosen.ids == rendered(tokenizer, prompt + answer)


def test_plain_text_is_rendered_once_and_encoded_thrice() -> None:
    tokenizer = make_tokenizer("metaspace", "mistral")
    encoder = ChatEncoder(tokenizer)
    prompt, answers = [say("user", "hello")], [[say("assistant", text)] for text in ("it is", "no")]
    encode_pair(encoder, PreferenceExample(prompt, *answers))
    calls: list[Any] = []
    tokenizer.apply_chat_template = lambda *args, **kwargs: calls.append("render") or ""
    encode = tokenizer._encode_plus
    tokenizer._encode_plus = lambda *args, **kwargs: calls.append("encode") or encode(*args, **kwargs)
    encode_pair(encoder, PreferenceExample([say("user", "world")], *answers))
    assert calls == ["encode"] * 3


def test_a_template_that_refuses_a_system_message_drops_that_pair_alone() -> None:
    made = PairTokenizer(make_tokenizer("gemma", "gemma"), max_length=64, prompt_budget=32)
    asked, answers = [say("user", "hello")], ([say("assistant", "it")], [say("assistant", "is")])
    assert made.pair(PreferenceExample([say("system", "so"), *asked], *answers)) is None
    assert made.counts["dropped_template_refuses"] == 1
    assert made.pair(PreferenceExample(asked, *answers)) is not None
