"""The base model: where it is, whether we can train it, and what adapts it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from peft import LoraConfig, TaskType
from transformers import AutoTokenizer

from hubdpo.config import TrainConfig
from hubdpo.errors import ConfigError, UnsupportedBase
from hubdpo.hub.base import BASE_PATTERNS
from hubdpo.hub.client import download, resolve
from hubdpo.hub.lineage import ADAPTER_CONFIG, ancestors, check_not_an_adapter
from hubdpo.hub.reference import looks_like_folder, parse_ref
from hubdpo.manifest import BaseRef

FAMILY = ("qwen2", "qwen3")
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "special_tokens_map.json",
    "added_tokens.json", "chat_template.jinja", "generation_config.json",
)  # fmt: skip


@dataclass(frozen=True)
class Base:
    """A base model found and checked: its identity for the manifests, and the folder with its files."""

    ref: BaseRef
    folder: Path


def find_base(name_or_path: str, revision: str | None = None) -> Base:
    """Find a base, a folder or `USER/NAME[@REVISION]`, and pin it to a commit, without loading any weights.

    Raise UnsupportedBase when it is not a dense model of the Qwen2 family, ConfigError when the name is neither a
    folder nor a Hub id, HubError when the Hub does not have it.
    """
    local = Path(name_or_path)
    if local.is_dir():
        _check_family(local, name_or_path)
        return Base(BaseRef(name=local.resolve().name, made_by=ancestors(local), **_licence(local)), local)
    if looks_like_folder(name_or_path):
        raise ConfigError(
            f"base model not found: {name_or_path}", hint="give a folder, or a Hub id such as Qwen/Qwen2-7B-Instruct"
        )
    repo_id, wanted = parse_ref(name_or_path).at(revision)
    sha = resolve(repo_id, wanted)
    _check_family(download(repo_id, sha, allow_patterns=["config.json", ADAPTER_CONFIG]), name_or_path)
    folder = download(repo_id, sha, allow_patterns=BASE_PATTERNS)
    ref = BaseRef(name=repo_id, repo_id=repo_id, revision=sha, made_by=ancestors(folder), **_licence(folder))
    return Base(ref, folder)


def check_layers(base: Base, wanted: int | str | None) -> None:
    """Raise ConfigError when `--checkpoint-layers` asks for more layers than the base has."""
    layers = json.loads((base.folder / "config.json").read_text(encoding="utf-8")).get("num_hidden_layers")
    if isinstance(wanted, int) and isinstance(layers, int) and wanted > layers:
        raise ConfigError(
            f"--checkpoint-layers {wanted} is more than the {layers} layers of {base.ref.name}",
            hint="a number up to that, or `auto`; without the option all are recomputed",
        )


def load_tokenizer(base: Base) -> Any:
    return AutoTokenizer.from_pretrained(base.folder)


def lora_config(config: TrainConfig) -> LoraConfig:
    """Name the projections one by one and in order: a set's order would change the file from run to run."""
    return LoraConfig(
        r=config.lora_r,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=sorted(config.lora_target_modules),
        task_type=TaskType.CAUSAL_LM,
        bias="none",
    )


def pick_device(wanted: str) -> str:
    """Return `cuda` or `cpu`. Raise ConfigError when CUDA was asked for and there is none."""
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ConfigError("no CUDA device is found", hint="hubdpo doctor, or use `--device cpu`")
    return wanted


def adapter_to_float32(model: Any) -> None:
    """Keep the trained weights in float32: in bfloat16 steps of 5e-6 round away, and a resumed run would differ."""
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data = weight.data.float()


def _check_family(folder: Path, name: str) -> None:
    check_not_an_adapter(folder, name)
    hint = "use a dense text model of Qwen2, Qwen2.5 or Qwen3, such as Qwen/Qwen2-7B-Instruct"
    try:
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UnsupportedBase(f"`{name}` has no config.json, so it is not a transformers model", hint=hint) from None
    except ValueError:
        raise UnsupportedBase(f"config.json of `{name}` is not JSON", hint=hint) from None
    kind = settings.get("model_type")
    if kind not in FAMILY:
        raise UnsupportedBase(f"`{name}` is {_kind(kind, settings)}", hint=hint)
    if settings.get("use_sliding_window"):
        raise UnsupportedBase(f"`{name}` attends in a sliding window, which is not supported", hint=hint)


def _kind(kind: str | None, settings: dict[str, Any]) -> str:
    """Say what the model is instead; of Qwen's other kinds, why they are not supported."""
    if kind is None:
        return "of no type that its config.json names"
    if kind.startswith(FAMILY):
        if "vision_config" in settings or kind.endswith(("_vl", "_vl_text")):
            return f"a `{kind}` model, which reads images; only text models of the Qwen2 family are supported"
        if "num_experts" in settings or kind.endswith("_moe"):
            return f"a `{kind}` model, a mixture of experts; only dense models of the Qwen2 family are supported"
    return f"a `{kind}` model, which is not of the Qwen2 family"


def _licence(folder: Path) -> dict[str, str | None]:
    """Read the licence from the front matter of the base's card; nothing is guessed."""
    card = folder / "README.md"
    text = card.read_text(encoding="utf-8", errors="replace") if card.exists() else ""
    front = re.match(r"---\r?\n(.*?)\r?\n---", text, re.DOTALL)
    try:
        data = yaml.safe_load(front[1]) if front else {}
    except yaml.YAMLError:
        data = {}
    found = data if isinstance(data, dict) else {}
    return {
        name: value if isinstance(value := found.get(name), str) else None
        for name in ("license", "license_name", "license_link")
    }
