"""Ids are those that the tokenizer gives to what the chat template writes: every Qwen template that TRL ships."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import trl
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from hubdpo.artefacts.formats.messages import Message
from hubdpo.data.pairs.example import PreferenceExample
from hubdpo.data.tokens import encoder as encoding
from hubdpo.data.tokens.encoder import ChatEncoder
from hubdpo.data.tokens.pair import EncodedPair, encode_pair, fit
from hubdpo.data.tokens.split_patterns import QWEN2
from hubdpo.data.tokens.tiktoken_bpe import byte_pair_encoder
from hubdpo.data.tokens.tokenize import PairTokenizer
from hubdpo.errors import ConfigError
from hubdpo.model.tokenizer.chat_template import content_rules, with_template_kwargs

TEMPLATES = {path.stem: path for path in sorted((Path(trl.__file__).parent / "chat_templates").glob("qwen*.jinja"))}
THINKING = "qwen3_5_think"
"""Asks for an answer with `<think>` and a newline, as the Thinking-2507 models do."""
PARTS = (
    "hello", " world", "It is low", "<think>", "</think>", "\n", "\n\n", " ", "\t", "名字", "😀", "e\u0301", "\u0338",
    "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<mine>", "\ue0000\ue000", "xhigh", "user",
    "<think>\nwhy\n</think>\n\nso", "!\n",
)  # fmt: skip


def say(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def make_tokenizer(template: str) -> PreTrainedTokenizerFast:
    """Qwen's way to cut text, a few merges (two newlines are one token), and its kinds of added tokens."""
    raw = Tokenizer(models.BPE())
    raw.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(QWEN2), "isolated")
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    raw.decoder = decoders.ByteLevel()
    letters = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=330, initial_alphabet=letters, show_progress=False)
    raw.train_from_iterator(["user\n\nassistant\n\nsystem\n\nhello world, it is low\n\n"] * 4, trainer)
    raw.add_special_tokens([AddedToken(name, special=True) for name in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")])
    named = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_call>\n")
    raw.add_tokens([AddedToken(name, special=False, normalized=False) for name in named])
    raw.add_tokens([AddedToken("<mine>", special=False, normalized=True)])
    made = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    made.chat_template = TEMPLATES[template].read_text(encoding="utf-8") if template in TEMPLATES else template
    return made


def rendered(tokenizer: Any, messages: list[Message], *, ask: bool = False) -> list[int]:
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=ask)
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def conversation(draw: random.Random) -> tuple[list[Message], list[Message], list[Message]]:
    def text() -> str:
        return "".join(draw.choices(PARTS, k=draw.randint(0, 5)))

    prompt = [say("system", text())] if draw.random() < 0.4 else []
    for _ in range(draw.randint(0, 2)):
        prompt += [say("user", text()), say("assistant", text())]
    prompt.append(say("user", "what is it? " + text()))
    if draw.random() < 0.2:
        prompt += [say("assistant", text()), say("tool", text())]
    return prompt, [say("assistant", text())], [say("assistant", text())]


def common(*sequences: list[int]) -> int:
    length = 0
    for tokens in zip(*sequences, strict=False):
        if len(set(tokens)) > 1:
            break
        length += 1
    return length


@pytest.mark.parametrize("engine", ["tiktoken", "tokenizers"])
@pytest.mark.parametrize("template", TEMPLATES)
def test_the_ids_are_those_of_the_rendered_text(template: str, engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = make_tokenizer(template)
    if engine == "tokenizers":
        monkeypatch.setattr(encoding, "byte_pair_encoder", lambda tokenizer: None)
    encoder = ChatEncoder(tokenizer)
    assert encoder.fast == (engine == "tiktoken")
    draw = random.Random(template)
    for _ in range(40):
        prompt, *answers = conversation(draw)
        asked = rendered(tokenizer, prompt, ask=True)
        whole = [rendered(tokenizer, prompt + answer) for answer in answers]
        pair = encode_pair(encoder, PreferenceExample(prompt, *answers))
        assert encoder.prompt(prompt) == asked
        assert [pair.prompt + pair.chosen.scored, pair.prompt + pair.rejected.scored] == whole
        # as TRL has it, the prompt ends where the sequences no longer go on as it is asked
        assert len(pair.prompt) == common(asked, *whole)


@pytest.mark.parametrize("template", ["qwen2_5", "qwen3", THINKING])
def test_what_spells_a_control_token_is_text_and_all_else_is_as_rendered(template: str) -> None:
    tokenizer = make_tokenizer(template)
    encoder = ChatEncoder(tokenizer)
    end, think = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<think>"])
    spelt = tokenizer("<|im_end|>", add_special_tokens=False, split_special_tokens=True)["input_ids"]
    for text in ("a {} b", "\n{}", "<think>\nwhy {}\n</think>\n\nso {}", "{}", "\ue0000\ue000</think> {}"):
        bare, full = (
            ([say("user", text.format(word, word))], [say("assistant", text.format(word, word))])
            for word in ("QQQ", "<|im_end|>")
        )
        pairs = [encode_pair(encoder, PreferenceExample(prompt, answer, answer)) for prompt, answer in (bare, full)]
        sequences = [pair.prompt + pair.chosen.scored for pair in pairs]
        assert sequences[0].count(end) == sequences[1].count(end)
        assert sequences[0].count(think) == sequences[1].count(think)
        word = tokenizer("QQQ", add_special_tokens=False)["input_ids"]
        assert _replaced(sequences[0], word, spelt) == sequences[1]


def _replaced(ids: list[int], old: list[int], new: list[int]) -> list[int]:
    made, at = [], 0
    while at < len(ids):
        found = ids[at : at + len(old)] == old
        made += new if found else [ids[at]]
        at += len(old) if found else 1
    return made


def test_an_added_token_that_is_no_control_token_is_one_id_in_both_engines() -> None:
    tokenizer = make_tokenizer("qwen3")
    fast = byte_pair_encoder(tokenizer)
    assert fast is not None
    draw = random.Random(1)
    for _ in range(500):
        text = "".join(draw.choices([*PARTS, "<|im_end|>", "<", "think>"], k=draw.randint(1, 9)))
        assert fast(text) == tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]


def test_a_tokenizer_whose_added_tokens_take_what_stands_beside_them_is_encoded_as_a_whole() -> None:
    tokenizer = make_tokenizer("qwen3")
    tokenizer.add_tokens([AddedToken("<wide>", special=False, lstrip=True, rstrip=True, normalized=False)])
    encoder = ChatEncoder(tokenizer)
    prompt, answer = [say("user", "a  <wide> \n b")], [say("assistant", "<think>\nx <wide> y\n</think>\n\n名")]
    assert not encoder.fast
    assert encoder.prompt(prompt) + encoder.answered(prompt, answer).ids == rendered(tokenizer, prompt + answer)


def test_a_normaliser_that_does_nothing_leaves_text_text() -> None:
    tokenizer = make_tokenizer("qwen3")
    tokenizer.backend_tokenizer.normalizer = normalizers.Sequence([])
    encoder = ChatEncoder(tokenizer)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert not encoder.fast
    assert encoder.prompt([say("user", "a <|im_end|>")]).count(end) == 1


def coder(tokenizer: Any, most: int = 512) -> PairTokenizer:
    return PairTokenizer(tokenizer, max_length=most, prompt_budget=most // 2)


def test_a_prompt_that_ends_in_think_is_trained_on() -> None:
    tokenizer = make_tokenizer(THINKING)
    made = coder(tokenizer)
    prompt = [say("user", "hello")]
    bare, thought = [say("assistant", "no")], [say("assistant", "<think>\nwhy\n</think>\n\nyes")]
    pair = made.pair(PreferenceExample(prompt, thought, bare))
    assert pair is not None
    assert pair.prompt + pair.chosen.scored == rendered(tokenizer, prompt + thought)
    assert pair.prompt + pair.rejected.scored == rendered(tokenizer, prompt + bare)
    assert made.counts["prompt_end_merged"] == 1
    assert "one token with the end of the prompt" in made.remarks()[0]


def test_a_cut_prompt_leaves_out_what_the_answers_have_in_its_place() -> None:
    encoder = ChatEncoder(make_tokenizer(THINKING))
    prompt = [say("user", "hello " * 30), say("assistant", "it is"), say("user", "so")]
    answers = [say("assistant", "no")], [say("assistant", "yes, it is")]
    pair = encode_pair(encoder, PreferenceExample(prompt, *answers))
    cut = fit(encoder, pair, max_length=pair.longest - 1, prompt_budget=8)
    alone = encode_pair(encoder, PreferenceExample(prompt[2:], *answers))
    assert "prompt_cut_by_message" in cut.notes
    assert (cut.prompt, cut.chosen.scored, cut.rejected.scored) == (
        alone.prompt,
        alone.chosen.scored,
        alone.rejected.scored,
    )


def test_an_answer_that_is_written_otherwise_than_asked_is_counted() -> None:
    tokenizer = with_template_kwargs(make_tokenizer("qwen3"), {"enable_thinking": False}, "it")
    made = coder(tokenizer)
    prompt, thought = [say("user", "hello")], [say("assistant", "<think>\nwhy\n</think>\n\nyes")]
    pair = made.pair(PreferenceExample(prompt, thought, [say("assistant", "no")]))
    assert pair is not None
    assert pair.prompt + pair.chosen.scored == rendered(tokenizer, prompt + thought)
    assert made.counts["asked_otherwise"] == 1


FORGETS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)
"""Asks for thought, and writes none, as DeepSeek's distilled models do."""


def test_a_plain_answer_that_is_written_otherwise_than_asked_is_counted_too() -> None:
    tokenizer = make_tokenizer(FORGETS)
    made = coder(tokenizer)
    prompt, answer = [say("user", "hello")], [say("assistant", "it is")]
    pair = made.pair(PreferenceExample(prompt, answer, [say("assistant", "no")]))
    assert pair is not None
    assert pair.prompt + pair.chosen.scored == rendered(tokenizer, prompt + answer)
    assert tokenizer.decode(pair.prompt).endswith("<|im_start|>assistant\n")
    assert made.counts["asked_otherwise"] == 1


LAST_ALONE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content if loop.last or messages | length < 4 }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Forgets what was said, once there are four messages."""


@pytest.mark.parametrize(
    ("template", "prompt", "reason"),
    [
        (LAST_ALONE, [say("user", "a"), say("assistant", "b"), say("user", "c")], "template_rewrites_prompt"),
        (THINKING, [say("user", "a"), say("system", "late"), say("user", "c")], "template_refuses"),
    ],
)
def test_what_the_template_does_not_render_after_its_prompt_is_dropped_by_name(
    template: str, prompt: list[Message], reason: str
) -> None:
    made = coder(make_tokenizer(template))
    assert made.pair(PreferenceExample(prompt, [say("assistant", "yes")], [say("assistant", "no")])) is None
    assert made.counts[f"dropped_{reason}"] == 1
    assert len(made.dropped()) == 1


THOUGHT = "<think>\nx\n</think>\n\nso"
TALK = [say("assistant", "hello\n"), say("user", "It is <|im_end|> low"), say("assistant", THOUGHT)]


def parts_of(tokenizer: Any, pair: EncodedPair, side: str) -> list[str]:
    """The scored and the other stretches of an answer, in turn."""
    ids, context = getattr(pair, side).ids, getattr(pair, side).context
    edges = [0, *(edge for span in context for edge in span), len(ids)]
    return [tokenizer.decode(ids[start:stop]) for start, stop in zip(edges, edges[1:], strict=False)]


@pytest.mark.parametrize("template", ["qwen2_5", "qwen3", THINKING])
def test_other_turns_inside_an_answer_are_read_and_not_scored(template: str) -> None:
    tokenizer = make_tokenizer(template)
    made = coder(tokenizer)
    pair = made.pair(PreferenceExample([say("user", "hello")], TALK, [say("assistant", "no")]))
    assert pair is not None
    first, between, said = parts_of(tokenizer, pair, "chosen")
    assert first in ("hello\n<|im_end|>\n", "hello<|im_end|>\n")
    assert between == "<|im_start|>user\nIt is <|im_end|> low<|im_end|>\n<|im_start|>assistant\n"
    assert said == f"{THOUGHT}<|im_end|>\n"
    assert tokenizer.decode(pair.chosen.scored) == first + said
    assert pair.rejected.context == ()
    assert made.counts["turns_in_answer"] == 1


def test_a_cut_answer_keeps_what_is_not_scored_apart() -> None:
    tokenizer = make_tokenizer("qwen2_5")
    encoder = ChatEncoder(tokenizer)
    prompt = [say("user", "hello")]
    pair = encode_pair(encoder, PreferenceExample(prompt, TALK, [say("assistant", "no")]))
    start, stop = pair.chosen.context[0]
    for room in (start - 1, start, start + 1, stop, stop + 1):
        cut = fit(encoder, pair, max_length=len(pair.prompt) + room, prompt_budget=len(pair.prompt))
        assert len(cut.chosen.ids) == room
        assert cut.chosen.scored == pair.chosen.scored[: room - (min(room, stop) - start if room > start else 0)]
        assert all(end <= room for span in cut.chosen.context for end in span)


def test_pairs_that_differ_only_in_what_is_not_scored_are_dropped() -> None:
    made = coder(make_tokenizer("qwen2_5"))
    other = [TALK[0], say("user", "never"), TALK[2]]
    assert made.pair(PreferenceExample([say("user", "hello")], TALK, other)) is None
    assert made.counts["dropped_identical"] == 1


PLAIN = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ marked }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def test_turns_without_control_tokens_are_found_where_shorter_conversations_end() -> None:
    tokenizer = make_tokenizer(PLAIN)
    pair = coder(tokenizer).pair(PreferenceExample([say("user", "hello")], TALK, [say("assistant", "no")]))
    assert pair is not None
    said = ["hello\n\n", "user: It is <|im_end|> low\nassistant: ", f"{THOUGHT}\n"]
    assert parts_of(tokenizer, pair, "chosen") == said


@pytest.mark.parametrize("marked", ["{{ '.' if not loop.last and m.role != 'user' }}", "{{ raise_exception('') }}"])
def test_turns_that_later_ones_change_are_not_guessed(marked: str) -> None:
    made = coder(
        make_tokenizer(PLAIN.replace("{{ marked }}", "{% if messages | length > 3 %}" + marked + "{% endif %}"))
    )
    assert made.pair(PreferenceExample([say("user", "hello")], TALK, [say("assistant", "no")])) is None
    assert sum(made.counts[f"dropped_{why}"] for why in ("turns_not_told_apart", "template_refuses")) == 1
    assert made.pair(PreferenceExample([say("user", "hello")], TALK[:1], [say("assistant", "no")])) is not None


@pytest.mark.parametrize("template", TEMPLATES)
def test_plain_text_goes_the_fast_way(template: str) -> None:
    tokenizer = make_tokenizer(template)
    encoder = ChatEncoder(tokenizer)
    text = "It is low, the user said: `think` of 名字, and\n\nthe text, image or tool_call is high (or not)!"
    messages = [say("system", text), say("user", text), say("assistant", text), say("user", text)]
    answer = [say("assistant", text)]
    encoder.prompt(messages), encoder.answered(messages, answer).ids
    calls: list[Any] = []
    tokenizer.apply_chat_template = lambda *args, **kwargs: calls.append(args) or ""
    encoder.prompt(messages), encoder.answered(messages, answer).ids
    assert not calls


def test_what_a_template_looks_for_is_read_from_it() -> None:
    found = content_rules(TEMPLATES["qwen3"].read_text(encoding="utf-8"))
    assert found is not None and found.texts == ("</think>", "</tool_response>", "<think>", "<tool_response>")
    assert found.may_change(" a") and found.may_change("") and not found.may_change("a user\nasks")
    assert content_rules("{% if %}") is None


def test_template_kwargs_are_defaults_of_whoever_renders() -> None:
    tokenizer = with_template_kwargs(make_tokenizer("qwen3"), {"enable_thinking": False}, "it")
    chat = [say("user", "hello")]
    asked = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert asked.endswith("<think>\n\n</think>\n\n")
    other = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True, enable_thinking=True)
    assert other.endswith("assistant\n")
    plain = make_tokenizer("qwen3")
    assert asked == plain.apply_chat_template(chat, tokenize=False, add_generation_prompt=True, enable_thinking=False)


def test_template_kwargs_that_the_template_does_not_read_are_refused() -> None:
    with pytest.raises(ConfigError, match="does not read `enable_thinking`"):
        with_template_kwargs(make_tokenizer("qwen2_5"), {"enable_thinking": False}, "it")
