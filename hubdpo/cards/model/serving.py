"""What it takes to run an adapter with PEFT, transformers, vLLM, llama.cpp and TGI, and what they stumble over.

All of it is told from the config and from the header of the weights; nothing is loaded. Where a rule comes from is
said beside it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from hubdpo.cards.lint.hub_fields import is_id

PEFT, TRANSFORMERS, VLLM, LLAMA_CPP, TGI = "PEFT", "transformers", "vLLM", "llama.cpp", "TGI"
ALL = (PEFT, TRANSFORMERS, VLLM, LLAMA_CPP, TGI)
SERVERS = (VLLM, LLAMA_CPP, TGI)
VLLM_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Values that every vLLM takes for `--max-lora-rank` (vllm/config/lora.py, `MaxLoRARanks`)."""

VARIANTS = {
    "use_dora": ("adds magnitudes to the LoRA matrices, which these servers do not know", SERVERS),
    "lora_bias": ("trains a bias beside the LoRA matrices, which these servers do not load", SERVERS),
    "trainable_token_indices": ("changes rows of the embedding", SERVERS),
    "layer_replication": ("builds a deeper model out of the base's layers, which these servers do not", SERVERS),
    "use_qalora": ("pools the inputs of the LoRA matrices, which these servers do not", SERVERS),
    "use_bdlora": ("keeps the LoRA matrices in blocks, which these servers take for whole ones", SERVERS),
    "alora_invocation_tokens": ("acts from certain tokens on; these apply it to all, or refuse it", (VLLM, TGI)),
}
"""Fields of LoRA's variants: what they do, and who cannot run that (vllm/lora/peft_helper.py of vLLM 0.32)."""
PLAIN_INITS = ("gaussian", "eva", "orthogonal", "mica", "lora_ga")
"""Named ways to begin that leave the base's weights as they are when the adapter is loaded."""

WEIGHTS, PICKLED = "adapter_model.safetensors", "adapter_model.bin"
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
SHA = re.compile(r"[0-9a-f]{40}")
QUESTION = "How do I keep basil alive on a windowsill?"


@dataclass(frozen=True)
class Adapter:
    """What is known of an adapter without loading it.

    `place` is USER/NAME or a folder, `tag` the revision to ask for.
    """

    config: Mapping[str, Any]
    shapes: Mapping[str, tuple[int, ...]]
    files: Collection[str]
    place: str
    tag: str | None = None
    tokens: int | None = None
    """Tokens of the tokenizer beside the adapter."""
    vocabulary: int | None = None
    """Rows of the base's embedding."""

    @property
    def base(self) -> str | None:
        value = self.config.get("base_model_name_or_path")
        return value if isinstance(value, str) and value else None

    @property
    def base_commit(self) -> str | None:
        value = self.config.get("revision")
        return value if isinstance(value, str) and value else None

    @property
    def rank(self) -> int:
        """The largest rank of any projection."""
        ranks = [shape[0] for name, shape in self.shapes.items() if name.endswith("lora_A.weight") and shape]
        ranks += [rank for rank in (self.config.get("rank_pattern") or {}).values() if isinstance(rank, int)]
        return max([*ranks, int(self.config.get("r") or 0)])

    @property
    def parameters(self) -> int:
        return sum(_product(shape) for shape in self.shapes.values())

    @property
    def name(self) -> str:
        return self.place.rstrip("/").rpartition("/")[2] or "adapter"

    @property
    def on_the_hub(self) -> bool:
        return is_id(self.place) and "/" in self.place


@dataclass(frozen=True)
class Problem:
    """Something about `field`, and the programs that refuse the adapter or run it as something else because of it."""

    field: str
    message: str
    breaks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Way:
    """One program: what to type, and why that does not work, where it does not."""

    name: str
    language: str
    code: str
    broken_by: tuple[str, ...] = field(default=())

    @property
    def works(self) -> bool:
        return not self.broken_by


def vllm_rank(rank: int) -> int | None:
    """Return the least `--max-lora-rank` that holds an adapter of this rank; None when vLLM has none."""
    return next((allowed for allowed in VLLM_RANKS if allowed >= rank), None)


