# written by `python -m tests.public_stub` from the config models
from pathlib import Path
from typing import Any, Literal, overload

from hubdpo.artefacts.manifests.bundle import Release
from hubdpo.artefacts.manifests.evaluation import EvalReport
from hubdpo.artefacts.manifests.merge import MergeManifest
from hubdpo.artefacts.manifests.prepare import PrepareManifest
from hubdpo.artefacts.manifests.run import RunManifest
from hubdpo.config.evaluate import EvaluateConfig
from hubdpo.config.merge import MergeConfig
from hubdpo.config.prepare import PrepareConfig
from hubdpo.config.push import PushConfig
from hubdpo.config.train import TrainConfig
from hubdpo.data.load import load_preferences as load_preferences
from hubdpo.model.adapters.load import load_adapter as load_adapter
from hubdpo.release.diff.diff import diff as diff
from hubdpo.release.verify.verify import verify as verify
from hubdpo.version import __version__ as __version__

@overload
def evaluate(config: EvaluateConfig, /) -> EvalReport: ...
@overload
def evaluate(
    run_dir: str | Path,
    *,
    dataset: str | Path | None = None,
    model_name_or_path: str | Path | None = None,
    max_pairs: int = 2000,
    per_device_eval_batch_size: int = 4,
    device: Literal["auto", "cuda", "cpu"] = "auto",
) -> EvalReport: ...
@overload
def merge(config: MergeConfig, /) -> MergeManifest: ...
@overload
def merge(
    adapter: str | Path,
    output_dir: str | Path,
    *,
    dtype: str = "bfloat16",
    base_weights: Literal["as-trained", "original"] = "as-trained",
    max_shard_size: str = "5GB",
    tolerance: float | None = None,
    device: Literal["auto", "cuda", "cpu"] = "auto",
) -> MergeManifest: ...
@overload
def prepare(config: PrepareConfig, /) -> PrepareManifest | None: ...
@overload
def prepare(
    source: object,
    output_dir: str | Path,
    *,
    overwrite: bool = False,
    dry_run: bool = False,
    explain: int = 0,
    format: str | None = None,
    map: str | None = None,
    pairs: Literal["best-worst", "all", "adjacent"] = "best-worst",
    min_margin: float = 0.0,
    score_field: str | None = None,
    labels: str | None = None,
    keep: list[str] = [],
    dedupe: Literal["exact", "near", "none"] = "exact",
    on_tie: Literal["drop", "error"] = "drop",
    on_conflict: Literal["drop", "majority", "keep", "error"] = "drop",
    model: str | Path | None = None,
    chat_template_kwargs: dict[str, Any] | None = None,
    max_length: int | Literal["auto"] | None = None,
    over_length: Literal["drop", "truncate", "keep", "error"] = "drop",
    scan: Literal["secrets", "none"] = "none",
    redact: bool = False,
    max_reject: float | str = 1.0,
    strict: bool = False,
    max_line_bytes: int = 67108864,
    test_size: float | None = None,
    seed: int = 0,
    card: str | Path | None = None,
    name: str | None = None,
    license: str | None = None,
    language: list[str] = [],
    engine: Literal["local", "ray"] = "local",
    num_proc: int | None = None,
) -> PrepareManifest | None: ...
@overload
def push(config: PushConfig, /) -> Release: ...
@overload
def push(
    folder: str | Path,
    repo: str,
    *,
    version: str,
    dry_run: bool = False,
    check: Literal["load", "hashes"] = "load",
    secrets: Literal["refuse", "keep"] = "refuse",
    create_pr: bool = False,
    private: bool | None = None,
    collection: str | None = None,
    commit_message: str | None = None,
    license: str | None = None,
    license_name: str | None = None,
    license_link: str | None = None,
    base_model: str | None = None,
    base_revision: str | None = None,
) -> Release: ...
@overload
def train(config: TrainConfig, /) -> RunManifest: ...
@overload
def train(
    model_name_or_path: str | Path,
    dataset: str | Path,
    output_dir: str | Path,
    *,
    model_revision: str | None = None,
    resume: bool = False,
    extend: bool = False,
    dry_run: bool = False,
    loss_type: list[str] = ["sigmoid"],
    loss_weights: list[float] | None = None,
    beta: float = 0.1,
    label_smoothing: float = 0.0,
    reference: Literal["online", "cached"] = "online",
    learning_rate: float = 5e-06,
    lr_scheduler_type: str = "cosine",
    lr_scheduler_kwargs: dict[str, float | int | str] | None = None,
    warmup_ratio: float = 0.1,
    num_train_epochs: float = 1.0,
    max_steps: int = -1,
    per_device_train_batch_size: int = 4,
    per_device_eval_batch_size: int = 4,
    gradient_accumulation_steps: int = 4,
    tokens_per_batch: int | Literal["auto"] | None = None,
    weight_decay: float = 0.0,
    max_grad_norm: float = 1.0,
    max_length: int = 1024,
    max_prompt_length: int | None = None,
    chat_template_kwargs: dict[str, Any] | None = None,
    lora_r: int = 16,
    lora_alpha: int = 32,
    lora_dropout: float = 0.0,
    lora_target_modules: list[str] = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    load_in_4bit: bool = True,
    dequantize_once: bool = False,
    shared_prefix: bool = True,
    gradient_checkpointing: bool = True,
    checkpoint_layers: int | Literal["auto"] | None = None,
    num_processes: int = 1,
    device: Literal["auto", "cuda", "cpu"] = "auto",
    seed: int = 42,
    deterministic: bool = False,
    logging_steps: int = 1,
    eval_steps: int = 50,
    save_steps: int = 50,
    save_total_limit: int = 2,
    max_eval_pairs: int = 512,
    report_to: list[str] = [],
) -> RunManifest: ...
