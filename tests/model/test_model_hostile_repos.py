"""Adapters, bases and tokenizers that would take time or memory without end: one line each, and nothing is built."""

from __future__ import annotations

import base64
import json
import os
import resource
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM
from typer.testing import Result

from hubdpo.errors import ArtefactError
from hubdpo.model.adapters import trial
from hubdpo.model.adapters.load import LoadedAdapter, answer, attach_adapter, load_on_base
from hubdpo.model.bases.load import read_causal_lm
from hubdpo.model.tokenizer import rendering
from hubdpo.model.tokenizer.load import check_tokenizer_growth, read_tokenizer
from tests.limited import run_limited
from tests.model.hostile import Edit, adapter_on_hub, base_on_hub, edited

DEEP = "[" * 100_000
ENDLESS = "(([a-z._0-9]+)+)+!"
LOOPS = "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}{% endfor %}" * 2
LOOPS = (
    "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(9) %}x{% endfor %}{% endfor %}{% endfor %}"
)


@pytest.fixture(autouse=True)
def short_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "SECONDS", 2)
    monkeypatch.setattr(rendering, "SECONDS", 2)


@pytest.fixture
def adapter(run_dir: Path, tmp_path: Path) -> Path:
    ignored = shutil.ignore_patterns("checkpoint-*", "release.json")
    folder = Path(shutil.copytree(run_dir, tmp_path / "adapter", ignore=ignored))
    edited(folder, "run.json", files={})  # no hash gives the weights away
    return folder


def config(**fields: Any) -> Edit:
    return lambda folder: edited(folder, "adapter_config.json", **fields)


def written(name: str, text: str | bytes) -> Edit:
    def write(folder: Path) -> None:
        (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)

    return write


def header(told: Any) -> Edit:
    """Weights whose header is this, padded to what it says."""
    text = told if isinstance(told, bytes) else json.dumps(told).encode()
    return written("adapter_model.safetensors", len(text).to_bytes(8, "little") + text + bytes(64))


def tokenizer(**fields: Any) -> Edit:
    return lambda folder: edited(folder, "tokenizer_config.json", **fields)


def fewer_weights(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    weights = load_file(path)
    save_file({name: value for name, value in weights.items() if "layers.1.mlp.up_proj" not in name}, path)


def tokenizer_json(**fields: Any) -> Edit:
    return lambda folder: edited(folder, "tokenizer.json", **fields)


def run_config(**options: Any) -> Edit:
    return lambda folder: edited(
        folder, "run.json", config=json.loads((folder / "run.json").read_text())["config"] | options
    )


def charsmap(*texts: str) -> dict[str, Any]:
    """A normalizer by SentencePiece's map, of an empty trie and these texts."""
    data = (8).to_bytes(4, "little") + bytes(8) + b"".join(text.encode() + b"\0" for text in texts)
    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(data).decode()}