def ways(adapter: Adapter, found: Collection[Problem]) -> list[Way]:
    """Return what to type for each program, with what breaks it."""
    codes = {
        PEFT: ("python", _peft(adapter)),
        TRANSFORMERS: ("python", _transformers(adapter)),
        VLLM: ("bash", _vllm(adapter)),
        LLAMA_CPP: ("bash", _llama_cpp(adapter)),
        TGI: ("bash", _tgi(adapter)),
    }
    return [
        Way(name, *codes[name], tuple(problem.field for problem in found if name in problem.breaks)) for name in ALL
    ]


def problems(adapter: Adapter) -> list[Problem]:
    """Return all that keeps an adapter from running somewhere, and what makes it unsafe or unpinned."""
    return [*_base(adapter), *_files(adapter), *_method(adapter), *_tensors(adapter)]


def _base(adapter: Adapter) -> Iterator[Problem]:
    where = "base_model_name_or_path"
    if adapter.base is None:
        yield Problem(where, "names no base model", (PEFT, TRANSFORMERS))
    elif not is_id(adapter.base):
        yield Problem(where, "is a path of the machine that trained it, which nobody else has", (PEFT, TRANSFORMERS))
    if adapter.base_commit is None:
        yield Problem("revision", "names no commit of the base: PEFT takes the base's main, which may move on")
    elif not SHA.fullmatch(adapter.base_commit):
        yield Problem("revision", f"is `{adapter.base_commit}`, not a commit: the base that it names may move on")
    task = adapter.config.get("task_type")
    if task is None:
        yield Problem(
            "task_type", "is missing: the Hub shows no snippet for the adapter, and PEFT cannot check its class"
        )
    elif task != "CAUSAL_LM":
        # peft/auto.py: the class must be that of the task
        yield Problem("task_type", f"is {task}: AutoPeftModelForCausalLM refuses it", (PEFT, *SERVERS))


def _files(adapter: Adapter) -> Iterator[Problem]:
    if WEIGHTS not in adapter.files:
        if PICKLED in adapter.files:
            # text_generation_server/utils/adapter.py looks for .safetensors alone
            yield Problem(PICKLED, "is a pickle, which can run code when it is loaded; save it as safetensors", (TGI,))
        else:
            yield Problem(WEIGHTS, "is missing: there are no weights", ALL)
    for name in sorted(adapter.files):
        if name.endswith(PICKLES) and name != PICKLED:
            yield Problem(
                name, "is a pickle, which can run code when it is loaded; it is not needed to use the adapter"
            )


def _method(adapter: Adapter) -> Iterator[Problem]:
    config = adapter.config
    if (kind := config.get("peft_type")) != "LORA":
        yield Problem("peft_type", f"is {kind}; these servers take LORA alone", SERVERS)
        return
    if saved := config.get("modules_to_save"):
        # vllm/lora/peft_helper.py and llama.cpp's convert_lora_to_gguf.py refuse; TGI reads lora_A and lora_B alone
        yield Problem("modules_to_save", f"holds whole layers ({', '.join(saved)}), not only LoRA matrices", SERVERS)
    if config.get("bias", "none") != "none":
        yield Problem("bias", "is trained as well, which these servers do not load", SERVERS)
    yield from (Problem(name, *told) for name, told in VARIANTS.items() if config.get(name))
    init = config.get("init_lora_weights")
    if isinstance(init, str) and init.lower() not in PLAIN_INITS:
        yield Problem(
            "init_lora_weights", f"is {init}, which changes the weights of the base: these servers do not", SERVERS
        )
    if config.get("use_rslora"):
        # the converter writes lora_alpha, and llama.cpp divides it by the rank
        yield Problem(
            "use_rslora", "divides by the root of the rank, llama.cpp by the rank: it scales wrong", (LLAMA_CPP,)
        )
    if config.get("rank_pattern"):
        yield Problem("rank_pattern", "gives layers ranks of their own; TGI reads one `r`, and scales wrong", (TGI,))
    if config.get("alpha_pattern"):
        yield Problem(
            "alpha_pattern", "gives layers scales of their own; these read one `lora_alpha`", (LLAMA_CPP, TGI)
        )
    if vllm_rank(adapter.rank) is None:
        yield Problem("r", f"is {adapter.rank}, and vLLM takes at most {VLLM_RANKS[-1]}", (VLLM,))


