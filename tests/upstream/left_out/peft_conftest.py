"""Tiny stand-ins for the repos that peft's tests load: random weights under the names of the published ones."""

from __future__ import annotations

import copy
import os
import tempfile
from pathlib import Path

import pytest
import torch
from huggingface_hub import HfApi
from peft import LoraConfig, TaskType, get_peft_model
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertLMHeadModel,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2ForTokenClassification,
    OPTConfig,
    OPTForCausalLM,
    OPTForQuestionAnswering,
    OPTForSequenceClassification,
    OPTModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
    WhisperConfig,
    WhisperForConditionalGeneration,
)

PEFT, HF = "peft-internal-testing", "hf-internal-testing"
WORDS = 40
"""Entries in the vocabulary of every model."""
SMALL = {"vocab_size": WORDS, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
OPT = {**SMALL, "hidden_size": 16, "ffn_dim": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
OPT |= {"word_embed_proj_dim": 16, "max_position_embeddings": 32}
SIDES = {f"{side}_{what}": 1 for side in ("encoder", "decoder") for what in ("layers", "attention_heads")}
SEQ2SEQ = {**SMALL, **SIDES, "d_model": 16, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "decoder_start_token_id": 2}
BERT = {"vocab_size": WORDS, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
BERT |= {"intermediate_size": 16, "is_decoder": True}
DECODER = {**SMALL, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
DECODER |= {"num_key_value_heads": 1}
WHISPER = {"num_mel_bins": 8, "max_source_positions": 16, "max_target_positions": 16, "suppress_tokens": None}
WHISPER |= {"begin_suppress_tokens": None}
TARGETS = {"t5": ["q", "v"], "gpt2": ["c_attn"], "bert": ["query", "value"]}


@pytest.fixture(scope="session", autouse=True)
def stand_ins() -> None:
    opt = OPTForCausalLM(OPTConfig(**OPT))
    _push(f"{PEFT}/opt-125m", opt, _tokenizer())
    with_adapters = {
        "tiny-OPTForCausalLM": (opt, TaskType.CAUSAL_LM),
        "tiny_T5ForSeq2SeqLM": (
            T5ForConditionalGeneration(
                T5Config(**{**SMALL, "d_model": 16, "d_ff": 16, "d_kv": 8, "num_layers": 1, "num_heads": 2})
            ),
            TaskType.SEQ_2_SEQ_LM,
        ),
        "tiny_OPTForSequenceClassification": (OPTForSequenceClassification(OPTConfig(**OPT)), TaskType.SEQ_CLS),
        "tiny_GPT2ForTokenClassification": (
            GPT2ForTokenClassification(GPT2Config(**SMALL, n_embd=16, n_layer=1, n_head=2, n_positions=32)),
            TaskType.TOKEN_CLS,
        ),
        "tiny_OPTForQuestionAnswering": (OPTForQuestionAnswering(OPTConfig(**OPT)), TaskType.QUESTION_ANS),
        "tiny_OPTForFeatureExtraction": (OPTModel(OPTConfig(**OPT)), TaskType.FEATURE_EXTRACTION),
        "tiny_WhisperForConditionalGeneration": (
            WhisperForConditionalGeneration(WhisperConfig(**SEQ2SEQ, **WHISPER)),
            None,
        ),
    }
    for name, (model, task) in with_adapters.items():
        base = f"{PEFT}/{name.replace('tiny_', 'tiny-').replace('tiny-', 'tiny-random-')}"
        _push(base, model)
        _push_adapter(f"{PEFT}/{name}-lora", base, model, task)

    _push(f"{HF}/tiny-random-BertModel", BertLMHeadModel(BertConfig(**BERT)))
    _push(f"{PEFT}/tiny-random-BertModel", BertLMHeadModel(BertConfig(**BERT)))
    _push(f"{PEFT}/tiny-random-BertModel", BertLMHeadModel(BertConfig(**BERT)), revision="v2.0.0")
    _push_adapter(
        f"{PEFT}/tiny-random-BertModel-lora", f"{HF}/tiny-random-BertModel", BertLMHeadModel(BertConfig(**BERT)),
        TaskType.CAUSAL_LM, revision="v1.2.3",
    )  # fmt: skip
    _push_adapter(
        f"{PEFT}/test-lora-subfolder", f"{PEFT}/opt-125m", OPTForCausalLM(OPTConfig(**OPT)), TaskType.CAUSAL_LM,
        subfolder="test",
    )  # fmt: skip
    # the base of one has room for the words of its tokenizer; that of the other is made larger when it is loaded
    longer = OPTForCausalLM(OPTConfig(**OPT))
    longer.resize_token_embeddings(WORDS + 2)
    _push(f"{PEFT}/opt-extended", longer)
    for name, base, revision in (
        ("tiny-random-OPTForCausalLM-extended-vocab", "opt-extended", "main"),
        ("opt-tokenizer-revision", "opt-125m", "my-revision"),
    ):
        _push_adapter(
            f"{PEFT}/{name}", f"{PEFT}/{base}", copy.deepcopy(longer), TaskType.CAUSAL_LM, revision=revision,
            tokenizer=_tokenizer(WORDS + 2),
        )  # fmt: skip

    _push(f"{HF}/tiny-random-Gemma3ForCausalLM", Gemma3ForCausalLM(Gemma3TextConfig(**DECODER, head_dim=8)))
    _push(f"{PEFT}/tiny-random-BartForConditionalGeneration", BartForConditionalGeneration(BartConfig(**SEQ2SEQ)))
    _push("Qwen/Qwen2-0.5B", Qwen2ForCausalLM(Qwen2Config(**DECODER)), _tokenizer(WORDS - 5))


def _tokenizer(words: int = WORDS) -> PreTrainedTokenizerFast:
    names = ["<pad>", "<s>", "</s>", "<unk>", *(f"w{number}" for number in range(words - 4))]
    tokenizer = Tokenizer(models.WordLevel({name: number for number, name in enumerate(names)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def _push_adapter(
    repo_id: str, base: str, model: PreTrainedModel, task: TaskType | None, *, revision: str = "main",
    subfolder: str = "", tokenizer: PreTrainedTokenizerFast | None = None,
) -> None:  # fmt: skip
    model.name_or_path = model.config._name_or_path = base
    extended = ["lm_head", "embed_tokens"] if tokenizer else None
    modules = TARGETS.get(model.config.model_type, ["q_proj", "v_proj"])
    adapter = get_peft_model(model, LoraConfig(task_type=task, r=4, target_modules=modules, modules_to_save=extended))
    _push(repo_id, adapter, tokenizer, revision=revision, subfolder=subfolder)


def _push(
    repo_id: str, model: torch.nn.Module, tokenizer: PreTrainedTokenizerFast | None = None, *, revision: str = "main",
    subfolder: str = "",
) -> None:  # fmt: skip
    api = HfApi(endpoint=os.environ["HF_ENDPOINT"], token=f"hf_{repo_id.partition('/')[0]}")
    api.create_repo(repo_id, exist_ok=True)
    if revision != "main":
        api.create_branch(repo_id, branch=revision)
    with tempfile.TemporaryDirectory() as folder:
        for part in (model, tokenizer):
            if part is not None:
                part.save_pretrained(Path(folder) / subfolder)
        api.upload_folder(repo_id=repo_id, folder_path=folder, revision=revision)
