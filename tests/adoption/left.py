"""What other tools leave beside an adapter, in their formats and with texts of our own."""

from __future__ import annotations

import json
from pathlib import Path

LOG = [
    {"epoch": 0.5, "learning_rate": 5e-4, "loss": 0.69, "rewards/accuracies": 0.5, "step": 2},
    {"epoch": 1.0, "learning_rate": 1e-4, "loss": 0.61, "rewards/accuracies": 1.0, "step": 4},
    {"epoch": 1.0, "step": 4, "total_flos": 3.0e9, "train_loss": 0.65, "train_runtime": 12.5},
]
AXOLOTL = """\
---
library_name: peft
tags: [axolotl, generated_from_trainer]
datasets: [acme/prefs]
---
# out

<details><summary>See axolotl config</summary>

axolotl version: `0.9.1`
```yaml
base_model: /home/somebody/models/base
rl: dpo
adapter: qlora
sequence_len: 512
micro_batch_size: 2
gradient_accumulation_steps: 4
num_epochs: 3
learning_rate: 5e-6
rl_beta: 0.3
datasets:
  - path: /home/somebody/pairs.jsonl
    type: chatml.intel
```

</details>

### Training hyperparameters

The following hyperparameters were used during training:
- learning_rate: 5e-06
- train_batch_size: 2
- eval_batch_size: 8
- gradient_accumulation_steps: 4
- num_devices: 8
- seed: 42
- optimizer: Use adamw_torch with betas=(0.9,0.999) and optimizer_args=none
- lr_scheduler_type: cosine
- lr_scheduler_warmup_steps: 10
- num_epochs: 3.0

### Framework versions

- PEFT 0.15.2
- Pytorch 2.6.0+cu124
"""
UNSLOTH = "---\ntags: [text-generation-inference, transformers, unsloth, qwen2, trl]\n---\n# Uploaded model\n"
LLAMA_FACTORY = """\
---
library_name: peft
license: other
base_model: /mnt/data/base
tags: [llama-factory, lora, transformers]
---
# out

This model is a tuned version of the base on pairs.

### Training hyperparameters

The following hyperparameters were used during training:
- learning_rate: 0.001
- train_batch_size: 4
- eval_batch_size: 8
- seed: 7
- optimizer: Use OptimizerNames.ADAMW_TORCH_FUSED with betas=(0.9,0.999) and epsilon=1e-08 and optimizer_args=none
- lr_scheduler_type: cosine
- lr_scheduler_warmup_steps: 0.1
- num_epochs: 3.0

### Framework versions

- PEFT 0.18.1
- Transformers 5.2.0
"""
LLAMA_FACTORY_CONFIG = """\
stage: dpo
finetuning_type: lora
pref_beta: 0.2
pref_loss: sigmoid
dataset: pairs
template: qwen
cutoff_len: 256
quantization_bit: 4
learning_rate: 1.0e-3
output_dir: /mnt/data/out
"""


def llama_factory(folder: Path) -> Path:
    """Write what LLaMA-Factory leaves into the folder of an adapter."""
    (folder / "README.md").write_text(LLAMA_FACTORY)
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": 4, "log_history": LOG}))
    (folder / "all_results.json").write_text(json.dumps({"train_loss": 0.65, "train_runtime": 12.5}))
    (folder / "trainer_log.jsonl").write_text('{"current_steps": 2}\n')
    (folder / "checkpoint-2").mkdir()
    (folder / "checkpoint-2" / "optimizer.pt").write_bytes(b"a pickle")
    return folder