ROWS: dict[str, tuple[Edit, str]] = {
    "a rank of two million": (config(r=2_000_000), "`r` of adapter_config.json is 2000000"),
    "a rank of 30 digits": (config(r=10**30), "`r` of adapter_config.json"),
    "no rank": (config(r=0), "a whole number above 0"),
    "a rank below 0": (config(r=-8), "a whole number above 0"),
    "a rank that is true": (config(r=True), "a whole number above 0"),
    "a rank that is text": (config(r="8"), "a whole number above 0"),
    "a rank that is no number": (config(r=float("nan")), "NaN instead of a number"),
    "a rank for one module": (
        config(rank_pattern={"q_proj": 10**6}), "{'q_proj': 1000000}, and `model.layers.0.self_attn.q_proj` in",
    ),
    "a rank of 30 digits for one module": (
        config(rank_pattern={"q_proj": 10**30}), "adapter_model.safetensors has rank 16",
    ),
    "a rank of 0 for one module": (config(rank_pattern={"q_proj": 0}), "at most 1,000 whole numbers above 0"),
    "a rank for one module, from the base": (
        config(rank_pattern={"q_proj": 10**6}, init_lora_weights="pissa"), "the largest rank in adapter_model",
    ),
    "ranks that are a list": (config(rank_pattern=[1]), "at most 1,000 whole numbers above 0"),
    "an alpha that is text": (config(alpha_pattern={"q_proj": "x"}), "an object of at most 1,000 numbers"),
    "an alpha of 40 digits": (config(lora_alpha=10**39), "`lora_alpha` of adapter_config.json is 1000000"),
    "an alpha far below 0": (config(lora_alpha=-2e6), "is -2000000.0, and it must be a number up to 1,000,000"),
    "an alpha of 40 digits for a module": (
        config(alpha_pattern={"q_proj": 10**38}), "`alpha_pattern` of adapter_config.json is {'q_proj': 1000000",
    ),
    "an alpha in quotes": (config(lora_alpha="16"), "is '16', and it must be a number up to 1,000,000"),
    "LoftQ by a list": (config(loftq_config=[1]), "`loftq_config` of adapter_config.json is [1], and it must be an"),
    "tokens to act from that are text": (
        config(alora_invocation_tokens=["x"]), "is ['x'], and it must be a list of token ids",
    ),
    "tokens to act from below 0": (config(alora_invocation_tokens=[1, -1]), "is [1, -1], and it must be a list of"),
    "tokens to act from that no tensor holds": (
        config(alora_invocation_tokens=[2**31]), "is [2147483648], and it must be a list of token ids",
    ),
    "a rank beside ranks": (config(r=10**6, rank_pattern={"x": 1}), "`r` of adapter_config.json is 1000000"),
    "a rank beside ranks, from the base": (
        config(r=10**6, rank_pattern={"x": 1}, init_lora_weights="pissa"), "the largest rank",
    ),
    "more modules than there are weights of": (fewer_weights, "asks for 2 tensors that its weights lack"),
    "modules that are numbers": (config(target_modules=[1]), "a name or a list of at most 5,000 names"),
    "modules that are an object": (config(target_modules={"a": 1}), "a name or a list of at most 5,000 names"),
    "a module to save that is not there": (config(modules_to_save=["lm_head"]), "holds no tensor of it"),
    "two million tokens": (config(trainable_token_indices=[1] * 2 * 10**6), "more than the limit of 4,000,000"),
    "more tokens than there are weights of": (config(trainable_token_indices=[1] * 1000), "holds 0 of them"),
    "layers without end": (config(layer_replication=[[0, 2]] * 10**5), "layer_replication"),
    "a rank beside ranks, of layers that are copies": (
        config(r=10**6, rank_pattern={"x": 1}, layer_replication=[[0, 2]]), "the largest rank",
    ),
    "fewer weights than layers that are copies": (
        lambda folder: (fewer_weights(folder), config(layer_replication=[[0, 2]])(folder))[0],
        "Found missing adapter keys",
    ),
    "a million rounds": (config(init_lora_weights="pissa_niter_1000000"), "64 iterations at most"),
    "a million rounds of LoftQ": (
        config(init_lora_weights="loftq", loftq_config={"loftq_bits": 4, "loftq_iter": 10**6}), "64 iterations",
    ),
    "a prompt of ten million tokens": (
        config(peft_type="PROMPT_TUNING", num_virtual_tokens=10**7), "hubdpo loads LoRA alone",
    ),
    "a kind that is a list": (config(peft_type=["LORA"]), "hubdpo loads LoRA alone"),
    "a task that is a list": (config(task_type=[]), "cannot be loaded"),
    "dropout of five": (config(lora_dropout=5), "cannot be loaded"),
    "modules by a pattern that does not end": (config(target_modules=ENDLESS), "takes more than 2 seconds"),
    "exceptions by one": (config(exclude_modules=ENDLESS), "takes more than 2 seconds"),
    "a rank by one": (config(rank_pattern={ENDLESS: 1}), "`rank_pattern` of adapter_config.json"),
    "an alpha by one": (config(alpha_pattern={ENDLESS: 1}), "`alpha_pattern` of adapter_config.json"),
    "modules to save by one": (config(modules_to_save=[ENDLESS]), "`modules_to_save` of adapter_config.json"),
    "layers by one": (
        config(layers_to_transform=[0], layers_pattern=ENDLESS), "`layers_pattern` of adapter_config.json",
    ),
    "1,001 patterns": (config(rank_pattern={f"x{i}": 1 for i in range(1001)}), "at most 1,000 whole numbers above 0"),
    "5,001 modules": (config(target_modules=[f"x{i}" for i in range(5001)]), "a name or a list of at most 5,000 names"),
    "1,001 modules to save": (config(modules_to_save=["x"] * 1001), "a list of at most 1,000 names"),
    "a copy of all layers": (config(modules_to_save=["layers"]), "holds no tensor of it"),
    "a pattern that is none": (config(target_modules="(q_proj"), "not a regular expression"),
    "a pattern 10,000 deep": (config(target_modules="(" * 10_000), "the depth"),
    "a config 100,000 deep": (written("adapter_config.json", DEEP), "nested more than 100 deep"),
    "a config of 63 MB": (written("adapter_config.json", b" " * 63_000_000), "more than the limit of 4,000,000"),
    "a config that is no JSON": (written("adapter_config.json", "{"), "is not JSON"),
    "a header 100,000 deep": (header(DEEP.encode()), "not a safetensors file"),
    "a header that is a list": (header([]), "not a safetensors file"),
    "a header of numbers": (header({"a": 5}), "not a safetensors file"),
    "a shape that is text": (header({"a": {"dtype": "F32", "shape": "64", "data_offsets": [0, 64]}}), "not a safe"),
    "a shape below 0": (header({"a": {"dtype": "F32", "shape": [-16], "data_offsets": [0, 64]}}), "not a safetensors"),
    "a shape without bounds": (
        header({"a": {"dtype": "F32", "shape": [10**40], "data_offsets": [0, 64]}}), "not a safetensors file",
    ),
    "offsets that are no number": (
        header(b'{"a": {"dtype": "F32", "shape": [16], "data_offsets": [0, Infinity]}}'), "not a safetensors file",
    ),
    "a shape that its bytes do not hold": (
        header({"a": {"dtype": "F32", "shape": [99], "data_offsets": [0, 64]}}), "not a safetensors file",
    ),
    "two tensors in the same bytes": (
        header({name: {"dtype": "F32", "shape": [16], "data_offsets": [0, 64]} for name in "ab"}), "not a safetensors",
    ),
    "a template with loops in loops": (written("chat_template.jinja", LOOPS), "takes more than 2 seconds"),
    "a template of ten gigabytes": (
        written("chat_template.jinja", "{{ 'a' * 1000000000 * 10 }}"), "takes more than 512 MB",
    ),
    "a template that doubles a text": (
        written(
            "chat_template.jinja",
            "{%- set n = namespace(x='ab') %}{% for i in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}",
        ),
        "takes more than 512 MB",
    ),
    "a template that writes a book": (written("chat_template.jinja", "{{ 'a' * 3000000 }}"), "3,000,000 characters"),
    "a template 100,000 deep": (written("chat_template.jinja", "{{" + "(" * 100_000), "the depth"),
    "a template that calls itself": (
        written("chat_template.jinja", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"), "the depth",
    ),
    "a template with loops in blocks of transformers": (
        written("chat_template.jinja", "{%+ generation %}" + LOOPS + "{%+ endgeneration %}"),
        "takes more than 2 seconds",
    ),
    "a template that loops this year": (
        written("chat_template.jinja", "{% if strftime_now('%Y') != '2024' %}" + LOOPS + "{% endif %}{{ messages }}"),
        "takes more than 2 seconds",
    ),
    "a template that loops where transformers renders": (
        written("chat_template.jinja", "{% if continue_final_message is defined or true %}" + LOOPS + "{% endif %}"),
        "takes more than 2 seconds",
    ),
    "a template that grows for the real question": (
        written("chat_template.jinja", "{% if 'Hello' in messages[0].content %}{{ 'a' * 10 ** 10 }}{% endif %}x"),
        "takes more than 512 MB",
    ),
    "a template that loops for the real question": (
        written("chat_template.jinja", "{% if 'Hello' in messages[0].content %}" + LOOPS + "{% endif %}x"),
        "takes more than 2 seconds",
    ),
    "a template that writes nothing": (written("chat_template.jinja", "{{ a }}"), "renders a chat as empty text"),
    "a template of two megabytes": (written("chat_template.jinja", "a" * 2_000_000), "the limit of 1,000,000"),
    "a template that is none": (written("chat_template.jinja", "{{ nope"), "TemplateSyntaxError"),
    "a template that reaches out": (written("chat_template.jinja", "{{ ''.__class__.__mro__ }}"), "SecurityError"),
    "a template that refuses": (written("chat_template.jinja", "{{ raise_exception('no') }}"), "TemplateError: no"),
    "a tokenizer_config 100,000 deep": (written("tokenizer_config.json", DEEP), "nested more than 100 deep"),
    "a tokenizer_config that is a list": (written("tokenizer_config.json", "[]"), "cannot be loaded"),
    "a tokenizer 100,000 deep": (written("tokenizer.json", DEEP), "the tokenizer of"),
    "a tokenizer that is none": (written("tokenizer.json", '{"version": "1.0"}'), "the tokenizer of"),
    "a tokenizer of 16 million values": (written("tokenizer.json", b"[" + b"[]," * 16_000_000), "more than 4,000,000"),
    "a tokenizer that makes ten of one, ten times over": (
        tokenizer_json(
            normalizer={
                "type": "Sequence",
                "normalizers": [{"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 10}] * 10,
            }
        ),
        "10,000,000,000 times longer, 256 at most",
    ),
    "a tokenizer that puts a book before": (
        tokenizer_json(normalizer={"type": "Prepend", "prepend": "a" * 1_000_000}), "1,000,001 times longer",
    ),
    "a tokenizer that has a map of 60,000 for one": (
        tokenizer_json(normalizer=charsmap("a", "o" * 60_000, "b")), "60,000 times longer",
    ),
    "a tokenizer whose length is text": (tokenizer(model_max_length="x"), "`model_max_length` of tokenizer_config"),
    "a tokenizer that has two maps": (
        tokenizer_json(normalizer={"type": "Sequence", "normalizers": [charsmap("o" * 100)] * 2}),
        "10,000 times longer",
    ),
    "a tokenizer whose map is none": (
        tokenizer_json(normalizer={"type": "Precompiled", "precompiled_charsmap": "x"}), "is not base64",
    ),
    "a tokenizer that spells it otherwise": (
        written(
            "tokenizer.json",
            '{"normalizer": {"type": "\\u0052eplace", "pattern": {"Regex": ""}, "content": "' + "a" * 999 + '"}}',
        ),
        "1,000 times longer",
    ),
    "options of a template that are no object": (run_config(chat_template_kwargs=["a"]), "chat_template_kwargs"),
    "a tokenizer whose pattern Rust gives up": (
        tokenizer_json(
            pre_tokenizer={
                "type": "Split", "pattern": {"Regex": "(([A-Za-z !?]+)+)+[?][?]"}, "behavior": "Isolated",
                "invert": False,
            }
        ),
        "PanicException",
    ),
    "a special token that is a number": (tokenizer(eos_token=5), "the tokenizer of"),
}  # fmt: skip


def short(name: str) -> Any:
    return pytest.param(*ROWS[name], id=name)


def one_line(done: Result, code: int, says: str) -> None:
    told = " ".join(done.output.split())
    assert done.exit_code == code, done.output
    assert says in told, done.output
    assert "hint:" in told
    assert "Traceback" not in told
    assert len(done.output) < 2_000


@pytest.mark.parametrize(("edit", "says"), [short(name) for name in ROWS])
def test_load_refuses_in_one_line(adapter: Path, edit: Edit, says: str, run_cli: Callable[..., Result]) -> None:
    edit(adapter)
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, sum(os.times()[:4])
    one_line(run_cli("load", str(adapter), "--max-new-tokens", "1"), 3, says)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1_000_000  # kB
    assert sum(os.times()[:4]) - began < 20


OF_TOKENIZERS = [name for name in ROWS if name.startswith("a tokenizer") and "Rust" not in name]


def base_config(**fields: Any) -> Edit:
    def edit(folder: Path) -> None:
        path = folder / "config.json"
        config = json.loads(path.read_text())
        config.pop("layer_types", None)
        path.write_text(json.dumps(config | fields))

    return edit


def generation(**fields: Any) -> Edit:
    return lambda folder: edited(folder, "generation_config.json", **fields)


def index(**files: str) -> Edit:
    def edit(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))

    return edit


BASES: dict[str, tuple[Edit, str]] = {
    "a million layers": (base_config(num_hidden_layers=10**6), "at most 2,000 are built"),
    "400 layers": (base_config(num_hidden_layers=400), "`num_hidden_layers` of config.json is 400, and"),
    "30 million labels": (base_config(num_labels=3 * 10**7), "`num_labels` of config.json"),
    "more layers inside than weights": (
        base_config(text_config={"num_layers": 400}), "`num_layers` of config.json is 400, and its weights hold",
    ),
    "layers inside": (base_config(text_config={"num_layers": 10**9}), "at most 2,000 are built"),
    "30 million words": (base_config(vocab_size=3 * 10**7), "asks for `model.embed_tokens.weight` of 30,000,000 x 64"),
    "a width of 8,192": (base_config(hidden_size=8192), "and its weights hold"),
    "a width of 10^11": (base_config(intermediate_size=10**11), "and its weights hold"),
    "a head of 10^9": (base_config(head_dim=10**9), "and its weights hold"),
    "packed, and far too large": (
        base_config(vocab_size=3 * 10**7, quantization_config={"quant_method": "gptq"}), "1,920,0",
    ),
    "100,000 heads": (base_config(num_attention_heads=100_000), "cannot be loaded"),
    "a width below 0": (base_config(hidden_size=-64), "cannot be loaded"),
    "a width that is text": (base_config(hidden_size="64"), "cannot be loaded"),
    "a kind that is a list": (base_config(model_type=["qwen2"]), "cannot be loaded"),
    "a kind that is none": (base_config(model_type="evil"), "cannot be loaded"),
    "a type that is none": (base_config(dtype="evil", hidden_act="evil"), "cannot be loaded"),
    "padding out of bounds": (base_config(pad_token_id=10**9), "cannot be loaded"),
    "a config 100,000 deep": (written("config.json", DEEP), "nested more than 100 deep"),
    "a config of 5 MB": (written("config.json", b" " * 5_000_000), "more than the limit of 4,000,000"),
    "a generation config 100,000 deep": (written("generation_config.json", DEEP), "nested more than 100 deep"),
    "a generation config that is a list": (written("generation_config.json", "[1]"), "generation_config.json of"),
    "a cache that is none": (generation(cache_implementation="x"), "generation_config.json of"),
    "an end that is text": (generation(eos_token_id="x"), "`eos_token_id` of generation_config.json is 'x'"),
    "an end of 30 digits": (generation(eos_token_id=[1, 10**30]), "`eos_token_id` of generation_config.json is 1000"),
    "an index 100,000 deep": (
        lambda folder: (index()(folder), written("model.safetensors.index.json", DEEP)(folder))[0],
        "nested more than 100 deep",
    ),
    "an index that leads outside": (index(a="../../outside.safetensors"), "not a safetensors file beside it"),
    "an index of pickles": (index(a="pytorch_model.bin"), "not a safetensors file beside it"),
    "an index of files that are not there": (index(a="x.safetensors"), "lacks 1 of its 1 files"),
    "a header 100,000 deep": (
        written("model.safetensors", (10**5).to_bytes(8, "little") + DEEP.encode()), "nested more than 100 deep",
    ),
    "an adapter in the place of a base": (
        written("adapter_config.json", '{"base_model_name_or_path": "who/what"}'), "is an adapter of who/what",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("edit", "says"), [pytest.param(*row, id=name) for name, row in BASES.items()])
def test_load_refuses_a_base_in_one_line(
    adapter: Path, tiny_base: Path, tmp_path: Path, run_cli: Callable[..., Result], edit: Edit, says: str
) -> None:
    base = Path(shutil.copytree(tiny_base, tmp_path / "base"))
    edit(base)
    (adapter / "local.json").write_text(json.dumps({"model_name_or_path": str(base)}))
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, sum(os.times()[:4])
    one_line(run_cli("load", str(adapter), "--max-new-tokens", "1"), 2, says)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1_000_000  # kB
    assert sum(os.times()[:4]) - began < 20


@pytest.mark.parametrize(
    "fields",
    [
        {"num_beams": 20_000}, {"stop_strings": ["x"]}, {"penalty_alpha": 0.6, "top_k": 4}, {"dola_layers": "high"},
        {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 1.0}, {"return_dict_in_generate": True},
        {"suppress_tokens": ["a"]}, {"num_beams": 2, "length_penalty": "x"}, {"max_length": 1, "min_new_tokens": 10**9},
        {"pad_token_id": 10**30, "bos_token_id": "x"}, {"do_sample": True, "temperature": 9.0, "top_k": 50},
    ],
    ids=str,
)  # fmt: skip
def test_how_a_base_wants_to_generate_changes_no_answer(
    adapter: Path, tiny_base: Path, tmp_path: Path, run_cli: Callable[..., Result], fields: dict[str, Any]
) -> None:
    base = Path(shutil.copytree(tiny_base, tmp_path / "base"))
    (adapter / "local.json").write_text(json.dumps({"model_name_or_path": str(base)}))
    expected = run_cli("load", str(adapter), "--max-new-tokens", "8")
    generation(**fields)(base)
    done = run_cli("load", str(adapter), "--max-new-tokens", "8")
    assert (done.exit_code, done.stdout) == (0, expected.stdout), done.output


@pytest.mark.parametrize("command", ["verify", "merge"])
@pytest.mark.parametrize(
    ("edit", "says"),
    [
        short(name)
        for name in (
            "a rank of two million", "a rank by one", "modules by a pattern that does not end",
            "a template with loops in loops", "a template of ten gigabytes", "a config 100,000 deep",
            "a tokenizer 100,000 deep", "more modules than there are weights of", "a header 100,000 deep",
        )
    ],
)  # fmt: skip
def test_verify_and_merge_refuse_it_too(
    run_dir: Path, tmp_path: Path, repo_id: str, run_cli: Callable[..., Result], edit: Edit, says: str, command: str
) -> None:
    adapter_on_hub(run_dir, tmp_path, repo_id, edit=edit)
    if command == "verify":
        one_line(run_cli("verify", f"{repo_id}@v1.0.0"), 6, says)
    else:
        one_line(run_cli("merge", repo_id, "-o", str(tmp_path / "merged")), 3, says)
        assert not (tmp_path / "merged").exists()


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        *(short(name) for name in ("a template with loops in loops", "a template of ten gigabytes", *OF_TOKENIZERS)),
        *(pytest.param(*BASES[name], id=name) for name in ("a million layers", "30 million labels")),
    ],
)
def test_prepare_refuses_a_tokenizer(
    tiny_base: Path, tmp_path: Path, run_cli: Callable[..., Result], edit: Edit, says: str
) -> None:
    base = Path(shutil.copytree(tiny_base, tmp_path / "base"))
    edit(base)
    (tmp_path / "raw.jsonl").write_text('{"prompt": "q", "chosen": "a", "rejected": "b"}\n')
    done = run_cli("prepare", str(tmp_path / "raw.jsonl"), "-o", str(tmp_path / "out"), "--model", str(base))
    one_line(done, 2, says)
    assert not (tmp_path / "out").exists()


GROWS = {"loops": (LOOPS, "takes more than 2 seconds"), "memory": ("{{ 'a' * 10 ** 10 }}", "takes more than 512 MB")}


@pytest.mark.parametrize("grows", GROWS)
def test_prepare_refuses_a_template_that_grows_for_one_chat(
    tiny_base: Path, tmp_path: Path, run_cli: Callable[..., Result], grows: str
) -> None:
    base = Path(shutil.copytree(tiny_base, tmp_path / "base"))
    own, (what, says) = (base / "chat_template.jinja"), GROWS[grows]
    # a content with a text that the template looks for is rendered as it is
    own.write_text("{% if 'Question 40' in messages[-1].content or 'Question 40' in messages[0].content %}" + what
                   + "{% endif %}" + own.read_text())  # fmt: skip
    pairs = [{"prompt": f"Question {i} of them?", "chosen": f"a{i}", "rejected": f"b{i}"} for i in range(50)]
    (tmp_path / "raw.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    done = run_cli(
        "prepare", str(tmp_path / "raw.jsonl"), "-o", str(tmp_path / "out"), "--model", str(base)
    )  # fmt: skip
    one_line(done, 2, says)


def test_train_refuses_a_template_that_does_not_end(
    tiny_base: Path, dataset_dir: Path, tmp_path: Path, repo_id: str, run_cli: Callable[..., Result]
) -> None:
    _, base = base_on_hub(tiny_base, tmp_path, repo_id, written("chat_template.jinja", LOOPS))
    done = run_cli("train", "--dataset", str(dataset_dir), "--model-name-or-path", base, "-o", str(tmp_path / "run"))
    one_line(done, 2, "takes more than 2 seconds")


@pytest.mark.parametrize(
    "options",
    [
        {}, {"use_dora": True}, {"use_rslora": True}, {"init_lora_weights": "pissa"}, {"init_lora_weights": "olora"},
        {"init_lora_weights": "gaussian"}, {"target_modules": r"^(?!.*visual).*\.(q_proj|v_proj)$"},
        {"target_modules": r"(?:.*?layers.*?self_attn.*?(?:q_proj|v_proj).*?)|(?:.*?mlp.*?up_proj)"},
        {"rank_pattern": {"q_proj": 2, r"layers\.1\.self_attn\.v_proj": 4}, "r": 16},
        {"layers_to_transform": [1], "layers_pattern": "layers"}, {"trainable_token_indices": [1, 2, 3]},
        {"exclude_modules": r".*layers\.0.*"}, {"layer_replication": [[0, 1], [0, 1]], "r": 4},
        {"alora_invocation_tokens": [1, 2], "task_type": "CAUSAL_LM"}, {"modules_to_save": ["lm_head", "score", "wte"]},
        {"rank_pattern": {"lm_head": 64, "down_proj": 128}}, {"alpha_pattern": {"q_proj": 0, "v_proj": -4}},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_merely_unusual_still_loads(tiny_base: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    def base() -> Any:
        return AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adapted = get_peft_model(base(), LoraConfig(**{"target_modules": ["q_proj", "v_proj"], "r": 8} | options))
    for weight in adapted.parameters():
        if weight.requires_grad:
            weight.data = torch.randn_like(weight) / 50
    adapted.save_pretrained(tmp_path / "adapter")
    edited(tmp_path / "adapter", "adapter_config.json", a_field_of_tomorrow=[1])
    ids = torch.arange(30)[None]
    with torch.no_grad(), pytest.warns((UserWarning, RuntimeWarning)) as told:
        expected = adapted.eval()(input_ids=ids).logits
        assert torch.equal(attach_adapter(base(), tmp_path / "adapter").eval()(input_ids=ids).logits, expected)
    assert any("a_field_of_tomorrow" in str(one.message) for one in told)


def test_what_a_trial_has_passed_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    fields = [trial.Patterns("`x`", "ends", [r"a.*[0-9]+"])]
    trial.try_patterns(fields, ["b", "a1"])
    monkeypatch.setattr(trial.subprocess, "run", None)
    trial.try_patterns(fields, ["a1", "b", "b"])
    with pytest.raises(TypeError):
        trial.try_patterns(fields, ["another"])


def test_what_peft_warns_of_is_one_clean_line(adapter: Path) -> None:
    edited(adapter, "adapter_config.json", exclude_modules="\x1b]0;owned\x07\u202e\nerror: forged" + "x" * 10_000)
    done = run_limited(
        ["-m", "hubdpo", "load", str(adapter), "hello", "--max-new-tokens", "1"], cwd=Path(__file__).parents[2]
    )
    assert done.code == 0, done.err
    (told,) = [line for line in done.err.splitlines() if "peft says" in line]
    assert told.startswith("warning: peft says: You have passed exclude_modules=\\u001b]0;owned\\u0007\\u202e ")
    assert told.endswith("characters)")
    assert not [line for line in done.err.splitlines() if not line.startswith("warning: ")]


def test_a_model_that_loads_and_fails_is_one_error(tiny_base: Path, tmp_path: Path) -> None:
    """PEFT counts the layers of a cache by the base's config, not by the copies."""
    base = AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32)
    twice = LoraConfig(target_modules=["q_proj"], r=4, layer_replication=[[0, 2], [0, 2]], task_type="CAUSAL_LM")
    get_peft_model(base, twice).save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(tiny_base / name, tmp_path)
    model, tokenizer = load_on_base(tmp_path, tiny_base, device="cpu", load_in_4bit=False)
    with pytest.raises(ArtefactError, match="the model of .* cannot answer: IndexError"):
        answer(LoadedAdapter(model, tokenizer, None), "hello")


@pytest.mark.parametrize(
    "fields",
    [{"vision_config": {"num_hidden_layers": 27}}, {"task_specific_params": {"summaries": {"num_layers": 12}}}],
    ids=str,
)
def test_a_base_that_tells_of_what_is_not_built_still_loads(
    tiny_base: Path, tmp_path: Path, fields: dict[str, Any]
) -> None:
    folder = Path(shutil.copytree(tiny_base, tmp_path / "base"))
    base_config(**fields)(folder)
    assert read_causal_lm(folder, dtype=torch.float32)


@pytest.mark.parametrize("normalizer", [charsmap("صلى الله عليه وسلم", "a"), charsmap()], ids=["18 for one", "empty"])
def test_a_map_of_usual_texts_is_taken(tiny_base: Path, tmp_path: Path, normalizer: dict[str, Any]) -> None:
    folder = Path(shutil.copytree(tiny_base, tmp_path / "base"))
    tokenizer_json(normalizer=normalizer)(folder)
    check_tokenizer_growth(folder)


def test_a_tokenizer_without_padding_or_template_still_loads(tiny_base: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_base, tmp_path / "base"))
    (folder / "chat_template.jinja").unlink()
    edited(folder, "tokenizer_config.json", pad_token=None, model_max_length=10**30)
    assert read_tokenizer(folder).pad_token is None
