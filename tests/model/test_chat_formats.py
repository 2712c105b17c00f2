"""The formats of `--chat-template`, what a base's vocabulary makes of them, and dates."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import trl
from transformers import AutoTokenizer

from hubdpo.config.chat_template import NAMES, recorded, source_of
from hubdpo.config.train import TrainConfig
from hubdpo.errors import ConfigError
from hubdpo.model.probes import _end_of_turn
from hubdpo.model.tokenizer.own_template import remarks_on, template_for
from hubdpo.model.tokenizer.rendering import rendered

TALK = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Ho"},
    {"role": "user", "content": "So?"},
]
WRITTEN = {
    "alpaca": "<s>Be kind.\n\n### Instruction:\nHi\n\n### Response:\nHo</s>\n\n### Instruction:\nSo?\n\n"
    "### Response:\n",
    "chatml": "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHo"
    "<|im_end|>\n<|im_start|>user\nSo?<|im_end|>\n<|im_start|>assistant\n",
    "gemma": "<s><start_of_turn>user\nBe kind.\n\nHi<end_of_turn>\n<start_of_turn>model\nHo<end_of_turn>\n"
    "<start_of_turn>user\nSo?<end_of_turn>\n<start_of_turn>model\n",
    "llama3": "<s><|start_header_id|>system<|end_header_id|>\n\nBe kind.<|eot_id|><|start_header_id|>user"
    "<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nHo<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nSo?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    "mistral": "<s>[INST] Be kind.\n\nHi [/INST] Ho</s>[INST] So? [/INST]",
    "vicuna": "<s>Be kind. USER: Hi ASSISTANT: Ho</s>USER: So? ASSISTANT:",
    "zephyr": "<|system|>\nBe kind.</s>\n<|user|>\nHi</s>\n<|assistant|>\nHo</s>\n<|user|>\nSo?</s>\n<|assistant|>\n",
}
HASHES = "3c7e8f89"
"""Of all formats: a run is resumed by the name of its format, so the text under a name stays."""


@pytest.fixture
def tokenizer(tiny_base: Path) -> Any:
    made = AutoTokenizer.from_pretrained(tiny_base)
    made.add_special_tokens({"bos_token": "<s>", "eos_token": "</s>"})
    return made


def with_tags(tokenizer: Any) -> Any:
    tags = ["<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>", "<start_of_turn>", "<end_of_turn>"]
    tokenizer.add_special_tokens({"additional_special_tokens": tags})
    return tokenizer


def test_every_format_is_tested() -> None:
    assert set(NAMES) == set(WRITTEN)


@pytest.mark.parametrize("name", NAMES)
def test_a_format_writes_a_conversation(tokenizer: Any, name: str) -> None:
    made = with_tags(tokenizer)
    made.chat_template = template_for(name, made)
    assert rendered(made, TALK, ask=True) == WRITTEN[name]
    assert rendered(made, TALK[:3], ask=False) == WRITTEN[name][: len(rendered(made, TALK[:3], ask=False))]
    assert not remarks_on(made, "</s>") or name == "zephyr"
    assert _end_of_turn(made) in ("</s>", "<|im_end|>", "<|eot_id|>", "<end_of_turn>")


def test_the_text_under_a_name_stays() -> None:
    text = "".join(source_of(name) for name in NAMES)
    assert hashlib.sha256(text.encode()).hexdigest()[:8] == HASHES


@pytest.mark.parametrize("name", ["llama3", "gemma"])
def test_answers_end_with_the_bases_own_token_where_it_lacks_the_tag(tokenizer: Any, name: str) -> None:
    tokenizer.chat_template = template_for(name, tokenizer)
    assert rendered(tokenizer, TALK[1:3], ask=False).rstrip().endswith("Ho</s>")
    assert _end_of_turn(tokenizer) == "</s>"
    assert "are no tokens of this base" in remarks_on(tokenizer, "</s>")[0]


@pytest.mark.parametrize("name", NAMES)
def test_a_format_writes_a_conversation_for_a_base_without_an_end_of_text(tokenizer: Any, name: str) -> None:
    tokenizer.eos_token = tokenizer.bos_token = None
    tokenizer.chat_template = template_for(name, tokenizer)
    assert "Ho" in rendered(tokenizer, TALK, ask=True)


def test_a_template_whose_answers_do_not_end_is_said(tokenizer: Any) -> None:
    tokenizer.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    assert any("no token at which generation could stop" in remark for remark in remarks_on(tokenizer, None))
    assert _end_of_turn(tokenizer) == "</s>"


def test_the_date_is_the_same_every_day_and_said(tokenizer: Any) -> None:
    tokenizer.chat_template = (Path(trl.__file__).parent / "chat_templates/llama3_2.jinja").read_text(encoding="utf-8")
    assert "26 Jul 2024" in rendered(tokenizer, TALK, ask=True)
    assert "01 Jan 2030" in rendered(tokenizer, TALK, ask=True, date_string="01 Jan 2030")
    assert any("26 Jul 2024" in remark for remark in remarks_on(tokenizer, "</s>"))
    tokenizer.chat_template = "{{ strftime_now('%Y-%m-%d') }}"
    assert rendered(tokenizer, TALK, ask=True) == "2024-07-26"


@pytest.mark.parametrize(
    ("value", "hint"), [("chatmll", "chatml"), ("no/such.jinja", "chatml"), ("x" * 2000, "chatml")]
)
def test_what_is_neither_a_file_nor_a_format_is_refused(value: str, hint: str) -> None:
    options = {"model_name_or_path": "a/b", "dataset": "c/d", "output_dir": "run", "chat_template": value}
    with pytest.raises(ConfigError) as caught:
        TrainConfig.build(options)
    assert hint in caught.value.hint


def test_a_file_that_is_no_template_is_refused(tmp_path: Path) -> None:
    (tmp_path / "own.jinja").write_text("hello", encoding="utf-8")
    with pytest.raises(ConfigError, match="is no chat template"):
        TrainConfig.build(
            {"model_name_or_path": "a/b", "dataset": "c/d", "output_dir": "r", "chat_template": tmp_path / "own.jinja"}
        )


def test_a_name_is_recorded_as_it_is_and_a_file_by_its_hash(tmp_path: Path) -> None:
    (tmp_path / "own.jinja").write_text("{{ messages }}", encoding="utf-8")
    assert (recorded("chatml"), recorded(None)) == ("chatml", None)
    assert str(recorded(str(tmp_path / "own.jinja"))).startswith("sha256:")
