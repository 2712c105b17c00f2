"""How to run an adapter in each program: its code or commands, what breaks it there, and whether it ever ran.

`make downstream` takes these commands from a card and runs them as they stand (`tests/downstream`).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from hubdpo.artefacts.manifests.manifest import RUN_FILE
from hubdpo.cards.model.proofs import Proof, read_proofs
from hubdpo.cards.model.serving import (
    CHAT_TEMPLATE,
    LLAMA_CPP,
    PEFT,
    PICKLED,
    TGI,
    TRANSFORMERS,
    VLLM,
    VLLM_RANKS,
    WEIGHTS,
    Adapter,
    Problem,
    vllm_rank,
)
from hubdpo.config.flags import quoted
from hubdpo.config.repo_id import is_repo_id

TRANSFORMERS_SERVE, OLLAMA, MLX = "transformers serve", "Ollama", "MLX"
OF_THE_MERGED = (TRANSFORMERS_SERVE, OLLAMA, MLX)
"""Programs that load no adapter, and run the merged model."""
NOT_MERGED = (
    "base_model_name_or_path", "peft_type", "modules_to_save", "bias", "lora_bias", "trainable_token_indices",
    "embeddings", WEIGHTS, PICKLED,
)  # fmt: skip
"""Fields of adapters that `hubdpo merge` does not take, where they are a problem."""
QUESTION = "How do I keep basil alive on a windowsill?"
GET_CONVERTERS = """\
git clone --depth 1 https://github.com/ggml-org/llama.cpp
pip install --requirement llama.cpp/requirements/requirements-convert_lora_to_gguf.txt"""


@dataclass(frozen=True)
class Program:
    """A program that runs adapters: its commands or code, the fields that break it, and what was seen of it."""

    name: str
    language: str
    code: str
    broken_by: tuple[str, ...] = ()
    proof: Proof | None = None

    @property
    def works(self) -> bool:
        return not self.broken_by

    @property
    def ran(self) -> str:
        """Say in which version the commands ran, and how near the answers came to PEFT's."""
        return f"tested with {self.proof.words}" if self.proof is not None else "not tested"


class _Names(NamedTuple):
    """How the commands name the adapter and its base."""

    literal: str
    """USER/NAME or a folder, as Python writes it; the others are words of a shell."""
    base: str
    """The base, with `--revision` where it is pinned."""
    base_name: str
    source: str
    """USER/NAME@TAG or the folder, for hubdpo and TGI."""
    folder: str
    """The folder of the adapter, after `fetch`."""
    fetch: str
    """The command that downloads the adapter, "" for a folder."""


def programs(adapter: Adapter, known: Collection[Problem]) -> list[Program]:
    """Return the code or commands for each program, and which of the `known` problems break it."""
    proofs = read_proofs()
    return [
        Program(name, language, code, tuple(one.field for one in known if _breaks(one, name)), proofs.get(name))
        for name, language, code in _codes(adapter)
    ]


def _breaks(problem: Problem, name: str) -> bool:
    return problem.field in NOT_MERGED if name in OF_THE_MERGED else name in problem.breaks


def _codes(adapter: Adapter) -> Iterator[tuple[str, str, str]]:
    names = _names(adapter)
    yield PEFT, "python", _peft(adapter, names)
    yield TRANSFORMERS, "python", _transformers(adapter, names)
    yield VLLM, "bash", _vllm(adapter, names)
    yield LLAMA_CPP, "bash", _llama_cpp(adapter, names)
    launcher = f"LORA_ADAPTERS={names.source if adapter.on_the_hub else f'{adapter.name}={names.folder}'}"
    yield TGI, "bash", f"{launcher} \\\n  text-generation-launcher --model-id {names.base}"
    merge = _merge(adapter, names)
    yield TRANSFORMERS_SERVE, "bash", f"{merge}\ntransformers serve ./{adapter.name}-merged"
    yield (
        OLLAMA, "bash", f"""\
{merge}
{GET_CONVERTERS}
python llama.cpp/convert_hf_to_gguf.py {adapter.name}-merged --outfile {adapter.name}-merged.gguf
echo "FROM ./{adapter.name}-merged.gguf" > Modelfile
ollama create {adapter.name} --file Modelfile
ollama run {adapter.name}""",
    )  # fmt: skip
    yield (
        MLX, "bash", f"""\
{merge}
mlx_lm.convert --hf-path {adapter.name}-merged --mlx-path {adapter.name}-mlx
mlx_lm.server --model {adapter.name}-mlx""",
    )  # fmt: skip


