"""A step, the reference, the scores and the adapter file with the model spread over processes, beside those without.

Run by test_sharded.py under `accelerate launch` with the shipped configuration. Trainer shards on GPUs alone, so
accelerate's own preparation is called here, with the plugin that the configuration makes, over gloo.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from accelerate.utils import FullyShardedDataParallelPlugin
from accelerate.utils.fsdp_utils import fsdp2_prepare_model
from safetensors.torch import load_file
from test_token_budget import trainer_for
from torch.distributed.tensor import DTensor

from hubdpo.artefacts.manifests.run import BaseRef
from hubdpo.data.encoded.rows import TokenRows
from hubdpo.evaluation.scoring import scores_of
from hubdpo.model.bases.find import Base
from hubdpo.model.bases.tensors import BaseFacts
from hubdpo.model.probes import record_probes
from hubdpo.training.run.record import gather_adapter, save_adapter


def all_of(trainer: Any, rows: list[dict[str, list[int]]]) -> dict[str, Any]:
    trainer.model.train()
    trainer.model.zero_grad(set_to_none=True)
    batch = trainer.batch(rows)
    loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    gradients = {
        name: weight.grad.full_tensor() if isinstance(weight.grad, DTensor) else weight.grad
        for name, weight in trainer.model.named_parameters()
        if weight.grad is not None
    }
    reference = trainer.compute_ref_log_probs(trainer.model, batch)
    trainer.model.eval()
    with torch.no_grad():
        scores = scores_of(trainer.model, TokenRows.of(rows), 4, "adapter")
    probes = record_probes(trainer.model, trainer.processing_class, load_in_4bit=True).probes
    return {
        "loss": loss.item(),
        "gradients": [gradients[name].norm().item() for name in sorted(gradients)],
        "reference": torch.cat(reference).tolist(),
        "probes": [value for probe in probes for value in probe.log_probs],
        "scores": [*scores.chosen.tolist(), *scores.rejected.tolist()],
    }


def main(base: Path, out: Path) -> None:
    trainer = trainer_for(base, out, "skewed", nf4=True, checkpoint_layers=1)
    trainer.model.gradient_checkpointing_enable(trainer.args.gradient_checkpointing_kwargs)
    rank = torch.distributed.get_rank()
    rows = list(trainer.train_dataset)
    found = {"alone": all_of(trainer, rows)}
    before = {name: weight.clone() for name, weight in gather_adapter(trainer.model).items()}
    plugin = FullyShardedDataParallelPlugin()
    state = SimpleNamespace(fsdp_plugin=plugin)
    accelerator = SimpleNamespace(
        state=state, is_main_process=rank == 0, mixed_precision="no", device=torch.device("cpu")
    )
    trainer.model = fsdp2_prepare_model(accelerator, trainer.model)
    weights = list(trainer.model.parameters())
    found["sharded"] = all_of(trainer, rows)
    together = gather_adapter(trainer.model)
    if rank == 0:
        save_adapter(trainer.model, together, Base(BaseRef(name="tiny"), base, BaseFacts("tiny", {}, frozenset())), out)
        saved = load_file(out / "adapter_model.safetensors")
        found["saved"] = {
            "weights": len(saved),
            "the same": all(
                torch.equal(saved[name.replace(".default", "")], weight) for name, weight in before.items()
            ),
            "sharded": sum(isinstance(weight, DTensor) for weight in weights) / len(weights),
            "types": sorted({str(weight.dtype) for weight in weights}),
            "version": plugin.fsdp_version,
        }
        (out / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
