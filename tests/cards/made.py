"""Build run manifests and reports, to render cards without training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hubdpo.artefacts.manifests.evaluation import EvalReport, Sample, Stratum
from hubdpo.artefacts.manifests.intervals import Accuracy
from hubdpo.artefacts.manifests.run import BaseRef, DatasetRef, RunManifest
from hubdpo.cards.licences import adapter_licence
from hubdpo.cards.lint.finding import Finding
from hubdpo.cards.lint.lint import lint_card
from hubdpo.cards.model.card import Release, render_model_card
from hubdpo.cards.model.serving import Adapter
from hubdpo.config import TrainConfig

SHA = "0123456789abcdef0123456789abcdef01234567"
FILES = dict.fromkeys(
    ("README.md", "adapter_model.safetensors", "adapter_config.json", "run.json", "plots/loss.png", "LICENSE"), b""
)
SHAPES = {
    "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": (16, 64),
    "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight": (64, 16),
}
CONFIG: dict[str, Any] = {
    "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "Qwen/Qwen2-0.5B-Instruct",
    "revision": SHA, "r": 16, "lora_alpha": 32, "target_modules": ["q_proj"],
}  # fmt: skip
LOG = [
    {"step": step, "epoch": step / 100, key: 1 / step}
    for step in range(1, 101)
    for key in ("loss", *(["eval_loss"] if step % 5 == 0 else []))
]


def run_manifest(**changes: Any) -> RunManifest:
    config = TrainConfig(model_name_or_path="a/b", dataset="c/d", output_dir=Path("run"), **changes.pop("config", {}))
    dataset = {"name": "acme/prefs", "repo_id": "acme/prefs", "revision": SHA, "license": "mit", "language": ["en"]}
    dataset |= {"train_pairs": 9_000, "test_pairs": 957}
    base = {"name": "Qwen/Qwen2-0.5B-Instruct", "revision": SHA, "license": "apache-2.0"}
    base["repo_id"] = base["name"]
    return RunManifest(
        hubdpo_version="0.1.0", status="complete",
        config=config.model_dump(
            mode="json", exclude={"output_dir", "resume", "dry_run", "model_name_or_path", "model_revision", "dataset"}
        ),
        dataset=DatasetRef(fingerprint="f" * 64, **dataset | changes.pop("dataset", {})),
        base=BaseRef(**base | changes.pop("base", {})), versions={"torch": "2.13.0"}, device="NVIDIA L4", seed=42,
        steps=100, train_seconds=60.5, peak_memory_bytes=2**33, **changes,
    )  # fmt: skip


def report(**changes: Any) -> EvalReport:
    values: dict[str, Any] = {
        "split": "test", "pairs": 957, "reward_accuracy": Accuracy.of(676, 957), "reward_margin": 0.412,
        "base_accuracy": Accuracy.of(561, 957), "adapter_accuracy": Accuracy.of(650, 957),
        "longer_answer_accuracy": Accuracy.of(585, 957), "base_margin": 0.01, "adapter_margin": 0.12,
        "base_summed_accuracy": Accuracy.of(470, 957), "adapter_summed_accuracy": Accuracy.of(534, 957),
        "only_adapter_right": 170, "only_base_right": 81, "mcnemar_p": 2e-8,
        "chosen_longer": Stratum(pairs=585, base=Accuracy.of(400, 585), adapter=Accuracy.of(440, 585)),
        "chosen_shorter": Stratum(pairs=360, base=Accuracy.of(161, 360), adapter=Accuracy.of(210, 360)),
        "samples": [Sample(prompt="Why?", base="", adapter="```\n# Because <img src=x>\n```")],
    }  # fmt: skip
    return EvalReport(**values | changes)


def adapter_card(
    run: RunManifest | None = None, evaluation: EvalReport | None = None, *, given: str | None = None, **named: str
) -> str:
    run = run or run_manifest()
    licence = adapter_licence(run.base, run.dataset.license, given, **named)
    adapter = Adapter(CONFIG, SHAPES, FILES, "me/adapter", "v1.0.0")
    release = Release("me/adapter", "1.0.0", licence, FILES)
    return render_model_card(run, evaluation, release=release, adapter=adapter, log=LOG)


def findings_in(text: str, kind: Any = "adapter", files: Any = FILES) -> list[Finding]:
    return lint_card(text, kind, files)


def files_of(folder: Path) -> dict[str, bytes | Path | None]:
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
