"""LLaMA-Factory's trainer in a process with its own interpreter, asked for one step after the other."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import IO, Any

from safetensors.torch import save_file

from hubdpo.config import TrainConfig
from hubdpo.data.encoded.rows import IDS, Row
from tests.benchmarks.train_steps import Step

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-llamafactory" / "bin" / "python"
MISSING = "LLaMA-Factory is left out: there is no .venv-llamafactory (make .venv-llamafactory)"


class LlamaFactory:
    """Steps of LLaMA-Factory's trainer on given batches, with a given adapter on every linear layer, in float32."""

    def __init__(
        self, base: Path, folder: Path, config: TrainConfig, adapter: dict[str, Any], batches: list[list[Row]]
    ) -> None:
        folder.mkdir(parents=True)
        save_file(adapter, folder / "adapter.safetensors")
        options = {
            "model_name_or_path": str(base), "lora_rank": config.lora_r, "lora_alpha": config.lora_alpha,
            "lora_dropout": config.lora_dropout, "pref_beta": config.beta,
            "disable_gradient_checkpointing": not config.gradient_checkpointing,
            "per_device_train_batch_size": config.per_device_train_batch_size,
        }  # fmt: skip
        plain = [[{name: row[name].tolist() for name in IDS} for row in batch] for batch in batches]
        (folder / "job.json").write_text(json.dumps({"options": options, "batches": plain}), encoding="utf-8")
        self._log = folder / "log.txt"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [PYTHON, Path(__file__).with_name("llama_factory.py"), folder],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip
        self.types = self._answer()["types"]

    def step(self, batch: int) -> Step:
        """Take forward and backward pass of a batch."""
        self._pipe("stdin").write(f"{batch}\n")
        self._pipe("stdin").flush()
        return Step(**self._answer())

    def close(self) -> None:
        self._process.communicate()

    def _pipe(self, name: str) -> IO[str]:
        pipe: IO[str] = getattr(self._process, name)
        return pipe

    def _answer(self) -> Any:
        line = self._pipe("stdout").readline()
        if not line:
            self.close()
            raise RuntimeError(self._log.read_text(encoding="utf-8")[-3000:])
        return json.loads(line)


def version() -> str:
    """Return LLaMA-Factory's version and those of the libraries that it runs on."""
    code = "import importlib.metadata as m; print(*(f'{n} {m.version(n)}' for n in ('llamafactory', 'torch', " + (
        "'transformers', 'trl', 'peft')), sep=', ')"
    )
    return subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
