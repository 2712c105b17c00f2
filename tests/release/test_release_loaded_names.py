"""Only what programs read by its name alone can harm a release that does not list it."""

from __future__ import annotations

import pytest

from hubdpo.artefacts.manifests.bundle import Kind
from hubdpo.errors import ArtefactError
from hubdpo.release.verify.files import first_loaded

OF_A_MODEL = """
adapter_model.safetensors adapter_model.bin adapter_model.pt adapter_model-00001-of-00002.safetensors ADAPTER_MODEL.BIN
adapter_model.safetensors.index.json model.safetensors model-00001-of-00002.safetensors model.safetensors.index.json
pytorch_model.bin pytorch_model-00001-of-00002.bin pytorch_model.bin.index.json tf_model.h5 flax_model.msgpack
adapter_config.json Config.json generation_config.json processor_config.json preprocessor_config.json
video_preprocessor_config.json tokenizer.json tokenizer_config.json Tokenizer.model spiece.model
sentencepiece.bpe.model tiktoken.model qwen.tiktoken tekken.json vocab.txt vocab.json
merges.txt added_tokens.json special_tokens_map.json
chat_template.jinja chat_template.json additional_chat_templates/tools.jinja local.json
run.json eval.json probes.json
merge.json custom_generate/generate.py custom_generate/requirements.txt handler.py modeling_x.py tokenization_x.py
configuration_x.py processing_x.py
"""
BESIDE_A_MODEL = """
LICENSE NOTICE.md q4.gguf training_args.bin optimizer.pt scheduler.pt rng_state.pth scaler.pt trainer_state.json
all_results.json train.py sub/modeling_x.py checkpoint-4/adapter_model.safetensors checkpoint-4/adapter_config.json
checkpoint-4/tokenizer.model checkpoint-4/optimizer.pt checkpoint-4/model.safetensors.index.json
runs/events.out.tfevents
runs/a/model.safetensors plots/mine.png notes/config.json samples.jsonl docs/chat_template.jinja deepspeed.json
"""
CARD = """---
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*.parquet
- config_name: more
  data_dir: ./more
- config_name: json
  data_files: {train: ["**/j-*.json", "./K.csv"]}
---
"""
BY_THE_CARD = ["data/train-9.parquet", "DATA/train-9.parquet", "more/x.csv", "a/j-1.json", "j-1.json", "k.csv"]
NOT_BY_THE_CARD = ["data/extra.csv", "other.parquet", "x/y.arrow", "train.csv", "data.py"]
PICKED = [
    "data/extra.csv", "other.parquet", "x/y.arrow", "train.csv", "x/my-test_1.jsonl",
    "validation/1.json", "a.train.zip"
]  # fmt: skip
NOT_PICKED = ["data.py", "me.py", "LICENSE", "a.png", "plots/training.png", "notes.md", "constraints.txt"]


@pytest.mark.parametrize("kind", ["adapter", "merged"])
def test_what_stands_in_for_a_file_of_a_model_is_found(kind: Kind) -> None:
    others = BESIDE_A_MODEL.split()
    assert [name for name in OF_A_MODEL.split() if first_loaded(kind, [*others, name]) != name] == []
    assert first_loaded(kind, others) is None


def test_servers_of_a_whole_model_take_all_weights_at_the_top() -> None:
    assert first_loaded("merged", ["sub/extra.safetensors", "EXTRA.safetensors"]) == "EXTRA.safetensors"
    assert first_loaded("adapter", ["extra.safetensors"]) is None


@pytest.mark.parametrize(
    ("card", "harmful", "harmless"),
    [
        (CARD, BY_THE_CARD, NOT_BY_THE_CARD),
        ("", PICKED, NOT_PICKED),
        ("---\nconfigs: 5\n---\n", PICKED, NOT_PICKED),
        ("---\nconfigs: [{config_name: default}]\n---\n", PICKED, NOT_PICKED),
        ("---\nconfigs: [{data_files: ['[z-a].csv', 5, {path: [a.csv]}]}]\n---\n", ["a.csv"], ["b.csv"]),
    ],
)
def test_data_is_what_the_card_names_or_else_what_is_picked(card: str, harmful: list[str], harmless: list[str]) -> None:
    for always in (".huggingface.yaml", "dataset_infos.json", "prepare.json", "local.json"):
        assert first_loaded("dataset", [*harmless, always], card) == always
    assert [name for name in harmful if first_loaded("dataset", [*harmless, name], card) != name] == []
    assert first_loaded("dataset", harmless, card) is None


def test_a_card_names_a_thousand_files_at_most() -> None:
    names = ", ".join(f"f{n}" for n in range(1001))
    with pytest.raises(ArtefactError, match="names 1,001 files, and at most 1,000 are read"):
        first_loaded("dataset", ["x"], f"---\nconfigs: [{{data_files: [{names}]}}]\n---\n")