def _tensors(adapter: Adapter) -> Iterator[Problem]:
    whole = [name for name in adapter.shapes if re.search(r"(embed_tokens|lm_head)(\.base_layer)?\.weight$", name)]
    if whole:
        size = sum(_product(adapter.shapes[name]) for name in whole)
        yield Problem(
            "embeddings", f"are saved whole, {size:,} parameters of them: was the vocabulary resized?", SERVERS
        )
    if any("lm_head.lora_" in name for name in adapter.shapes):
        yield Problem(
            "lm_head", "is adapted, which the converter refuses where the base ties it to its embedding", (LLAMA_CPP,)
        )
    if adapter.tokens and adapter.vocabulary and adapter.tokens > adapter.vocabulary:
        yield Problem(
            "tokenizer.json",
            f"has {adapter.tokens:,} tokens and the base {adapter.vocabulary:,} rows, so AutoPeft resizes the base",
            SERVERS,
        )
    told = adapter.config.get("r")
    patterns = adapter.config.get("rank_pattern")
    if isinstance(told, int) and not patterns and adapter.shapes:
        odd = [n for n, shape in adapter.shapes.items() if n.endswith("lora_A.weight") and shape and shape[0] != told]
        if odd:
            yield Problem(
                "r", f"is {told}, and {odd[0]} has rank {adapter.shapes[odd[0]][0]}: config and weights differ", ALL
            )


def _peft(adapter: Adapter) -> str:
    pinned = ", revision=tag" if adapter.tag else ""
    return f"""\
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer

{f'adapter, tag = "{adapter.place}", "{adapter.tag}"' if adapter.tag else f'adapter = "{adapter.place}"'}
model = AutoPeftModelForCausalLM.from_pretrained(adapter{pinned}, dtype="auto", device_map="auto")
tokenizer = AutoTokenizer.from_pretrained(adapter{pinned})
chat = [{{"role": "user", "content": "{QUESTION}"}}]
inputs = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
answer = model.generate(**inputs.to(model.device), max_new_tokens=64)
print(tokenizer.decode(answer[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))"""


def _transformers(adapter: Adapter) -> str:
    pinned = f', adapter_kwargs={{"revision": "{adapter.tag}"}}' if adapter.tag else ""
    return (
        "from transformers import AutoModelForCausalLM\n\n"
        f'model = AutoModelForCausalLM.from_pretrained("{_base_name(adapter)}"{_commit(adapter)})\n'
        f'model.load_adapter("{adapter.place}"{pinned})'
    )


def _vllm(adapter: Adapter) -> str:
    rank = vllm_rank(adapter.rank) or VLLM_RANKS[-1]
    folder, fetch = _folder(adapter)
    return (
        f"{fetch}vllm serve {_base_name(adapter)}{_revision(adapter)} \\\n"
        f"  --enable-lora --max-lora-rank {rank} --lora-modules {adapter.name}={folder}"
    )


def _llama_cpp(adapter: Adapter) -> str:
    folder, fetch = _folder(adapter)
    base = _base_name(adapter)
    return (
        f'{fetch}hf download {base}{_revision(adapter)} --include "*.json" --local-dir base\n'
        f"python convert_lora_to_gguf.py {folder} --base base --outtype f16 --outfile {adapter.name}.gguf\n"
        f"llama-server --model base.gguf --lora {adapter.name}.gguf"
    )


def _tgi(adapter: Adapter) -> str:
    what = adapter.place + (f"@{adapter.tag}" if adapter.tag else "")
    if not adapter.on_the_hub:
        what = f"{adapter.name}={adapter.place}"
    return f"LORA_ADAPTERS={what} \\\n  text-generation-launcher --model-id {_base_name(adapter)}{_revision(adapter)}"


def _folder(adapter: Adapter) -> tuple[str, str]:
    """Return the folder with the adapter, and the command that fetches it."""
    if not adapter.on_the_hub:
        return adapter.place, ""
    revision = f" --revision {adapter.tag}" if adapter.tag else ""
    return "./adapter", f"hf download {adapter.place}{revision} --local-dir adapter\n"


def _base_name(adapter: Adapter) -> str:
    return adapter.base if adapter.base and is_id(adapter.base) else "BASE"


def _commit(adapter: Adapter) -> str:
    return f', revision="{adapter.base_commit}"' if adapter.base_commit else ""


def _revision(adapter: Adapter) -> str:
    return f" --revision {adapter.base_commit}" if adapter.base_commit else ""


def _product(shape: tuple[int, ...]) -> int:
    size = 1
    for side in shape:
        size *= side
    return size
