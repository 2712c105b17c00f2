"""Each program with what runs it, in the order of cost; one that fails does not keep the others from running."""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from hubdpo.cards.model.proofs import Proof
from tests.downstream import in_python, of_gguf, of_merged, of_vllm
from tests.downstream.release import ADAPTER, REAL, TAG, make
from tests.downstream.setting import Setting

PROGRAMS: dict[str, Callable[[Setting], Iterator[Proof]]] = {
    "PEFT": in_python.peft,
    "hubdpo": in_python.hubdpo,
    "transformers": in_python.transformers,
    "transformers serve": of_merged.transformers_serve,
    "MLX": of_merged.mlx,
    "llama.cpp": of_gguf.llama_cpp,
    "vLLM": of_vllm.vllm,
}


class Found(NamedTuple):
    """Proofs, what failed, the model in words, and the effect of the adapter."""

    proofs: list[Proof]
    failed: list[str]
    model: str
    effect: str


def run_all(work: Path, base: str, names: Sequence[str]) -> Found:
    """Run the programs of these names, or all. What an earlier call left in `work` is not run again."""
    from huggingface_hub import ModelCard

    release = make(work, base)
    setting = Setting(work, release, ModelCard.load(ADAPTER).text)
    proofs, failed = [], []
    for name in names or PROGRAMS:
        started, kept = time.monotonic(), work / f"{name}.json"
        try:
            if not kept.exists():
                kept.write_text(json.dumps([asdict(proof) for proof in PROGRAMS[name](setting)]), "utf-8")
            found = [Proof(**row) for row in json.loads(kept.read_text("utf-8"))]
            sys.stdout.writelines(f"{proof.program}, {proof.what}: {proof.words}\n" for proof in found)
            proofs += found
        except Exception as problem:
            traceback.print_exc()
            failed.append(f"{name}: {problem}")
        sys.stdout.write(f"{name} took {time.monotonic() - started:.0f} s\n")
        sys.stdout.flush()
    model = "SmolLM2-135M-Instruct with rank 16" if base == REAL else f"a random model, {ADAPTER}@{TAG}"
    return Found(proofs, failed, model, setting.effect)
