"""Reference log-probs, computed once and kept on disk: they depend on base and data, not on what is being learned.

The key is made of everything that they depend on, so that a resumed run, another epoch and a sweep over learning rates
read what is there, and nothing else does. The batches are those of the sorted lengths, whatever order training takes,
so the values are the same for every run that shares them.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from hubdpo import console
from hubdpo.artefacts.manifests.manifest import fingerprint
from hubdpo.machine.refusals import machine_error

Rows = list[dict[str, Any]]
TOKENS_A_BATCH = 8192
"""Padded tokens of both answers in a forward pass without gradients."""


def add_reference_log_probs(trainer: Any, rows: Rows, *, identity: dict[str, Any]) -> Rows:
    """Return the rows with `ref_chosen_logps` and `ref_rejected_logps`, summed over the answer's tokens, in nats.

    `identity` names the base, its precision and whatever else the values depend on; the rows' tokens are added to it.
    """
    if not rows:
        return rows
    place = _folder() / f"{fingerprint([identity, rows])}.safetensors"
    if _everywhere(trainer, place.exists()):
        values = load_file(place)
        console.info(f"reference {len(rows):,} pairs from {place}")
    else:
        values = _computed(trainer, rows)
        _keep(values, place)
    return [
        {**row, "ref_chosen_logps": chosen, "ref_rejected_logps": rejected}
        for row, chosen, rejected in zip(rows, values["chosen"].tolist(), values["rejected"].tolist(), strict=True)
    ]


def _everywhere(trainer: Any, found: bool) -> bool:
    """Tell whether every process found it: they must read, or compute, together."""
    answers = torch.tensor([int(found)], device=trainer.accelerator.device)
    return bool(trainer.accelerator.gather(answers).all())


def _computed(trainer: Any, rows: Rows) -> dict[str, torch.Tensor]:
    """Compute the values of all rows, each process those of its share of the batches."""
    values = {side: torch.zeros(len(rows), dtype=torch.float64) for side in ("chosen", "rejected")}
    accelerator = trainer.accelerator
    with console.progress("reference log-probs", len(rows)) as bar:
        for places in _batches(rows)[accelerator.process_index :: accelerator.num_processes]:
            batch = trainer._prepare_inputs(trainer.data_collator([rows[place] for place in places]))
            chosen, rejected = trainer.compute_ref_log_probs(trainer.model, batch)
            values["chosen"][places] = chosen.double().cpu()
            values["rejected"][places] = rejected.double().cpu()
            bar.update(bar.task_ids[0], advance=len(places) * accelerator.num_processes)
    # every row is 0 in all processes but one
    return {side: accelerator.reduce(column.to(accelerator.device)).cpu() for side, column in values.items()}


def _batches(rows: Rows) -> list[list[int]]:
    """Group rows of like length, so that little is padded, to about TOKENS_A_BATCH."""
    lengths = [len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"])) for row in rows]
    batches: list[list[int]] = [[]]
    for place in sorted(range(len(rows)), key=lambda place: (lengths[place], place)):
        if batches[-1] and 2 * lengths[place] * (len(batches[-1]) + 1) > TOKENS_A_BATCH:
            batches.append([])
        batches[-1].append(place)
    return batches


def _folder() -> Path:
    home = os.environ.get("HUBDPO_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hubdpo"
    return Path(home) / "reference"


def _keep(values: dict[str, torch.Tensor], place: Path) -> None:
    """Write the values for later runs. This one has them: where they cannot be kept it goes on, with a warning."""
    scratch = None
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        handle, scratch = tempfile.mkstemp(dir=place.parent, prefix=f".{place.name}.")
        os.close(handle)
        save_file(values, scratch)
        Path(scratch).replace(place)
    except Exception as problem:
        if scratch is not None:
            Path(scratch).unlink(missing_ok=True)
        told = machine_error(problem, [place.parent])
        if told is None:
            raise
        console.warn(f"reference log-probs cannot be kept for another run: {told.message}")
