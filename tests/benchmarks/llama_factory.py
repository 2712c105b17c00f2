"""Run DPO steps of LLaMA-Factory 0.9 as its own interpreter asks for them, and tell their CPU seconds and losses.

`python llama_factory.py JOB`, in .venv-llamafactory: JOB is a folder with job.json and adapter.safetensors. For each
line on stdin, the number of a batch, a line on stdout has the seconds of forward and backward pass, and the loss.
LLaMA-Factory loads the model, adapts it, collates the rows and computes the loss; nothing of hubdpo is imported.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

# the sound library that LLaMA-Factory imports is not made for torch 2.13 yet, and texts need none
sys.modules["torchaudio"] = importlib.util.module_from_spec(ModuleSpec("torchaudio", None))
os.environ.update(HF_HUB_OFFLINE="1", DISABLE_VERSION_CHECK="1", TRANSFORMERS_VERBOSITY="error")

IGNORED = -100


def trainer_of(job: dict[str, Any], folder: Path) -> Any:
    """Return LLaMA-Factory's DPO trainer, with LoRA on every linear layer and the weights of `adapter.safetensors`."""
    from llamafactory.data import get_template_and_fix_tokenizer
    from llamafactory.data.collator import PairwiseDataCollatorWithPadding
    from llamafactory.hparams import get_train_args
    from llamafactory.model import load_model, load_tokenizer
    from llamafactory.train.dpo.trainer import CustomDPOTrainer
    from safetensors.torch import load_file

    model_args, data_args, training_args, finetuning_args, _ = get_train_args(
        {
            "stage": "dpo", "do_train": True, "finetuning_type": "lora", "lora_target": "all", "dataset": "none",
            "template": "empty", "output_dir": str(folder / "out"), "use_cpu": True, "report_to": "none",
            "max_steps": 1, **job["options"],
        }
    )  # fmt: skip
    tokens = load_tokenizer(model_args)
    template = get_template_and_fix_tokenizer(tokens["tokenizer"], data_args)
    model = load_model(tokens["tokenizer"], model_args, finetuning_args, is_trainable=True)
    collator = PairwiseDataCollatorWithPadding(
        template=template, model=model, pad_to_multiple_of=8, label_pad_token_id=IGNORED, **tokens
    )
    trainer = CustomDPOTrainer(
        model=model, ref_model=None, args=training_args, finetuning_args=finetuning_args, data_collator=collator,
        train_dataset=[{}], **tokens,
    )  # fmt: skip
    weights = dict(trainer.model.named_parameters())
    for name, value in load_file(folder / "adapter.safetensors").items():
        weights[name].data.copy_(value)
    return trainer


def feature(row: dict[str, list[int]]) -> dict[str, Any]:
    """Return a row as LLaMA-Factory's preprocessing leaves it."""
    found: dict[str, Any] = {"images": None, "videos": None, "audios": None}
    for side in ("chosen", "rejected"):
        prompt, answer = row["prompt_ids"], row[f"{side}_ids"]
        found[f"{side}_input_ids"] = prompt + answer
        found[f"{side}_attention_mask"] = [1] * len(prompt + answer)
        found[f"{side}_labels"] = [IGNORED] * len(prompt) + answer
    return found


def main(folder: Path) -> None:
    answers, sys.stdout = sys.stdout, sys.stderr  # whatever a library prints
    import torch

    torch.set_num_threads(1)
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    trainer = trainer_of(job, folder)
    batches = [trainer.data_collator([feature(row) for row in rows]) for rows in job["batches"]]
    kinds = sorted({str(weight.dtype) for weight in trainer.model.parameters()})
    print(json.dumps({"types": kinds}), file=answers, flush=True)
    trainer.model.train()
    for line in sys.stdin:
        trainer.model.zero_grad()
        began = time.process_time()
        loss = trainer.compute_loss(trainer.model, dict(batches[int(line)]))
        loss.backward()
        spent = time.process_time() - began
        print(json.dumps({"seconds": spent, "loss": loss.item()}), file=answers, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
