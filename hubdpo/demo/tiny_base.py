"""Make a base model for demos and tests: Qwen2's architecture and chat template in a few hundred kilobytes."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from hubdpo.artefacts.folders.model_files import TOKENIZER_FILES

END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
QWEN2_VOCABULARY = 151_936

# ChatML with Qwen2's default system turn (Qwen2 model card)
CHAT_TEMPLATE = (
    "{%- if messages and messages[0].role != 'system' -%}"
    "{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}"
    "{%- endif -%}"
    "{%- for turn in messages -%}"
    "{{ '<|im_start|>' + turn.role + '\\n' + turn.content + '<|im_end|>\\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"
)

TEXT = (
    "system user assistant tool\nYou are a helpful assistant.\n",
    "How do I do it? What is the best way to learn? Can you tell me how to begin, and what comes first?\n",
    "Take your time; it works well. Tell me if you need more detail. That is all you need.\n",
    "Gladly. Put it in water for ten minutes, then let it dry. I do not know. Look it up. No idea, do what you want.\n",
    "你好，可以请教一个问题吗？当然可以，请说。怎么做？慢慢来，很容易做到。需要细节就告诉我。不知道，自己查。\n",
)

CARD = """\
---
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
---

# A tiny random Qwen2

Random weights in the shape of Qwen2, with a small tokenizer of its own. It knows nothing: use it to try hubdpo.
"""


def make_tiny_base(
    folder: Path, *, hidden_size: int = 64, num_layers: int = 2, seed: int = 0, tokenizer: Path | None = None
) -> Path:
    """Write a Qwen2 with random weights that transformers and bitsandbytes load, and return its folder.

    `hidden_size` is a multiple of 64, the block size of NF4. `tokenizer` is a folder with Qwen2's own tokenizer, which
    replaces the small one; the embedding then has Qwen2's 151,936 rows. The same arguments give the same bytes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if tokenizer is None:
        small = _small_tokenizer()
        small.save_pretrained(folder)
        # the vocabulary in whole blocks of 128, with at least one row to spare
        rows, pad, end = -(-(len(small) + 1) // 128) * 128, small.pad_token_id, small.eos_token_id
    else:
        for name in TOKENIZER_FILES:
            if (tokenizer / name).exists():
                shutil.copyfile(tokenizer / name, folder / name)
        rows, pad, end = QWEN2_VOCABULARY, 151_643, 151_645
    config = Qwen2Config(
        vocab_size=rows,
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_hidden_layers=num_layers,
        num_attention_heads=hidden_size // 32,
        num_key_value_heads=hidden_size // 64,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        eos_token_id=end,
        pad_token_id=pad,
        bos_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        Qwen2ForCausalLM(config).save_pretrained(folder)
    (folder / "README.md").write_text(CARD, encoding="utf-8")
    return folder


def _small_tokenizer() -> PreTrainedTokenizerFast:
    raw = Tokenizer(models.BPE())
    raw.normalizer = normalizers.NFC()
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=480, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    raw.train_from_iterator(TEXT, trainer)
    raw.add_special_tokens([AddedToken(text, special=True) for text in (END_OF_TEXT, TURN_START, TURN_END)])
    small = PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token=TURN_END, pad_token=END_OF_TEXT, model_max_length=4096
    )
    small.chat_template = CHAT_TEMPLATE
    return small