def _merge(adapter: Adapter, names: _Names) -> str:
    """Return the command that merges a run or a release, which an adapter of another tool becomes first."""
    if RUN_FILE in adapter.files:
        return f"hubdpo merge {names.source} --output-dir {adapter.name}-merged"
    base = names.base.replace(" --revision ", "@")
    adopted = f"hubdpo adopt {names.source} --base {base} --output-dir {adapter.name}-run"
    return f"{adopted}\nhubdpo merge {adapter.name}-run --output-dir {adapter.name}-merged"


def _names(adapter: Adapter) -> _Names:
    place, tag, commit = adapter.location, adapter.tag, adapter.base_commit
    base = adapter.base if adapter.base and is_repo_id(adapter.base, owner_required=False) else "BASE"
    revision = f" --revision {tag}" if tag else ""
    fetched = adapter.on_the_hub
    return _Names(
        literal=json.dumps(place, ensure_ascii=False),
        base=f"{base} --revision {commit}" if commit else base,
        base_name=base.rpartition("/")[2], source=quoted(f"{place}@{tag}" if tag else place),
        folder="./adapter" if fetched else quoted(place),
        fetch=f"hf download {place}{revision} --local-dir adapter\n" if fetched else "",
    )  # fmt: skip


def _peft(adapter: Adapter, names: _Names) -> str:
    pinned = ", revision=tag" if adapter.tag else ""
    return f"""\
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer

{f'adapter, tag = {names.literal}, "{adapter.tag}"' if adapter.tag else f"adapter = {names.literal}"}
load = dict(dtype="auto", device_map="auto")
model = AutoPeftModelForCausalLM.from_pretrained(adapter{pinned}, **load)
tokenizer = AutoTokenizer.from_pretrained(adapter{pinned})
chat = [{{"role": "user", "content": "{QUESTION}"}}]
options = dict(add_generation_prompt=True, return_tensors="pt", return_dict=True)
inputs = tokenizer.apply_chat_template(chat, **options)
answer = model.generate(**inputs.to(model.device), max_new_tokens=64)
print(tokenizer.decode(answer[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))"""


def _transformers(adapter: Adapter, names: _Names) -> str:
    base = names.base.partition(" ")[0]
    base_pinned = f', revision="{adapter.base_commit}"' if adapter.base_commit else ""
    adapter_pinned = f', adapter_kwargs={{"revision": "{adapter.tag}"}}' if adapter.tag else ""
    return f"""\
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained("{base}"{base_pinned})
model.load_adapter({names.literal}{adapter_pinned})"""


def _vllm(adapter: Adapter, names: _Names) -> str:
    rank = vllm_rank(adapter.rank) or VLLM_RANKS[-1]
    template = f" \\\n  --chat-template {names.folder}/{CHAT_TEMPLATE}" if adapter.own_template else ""
    return f"""\
{names.fetch}vllm serve {names.base} \\
  --enable-lora --max-lora-rank {rank} --lora-modules {adapter.name}={names.folder}{template}"""


def _llama_cpp(adapter: Adapter, names: _Names) -> str:
    base, lora = f"{names.base_name}.gguf", f"{adapter.name}-lora.gguf"
    return f"""\
{GET_CONVERTERS}
{names.fetch}hf download {names.base} --local-dir base-model
python llama.cpp/convert_hf_to_gguf.py base-model --outfile {base}
python llama.cpp/convert_lora_to_gguf.py {names.folder} --base base-model --outtype f16 --outfile {lora}
llama-server --model {base} --lora {lora}"""
