"""Reference log-probabilities, computed once and cached on disk: they depend on reference and data, not on training.

The cache key covers everything that the values depend on, so a resumed run, another epoch and a sweep over learning
rates share a file, and no other run does. Batches go by sorted length, whatever order training takes, so that all runs
that share the values would compute the same ones.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save

from hubdpo import console
from hubdpo.artefacts.manifests.manifest import file_entry, fingerprint, write_atomic
from hubdpo.config import TrainConfig
from hubdpo.machine.refusals import machine_error
from hubdpo.model.adapters.start import StartAdapter
from hubdpo.model.bases.find import Base
from hubdpo.training.step.batch import PAIR_VALUES, Row, row_length
from hubdpo.version import library_versions

if TYPE_CHECKING:
    from hubdpo.training.step.trainer import SharedPrefixDPOTrainer

TOKENS_PER_BATCH = 8192
"""Padded tokens of both answers in a forward pass without gradients."""


def add_reference_log_probs(
    trainer: SharedPrefixDPOTrainer, rows: list[Row], *, identity: Mapping[str, object]
) -> list[Row]:
    """Return the rows with `ref_chosen_logps` and `ref_rejected_logps`: sums over the answer's tokens, in nats.

    `identity` names the base, its precision and everything else that the values depend on, besides the rows.
    """
    if not rows:
        return rows
    home = os.environ.get("HUBDPO_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hubdpo"
    # margins and weights change no log-prob
    plain: list[Row] = [{name: row[name] for name in row if name not in PAIR_VALUES} for row in rows]
    path = Path(home) / "reference" / f"{fingerprint([identity, plain])}.safetensors"
    # computing is collective, so either all processes read the file or all compute
    is_cached = torch.tensor([int(path.exists())], device=trainer.accelerator.device)
    if trainer.accelerator.gather(is_cached).all():
        values = load_file(path)
        console.info(f"reference {console.counted(len(rows), 'pair')} from {path}")
    else:
        values = _compute(trainer, plain)
        _save(values, path)
    return [
        {**row, "ref_chosen_logps": chosen, "ref_rejected_logps": rejected}
        for row, chosen, rejected in zip(rows, values["chosen"].tolist(), values["rejected"].tolist(), strict=True)
    ]


def reference_identity(
    config: TrainConfig, base: Base, device: str, start: StartAdapter | None = None
) -> dict[str, object]:
    """Name everything that reference log-probs depend on, besides the rows."""
    # chat template and lengths need no entry: the token ids of the rows tell them. A folder has no commit, so hash it
    weights = base.ref.revision or {path.name: file_entry(path).sha256 for path in base.folder.glob("*.safetensors")}
    versions = library_versions()
    frozen = start is not None and config.reference_adapter == "frozen"
    return {
        **({"adapter": start.ref.sha256, "lora": start.lora} if start is not None and frozen else {}),
        "base": base.ref.name, "weights": weights, "load_in_4bit": config.load_in_4bit, "device": device,
        "shared_prefix": config.shared_prefix, **({} if config.dtype == "auto" else {"dtype": config.dtype}),
        "versions": {name: versions[name] for name in ("torch", "transformers")},
        **({} if config.ld_alpha is None else {"ld_alpha": config.ld_alpha}),
    }  # fmt: skip


def _compute(trainer: SharedPrefixDPOTrainer, rows: list[Row]) -> dict[str, torch.Tensor]:
    """Return the values `[rows]` of both sides, in float64; the processes share the batches."""
    values = {side: torch.zeros(len(rows), dtype=torch.float64) for side in ("chosen", "rejected")}
    accelerator = trainer.accelerator
    with console.progress("reference log-probs", len(rows)) as bar:
        for indices in _batches(rows)[accelerator.process_index :: accelerator.num_processes]:
            batch = trainer._prepare_inputs(trainer.data_collator([rows[index] for index in indices]))
            chosen, rejected = trainer.compute_ref_log_probs(trainer.model, batch)
            # [B] each, in float32, whose values float64 holds exactly
            values["chosen"][indices] = chosen.double().cpu()
            values["rejected"][indices] = rejected.double().cpu()
            bar.update(bar.task_ids[0], advance=len(indices) * accelerator.num_processes)
    # a row is 0 in every process but the one that computed it, so the sum over processes is its value
    return {side: accelerator.reduce(column.to(accelerator.device)).cpu() for side, column in values.items()}


def _batches(rows: list[Row]) -> list[list[int]]:
    """Return batches of row indices, shortest rows first, each of at most TOKENS_PER_BATCH padded tokens."""
    lengths = [row_length(row) for row in rows]
    batches: list[list[int]] = [[]]
    for index in sorted(range(len(rows)), key=lambda index: (lengths[index], index)):
        # rows come by length, so this one is the longest: 2 sides x its tokens x the pairs with it
        if batches[-1] and 2 * lengths[index] * (len(batches[-1]) + 1) > TOKENS_PER_BATCH:
            batches.append([])
        batches[-1].append(index)
    return batches


def _save(values: dict[str, torch.Tensor], path: Path) -> None:
    """Write the cache file for later runs; warn when the machine refuses, as this run has the values in memory."""
    try:
        write_atomic(path, save(values))
    except Exception as error:
        refusal = machine_error(error, [path.parent])
        if refusal is None:
            raise
        console.warn(f"the reference log-probs cannot be cached for later runs: {refusal.message}")
