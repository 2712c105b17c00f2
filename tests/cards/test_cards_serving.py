"""Known problems of adapters with other programs, and the commands to run them."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from hubdpo.cards.model.programs import NOT_MERGED, OF_THE_MERGED, programs
from hubdpo.cards.model.serving import (
    ALL,
    LLAMA_CPP,
    PEFT,
    SERVERS,
    TGI,
    TRANSFORMERS,
    VLLM,
    Adapter,
    problems,
    vllm_rank,
)
from tests.cards.made import CONFIG, SHAPES

FILES = ("adapter_model.safetensors", "adapter_config.json")
EMBEDDING = {"base_model.model.model.embed_tokens.weight": (1000, 64)}


def adapter(config: dict[str, Any] | None = None, **changes: Any) -> Adapter:
    shapes = changes.pop("shapes", SHAPES)
    files = changes.pop("files", FILES)
    return Adapter({**CONFIG, **(config or {})}, shapes, files, "me/adapter", "v1.0.0", **changes)


def test_an_adapter_of_hubdpo_runs_everywhere() -> None:
    assert problems(adapter()) == []
    assert all(program.works for program in programs(adapter(), []))


PROBLEMS: dict[str, tuple[Adapter, str, tuple[str, ...]]] = {
    "path of a machine": (
        adapter({"base_model_name_or_path": "/home/me/Qwen2"}), "base_model_name_or_path", (PEFT, TRANSFORMERS),
    ),
    "no base": (adapter({"base_model_name_or_path": None}), "base_model_name_or_path", (PEFT, TRANSFORMERS)),
    "no revision": (adapter({"revision": None}), "revision", ()),
    "branch for a revision": (adapter({"revision": "main"}), "revision", ()),
    "no task": (adapter({"task_type": None}), "task_type", ()),
    "classifier": (adapter({"task_type": "SEQ_CLS"}), "task_type", (PEFT, *SERVERS)),
    "pickled weights": (adapter(files=("adapter_model.bin",)), "adapter_model.bin", (TGI,)),
    "no weights": (adapter(files=()), "adapter_model.safetensors", ALL),
    "pickle beside them": (adapter(files=(*FILES, "training_args.bin")), "training_args.bin", ()),
    "not LoRA": (adapter({"peft_type": "IA3"}), "peft_type", SERVERS),
    "whole layers": (adapter({"modules_to_save": ["lm_head"]}), "modules_to_save", SERVERS),
    "DoRA": (adapter({"use_dora": True}), "use_dora", SERVERS),
    "bias": (adapter({"bias": "all"}), "bias", SERVERS),
    "bias beside": (adapter({"lora_bias": True}), "lora_bias", SERVERS),
    "base changed at the start": (adapter({"init_lora_weights": "PiSSA"}), "init_lora_weights", SERVERS),
    "base changed step by step": (adapter({"init_lora_weights": "pissa_niter_4"}), "init_lora_weights", SERVERS),
    "activated": (adapter({"alora_invocation_tokens": [1, 2]}), "alora_invocation_tokens", (VLLM, TGI)),
    "quantisation-aware": (adapter({"use_qalora": True}), "use_qalora", SERVERS),
    "layers repeated": (adapter({"layer_replication": [[0, 2], [1, 3]]}), "layer_replication", SERVERS),
    "in blocks": (adapter({"use_bdlora": {"nblocks": 2}}), "use_bdlora", SERVERS),
    "token rows": (adapter({"trainable_token_indices": [1]}), "trainable_token_indices", SERVERS),
    "rank-stabilised": (adapter({"use_rslora": True}), "use_rslora", (LLAMA_CPP,)),
    "ranks by layer": (adapter({"rank_pattern": {"q_proj": 32}}), "rank_pattern", (TGI,)),
    "alphas by layer": (adapter({"alpha_pattern": {"q_proj": 32}}), "alpha_pattern", (LLAMA_CPP, TGI)),
    "rank too high": (adapter({"r": 1024}, shapes={"x.lora_A.weight": (1024, 2)}), "r", (VLLM,)),
    "rank of other weights": (adapter({"r": 8}), "r", ALL),
    "embedding saved": (adapter(shapes=SHAPES | EMBEDDING), "embeddings", SERVERS),
    "head adapted": (adapter(shapes={**SHAPES, "lm_head.lora_A.weight": (16, 64)}), "lm_head", (LLAMA_CPP,)),
    "tokens added": (adapter(tokens=1001, vocabulary=1000), "tokenizer.json", SERVERS),
}  # fmt: skip


@pytest.mark.parametrize(("made", "field", "breaks"), PROBLEMS.values(), ids=PROBLEMS)
def test_the_broken_programs_of_a_problem_are_named(made: Adapter, field: str, breaks: tuple[str, ...]) -> None:
    (found,) = problems(made)
    assert (found.field, found.breaks) == (field, breaks)
    merged = set(OF_THE_MERGED if field in NOT_MERGED else ())
    assert {program.name for program in programs(made, [found]) if not program.works} == {*breaks, *merged}


@pytest.mark.parametrize("init", [True, False, None, "gaussian", "eva", "orthogonal"])
def test_a_start_that_leaves_the_base_alone_is_no_problem(init: Any) -> None:
    assert problems(adapter({"init_lora_weights": init})) == []


def test_tokens_below_the_rows_of_the_embedding_are_no_problem() -> None:
    # Qwen2 has 151,646 tokens and 151,936 rows
    assert problems(adapter(tokens=151_646, vocabulary=151_936)) == []


@pytest.mark.parametrize(("rank", "allowed"), [(1, 8), (8, 8), (12, 16), (33, 64), (257, 320), (512, 512), (513, None)])
def test_vllm_takes_some_ranks_only(rank: int, allowed: int | None) -> None:
    assert vllm_rank(rank) == allowed


def test_the_largest_rank_of_any_layer_counts() -> None:
    made = adapter({"rank_pattern": {"q_proj": 48}})
    assert made.rank == 48
    assert "--max-lora-rank 64 " in {program.name: program.code for program in programs(made, [])}[VLLM]


def test_commands_pin_the_adapter_and_its_base() -> None:
    for program in programs(adapter(), []):
        assert "v1.0.0" in program.code
        if program.name not in (PEFT, *OF_THE_MERGED):  # which read it from the config, or the run
            assert CONFIG["revision"] in program.code
    assert "LORA_ADAPTERS=me/adapter@v1.0.0" in {program.name: program.code for program in programs(adapter(), [])}[TGI]


def test_a_folder_is_named_as_it_is() -> None:
    made = Adapter(CONFIG, SHAPES, FILES, "/runs/one")
    codes = {program.name: program.code for program in programs(made, [])}
    assert "--lora-modules one=/runs/one" in codes[VLLM]
    assert "LORA_ADAPTERS=one=/runs/one" in codes[TGI]
    assert 'load_adapter("/runs/one")' in codes[TRANSFORMERS]
    assert "hf download me" not in "".join(codes.values())


def test_the_commands_of_a_folder_can_be_pasted() -> None:
    for files in (FILES, (*FILES, "run.json")):
        made = Adapter(CONFIG, SHAPES, files, 'my "runs"/a; b', None)
        for program in programs(made, []):
            if program.language == "python":
                assert '"my \\"runs\\"/a; b"' in program.code
            else:
                words = shlex.split(program.code.replace("\\\n", ""), comments=False)
                assert any('my "runs"/a; b' in word for word in words) and "b" not in words


def test_a_name_for_files_and_servers_is_one_plain_word() -> None:
    made = Adapter(CONFIG, SHAPES, FILES, "/my runs/ad'opted $(x) ü/")
    assert made.name == "ad-opted-x"
    assert "--outfile ad-opted-x-lora.gguf" in {one.name: one.code for one in programs(made, [])}[LLAMA_CPP]


def test_a_base_that_nobody_else_has_is_left_open() -> None:
    codes = {
        program.name: program.code for program in programs(adapter({"base_model_name_or_path": "/home/me/Qwen2"}), [])
    }
    assert "vllm serve BASE" in codes[VLLM]
    assert "/home/me" not in "".join(codes.values())


def test_the_base_of_llama_cpp_is_made_by_a_command_under_a_name_of_its_own() -> None:
    code = {program.name: program.code for program in programs(adapter(), [])}[LLAMA_CPP].splitlines()
    assert "python llama.cpp/convert_hf_to_gguf.py base-model --outfile Qwen2-0.5B-Instruct.gguf" in code
    assert code[-1] == "llama-server --model Qwen2-0.5B-Instruct.gguf --lora adapter-lora.gguf"


def test_an_adapter_of_another_tool_is_adopted_before_it_is_merged() -> None:
    codes = {program.name: program.code.splitlines() for program in programs(adapter(), [])}
    base = f"{CONFIG['base_model_name_or_path']}@{CONFIG['revision']}"
    adopt = f"hubdpo adopt me/adapter@v1.0.0 --base {base} --output-dir adapter-run"
    merge = "hubdpo merge adapter-run --output-dir adapter-merged"
    assert all(codes[name][:2] == [adopt, merge] for name in OF_THE_MERGED)
    ours = {program.name: program.code for program in programs(adapter(files=(*FILES, "run.json")), [])}
    merge = "hubdpo merge me/adapter@v1.0.0 --output-dir adapter-merged\n"
    assert all(ours[name].startswith(merge) for name in OF_THE_MERGED)
