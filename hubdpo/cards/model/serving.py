"""What the programs that load adapters cannot run of one: its fields, and the programs that each of them breaks.

The rules need only the adapter config and the header of the weights: no model is loaded. Comments name their sources.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hubdpo.config.repo_id import is_repo_id
from hubdpo.hub.reference import COMMIT

PEFT, TRANSFORMERS, VLLM, LLAMA_CPP, TGI = "PEFT", "transformers", "vLLM", "llama.cpp", "TGI"
ALL = (PEFT, TRANSFORMERS, VLLM, LLAMA_CPP, TGI)
"""The programs that load an adapter. Those of the merged model run what `hubdpo merge` takes (`programs.py`)."""
SERVERS = (VLLM, LLAMA_CPP, TGI)
VLLM_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Values that vLLM accepts for `--max-lora-rank` (vllm/config/lora.py, `MaxLoRARanks`)."""

UNSUPPORTED = {
    "use_dora": ("adds magnitudes to the LoRA matrices, which these servers do not support", SERVERS),
    "lora_bias": ("trains a bias with the LoRA matrices, which these servers do not load", SERVERS),
    "trainable_token_indices": ("changes rows of the embedding", SERVERS),
    "layer_replication": ("repeats layers of the base model, which these servers do not support", SERVERS),
    "use_qalora": ("pools the inputs of the LoRA matrices, which these servers do not support", SERVERS),
    "use_bdlora": ("stores the LoRA matrices in blocks, which these servers read as whole matrices", SERVERS),
    "alora_invocation_tokens": (
        "applies from certain tokens on; these apply it to all tokens, or refuse it",
        (VLLM, TGI),
    ),
    # the converter writes lora_alpha, which llama.cpp divides by the rank
    "use_rslora": (
        "divides by the root of the rank, llama.cpp by the rank: only the file of `hubdpo export` keeps the scale",
        (LLAMA_CPP,),
    ),
    "rank_pattern": ("sets ranks per module; TGI reads a single `r` and scales wrongly", (TGI,)),
    "alpha_pattern": ("sets the scale per module, but these read a single `lora_alpha`", (LLAMA_CPP, TGI)),
}
"""Fields that some programs do not support when they are set: their effect, and these programs.

vLLM's list is in vllm/lora/peft_helper.py (0.32).
"""
PLAIN_INITS = ("gaussian", "eva", "orthogonal", "mica", "lora_ga")
"""Initialisations that do not change the base model's weights when the adapter is loaded."""

WEIGHTS, PICKLED = "adapter_model.safetensors", "adapter_model.bin"
CHAT_TEMPLATE = "chat_template.jinja"
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")


@dataclass(frozen=True)
class Adapter:
    """An adapter: its config, the shapes of its tensors, and the files in its repo or folder.

    `location` is USER/NAME or a folder, `tag` the revision to load.
    """

    config: Mapping[str, Any]
    shapes: Mapping[str, tuple[int, ...]]
    files: Collection[str]
    location: str
    tag: str | None = None
    tokens: int | None = None
    """Number of tokens of the adapter's tokenizer."""
    vocabulary: int | None = None
    """Number of rows of the base model's embedding."""
    own_template: bool = False
    """Whether it was trained with another chat template than the base's, which its folder holds."""

    @property
    def base(self) -> str | None:
        return self._text("base_model_name_or_path")

    @property
    def base_commit(self) -> str | None:
        return self._text("revision")

    def _text(self, field: str) -> str | None:
        value = self.config.get(field)
        return value if isinstance(value, str) and value else None

    @property
    def rank(self) -> int:
        """The largest rank of any module."""
        ranks = [shape[0] for name, shape in self.shapes.items() if name.endswith("lora_A.weight") and shape]
        ranks += [rank for rank in (self.config.get("rank_pattern") or {}).values() if isinstance(rank, int)]
        return max([*ranks, int(self.config.get("r") or 0)])

    @property
    def parameters(self) -> int:
        return sum(map(math.prod, self.shapes.values()))

    @property
    def name(self) -> str:
        """A name for files and servers, which is one word in a shell."""
        last = self.location.rstrip("/").rpartition("/")[2]
        return re.sub(r"[^A-Za-z0-9._-]+", "-", last).strip("-.") or "adapter"

    @property
    def on_the_hub(self) -> bool:
        return is_repo_id(self.location)


@dataclass(frozen=True)
class Problem:
    """A problem of a field, and the programs that refuse the adapter or run it wrongly because of it."""

    field: str
    message: str
    breaks: tuple[str, ...] = ()


