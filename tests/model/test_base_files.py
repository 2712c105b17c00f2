"""What speaks against a base is told from its small files and headers, in one sentence with a hint."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from hubdpo.artefacts.folders.model_files import COPIED_FILES, INDEX, WEIGHTS
from hubdpo.artefacts.formats.safetensors_header import read_header
from hubdpo.errors import ConfigError, HubdpoError, UnsupportedBase
from hubdpo.hub.open import open_snapshot
from hubdpo.model.bases.files import check_base
from hubdpo.model.bases.load import load_base, read_causal_lm
from hubdpo.model.bases.tensors import BaseFacts
from hubdpo.model.tokenizer.load import read_tokenizer

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 4096\n"
TEXTS = ("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json", "chat_template.jinja")
NF4 = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}


@pytest.fixture
def base(tiny_base: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_base, tmp_path / "base"))


def checked(base: Path, **options: Any) -> BaseFacts:
    return check_base(open_snapshot(str(base)), **options)


def refused(base: Path, *words: str, **options: Any) -> HubdpoError:
    with pytest.raises(ConfigError) as caught:
        checked(base, **options)
    assert "\n" not in caught.value.message
    assert caught.value.hint
    for word in words:
        assert word in caught.value.message
    return caught.value


def configure(base: Path, **settings: Any) -> None:
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, **settings}))


def in_shards(base: Path) -> dict[str, str]:
    """Spread the weights over two files with an index, as large bases have them."""
    from safetensors.torch import load_file, save_file

    weights = load_file(base / WEIGHTS)
    files = {name: f"model-0000{1 + place % 2}-of-00002.safetensors" for place, name in enumerate(sorted(weights))}
    for file in set(files.values()):
        save_file({name: weights[name] for name in weights if files[name] == file}, base / file)
    (base / WEIGHTS).unlink()
    (base / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": files}))
    return files


def test_a_sound_base_is_told_by_its_layers(base: Path) -> None:
    facts = checked(base, load_in_4bit=False)
    assert (facts.layers, facts.is_tied) == (2, True)
    parts = {"self_attn": "qkvo", "mlp": ("gate", "up", "down")}
    assert facts.linear_layers == {
        f"model.layers.{layer}.{block}.{name}_proj" for layer in (0, 1) for block in parts for name in parts[block]
    }


@pytest.mark.parametrize("added", [b'"time_step_limit": [0.0, Infinity],', b'"model_type": "qwen1",'])
def test_a_config_is_read_as_python_reads_it_everywhere(base: Path, added: bytes) -> None:
    whole = (base / "config.json").read_bytes()
    (base / "config.json").write_bytes(whole.replace(b"{", b"{" + added, 1))
    assert checked(base).layers == 2
    assert read_tokenizer(base).chat_template
    assert read_causal_lm(base, dtype=torch.float32)


def test_shards_are_read_like_one_file(base: Path) -> None:
    before = checked(base)
    in_shards(base)
    assert checked(base) == before


@pytest.mark.parametrize("name", TEXTS)
def test_a_pointer_in_place_of_a_file_is_named(base: Path, name: str) -> None:
    (base / name).write_bytes(POINTER)
    problem = refused(base, f"`{name}`", "git-lfs pointer")
    assert name in (problem.hint or "")


def test_in_a_clone_the_hint_is_what_git_needs(base: Path) -> None:
    (base / ".git").mkdir()
    (base / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    (base / WEIGHTS).write_bytes(POINTER)
    assert f"git -C {base} lfs pull" in (refused(base, WEIGHTS, "git-lfs pointer").hint or "")


@pytest.mark.parametrize("name", ["config.json", *(name for name in COPIED_FILES if name.endswith(".json"))])
@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff\xfe", b"<html>", b"[" * 100_000])
def test_json_that_is_none_is_named(base: Path, name: str, content: bytes) -> None:
    (base / name).write_bytes(content)
    refused(base, name)


def test_weights_cut_anywhere_are_refused(base: Path) -> None:
    whole = (base / WEIGHTS).read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    for length in (0, 7, 8, 100, header - 1, header, header + 1, len(whole) // 2, len(whole) - 1):
        (base / WEIGHTS).write_bytes(whole[:length])
        refused(base, WEIGHTS, "broken")
    (base / WEIGHTS).write_bytes(whole + b"\0")
    refused(base, "too long")


@pytest.mark.parametrize(
    "text", [b"[]", b'{"a": 1}', b'{"a": {"shape": [1]}}', b'{"a": {"shape": 1, "data_offsets": []}}']
)
def test_a_header_of_another_form_is_a_value_error(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "x.safetensors").write_bytes(len(text).to_bytes(8, "little") + text)
    with pytest.raises(ValueError, match="header"):
        read_header(tmp_path / "x.safetensors")


def test_a_pickle_is_never_opened(base: Path) -> None:
    (base / WEIGHTS).rename(base / "pytorch_model.bin")
    refused(base, "pytorch_model.bin", "never opened")


def test_transformers_is_not_let_open_a_pickle(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("opened")

    (base / WEIGHTS).rename(base / "pytorch_model.bin")
    monkeypatch.setattr("torch.load", opened)
    with pytest.raises(UnsupportedBase, match="as a pickle alone"):
        load_base(base, device="cpu", load_in_4bit=False)


@pytest.mark.parametrize(
    ("name", "word"), [("model-q4.gguf", "GGUF"), ("other.safetensors", "has no model.safetensors")]
)
def test_weights_of_another_kind_are_named(base: Path, name: str, word: str) -> None:
    (base / WEIGHTS).rename(base / name)
    refused(base, word)


def test_a_shard_that_is_missing_is_named_with_how_many(base: Path) -> None:
    file = sorted(set(in_shards(base).values()))[1]
    (base / file).unlink()
    refused(base, "lacks 1 of its 2 files", file)


def test_a_tensor_that_only_the_index_has_is_named(base: Path) -> None:
    files = in_shards(base)
    index = {"weight_map": {**files, "model.layers.9.mlp.up_proj.weight": next(iter(files.values()))}}
    (base / INDEX).write_text(json.dumps(index))
    refused(base, "model.layers.9.mlp.up_proj.weight")


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"num_hidden_layers": 3}, "layers.2."),
        ({"tie_word_embeddings": False}, "lm_head"),
        ({"vocab_size": 17}, "the embedding is"),
    ],
)
def test_weights_that_leave_gaps_are_refused(base: Path, settings: dict[str, Any], word: str) -> None:
    configure(base, **settings)
    refused(base, word)


def test_transformers_is_not_let_make_up_weights(base: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(base / WEIGHTS)
    del weights["model.layers.1.input_layernorm.weight"]
    save_file(weights, base / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(UnsupportedBase, match="model.layers.1.input_layernorm.weight"):
        load_base(base, device="cpu", load_in_4bit=False)


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"quantization_config": {"quant_method": "awq", "bits": 4}}, "awq"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "gptq"),
        ({"quantization_config": {"quant_method": "fp8"}}, "fp8"),
        ({"quantization_config": {"quant_method": "compressed-tensors"}}, "compressed-tensors"),
        ({"quantization_config": {"bits": 4}}, "a method it does not name"),
        ({"compression_config": {"quant_method": "compressed-tensors"}}, "compressed-tensors"),
        ({"quantization": {"group_size": 64, "bits": 4}}, "MLX"),
        ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}}, "in 8 bits"),
        ({"quantization_config": {**NF4, "bnb_4bit_quant_type": "fp4"}}, "in 4 bits but not NF4"),
    ],
)
@pytest.mark.parametrize("load_in_4bit", [True, False])
def test_quantised_bases_are_refused_by_their_method(
    base: Path, settings: dict[str, Any], word: str, load_in_4bit: bool
) -> None:
    configure(base, **settings)
    problem = refused(base, "is quantised by", word, load_in_4bit=load_in_4bit)
    assert "--model-name-or-path" in (problem.hint or "")


def test_nf4_is_fine_unless_another_precision_is_asked_for(base: Path) -> None:
    configure(base, quantization_config=NF4)
    assert checked(base, load_in_4bit=True).layers == 2
    assert "--no-load-in-4bit" in (refused(base, "NF4 already", load_in_4bit=False).hint or "")


@pytest.mark.parametrize(
    ("name", "original"),
    [
        ("Qwen/Qwen2-7B-Instruct-AWQ", "Qwen/Qwen2-7B-Instruct"),
        ("Qwen/Qwen2.5-1.5B-Instruct-GPTQ-Int4", "Qwen/Qwen2.5-1.5B-Instruct"),
        ("Qwen/Qwen3-8B-FP8", "Qwen/Qwen3-8B"),
        ("someone/model", "Qwen/Qwen2-7B-Instruct"),
    ],
)
def test_the_hint_names_the_model_before_it_was_quantised(base: Path, name: str, original: str) -> None:
    configure(base, quantization_config={"quant_method": "awq"})
    place = open_snapshot(str(base))
    place.name = name
    with pytest.raises(UnsupportedBase) as caught:
        check_base(place)
    assert (caught.value.hint or "").endswith(f" {original}")


def test_a_base_without_a_template_is_refused_wherever_it_could_be(base: Path) -> None:
    template = (base / "chat_template.jinja").read_text()
    (base / "chat_template.jinja").unlink()
    refused(base, "no chat template")
    (base / "additional_chat_templates").mkdir()
    (base / "additional_chat_templates" / "default.jinja").write_text(template)
    assert checked(base)
    shutil.rmtree(base / "additional_chat_templates")
    settings = json.loads((base / "tokenizer_config.json").read_text())
    (base / "tokenizer_config.json").write_text(json.dumps({**settings, "chat_template": template}))
    assert checked(base)


def test_a_base_without_a_tokenizer_is_refused(base: Path) -> None:
    (base / "tokenizer.json").unlink()
    refused(base, "no tokenizer.json")