def vllm_rank(rank: int) -> int | None:
    """Return the smallest `--max-lora-rank` for an adapter of this rank, None if vLLM has none."""
    return next((allowed for allowed in VLLM_RANKS if allowed >= rank), None)


def problems(adapter: Adapter) -> list[Problem]:
    """Return the problems of an adapter: what some program cannot run, what is unsafe, what is not pinned."""
    return [*_base(adapter), *_files(adapter), *_method(adapter), *_tensors(adapter)]


def _base(adapter: Adapter) -> Iterator[Problem]:
    field = "base_model_name_or_path"
    if adapter.base is None:
        yield Problem(field, "names no base model", (PEFT, TRANSFORMERS))
    elif not is_repo_id(adapter.base, owner_required=False):
        yield Problem(field, "is a local path of the machine that trained it", (PEFT, TRANSFORMERS))
    if adapter.base_commit is None:
        yield Problem("revision", "is missing: PEFT loads the main branch of the base model, which may change")
    elif not COMMIT.fullmatch(adapter.base_commit):
        yield Problem("revision", f"is `{adapter.base_commit}`, not a commit, so the base model may change")
    task = adapter.config.get("task_type")
    if task is None:
        yield Problem(
            "task_type", "is missing: the Hub shows no code for the adapter, and PEFT cannot check the model class"
        )
    elif task != "CAUSAL_LM":
        # peft/auto.py: the class must match the task
        yield Problem("task_type", f"is {task}: AutoPeftModelForCausalLM refuses it", (PEFT, *SERVERS))


def _files(adapter: Adapter) -> Iterator[Problem]:
    if WEIGHTS not in adapter.files:
        if PICKLED in adapter.files:
            # text_generation_server/utils/adapter.py reads .safetensors only
            yield Problem(PICKLED, "is a pickle, which can execute code when loaded; save it as safetensors", (TGI,))
        else:
            yield Problem(WEIGHTS, "is missing, so there are no weights", ALL)
    for name in sorted(adapter.files):
        if name.endswith(PICKLES) and name != PICKLED:
            yield Problem(name, "is a pickle, which can execute code when loaded, and the adapter does not need it")


def _method(adapter: Adapter) -> Iterator[Problem]:
    config = adapter.config
    if (kind := config.get("peft_type")) != "LORA":
        yield Problem("peft_type", f"is {kind}; these servers support LORA only", SERVERS)
        return
    if saved := config.get("modules_to_save"):
        # vllm/lora/peft_helper.py and llama.cpp's convert_lora_to_gguf.py refuse it; TGI reads lora_A and lora_B only
        yield Problem("modules_to_save", f"contains whole layers ({', '.join(saved)}) besides LoRA matrices", SERVERS)
    if config.get("bias", "none") != "none":
        yield Problem("bias", "is trained too, which these servers do not load", SERVERS)
    yield from (Problem(name, *effect) for name, effect in UNSUPPORTED.items() if config.get(name))
    init = config.get("init_lora_weights")
    if isinstance(init, str) and init.lower() not in PLAIN_INITS:
        yield Problem(
            "init_lora_weights", f"is {init}, which also changes the base model; these servers do not", SERVERS
        )
    if vllm_rank(adapter.rank) is None:
        yield Problem("r", f"is {adapter.rank}, but vLLM supports at most {VLLM_RANKS[-1]}", (VLLM,))


def _tensors(adapter: Adapter) -> Iterator[Problem]:
    whole = [name for name in adapter.shapes if re.search(r"(embed_tokens|lm_head)(\.base_layer)?\.weight$", name)]
    if whole:
        size = sum(math.prod(adapter.shapes[name]) for name in whole)
        yield Problem("embeddings", f"are saved in full ({size:,} parameters): was the vocabulary resized?", SERVERS)
    if any("lm_head.lora_" in name for name in adapter.shapes):
        yield Problem(
            "lm_head", "is adapted; the converter refuses this for a base model with tied embeddings", (LLAMA_CPP,)
        )
    if adapter.tokens and adapter.vocabulary and adapter.tokens > adapter.vocabulary:
        yield Problem(
            "tokenizer.json",
            f"has {adapter.tokens:,} tokens, more than the {adapter.vocabulary:,} rows of the base model's embedding",
            SERVERS,
        )
    rank = adapter.config.get("r")
    if isinstance(rank, int) and not adapter.config.get("rank_pattern"):
        odd = [n for n, shape in adapter.shapes.items() if n.endswith("lora_A.weight") and shape and shape[0] != rank]
        if odd:
            yield Problem(
                "r", f"is {rank}, but {odd[0]} has rank {adapter.shapes[odd[0]][0]}: config and weights differ", ALL
            )
