"""What the programs share: the release, its card, and PEFT's answers on both weights of the base."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hubdpo.cards.model.proofs import Proof
from tests.downstream.answers import Answer, compare, of_model
from tests.downstream.release import ADAPTER, TAG, Release

FLOAT32, ROUNDED = 1e-3, 0.25
"""Tolerances in nats: of the same weights in float32, and where weights or activations are rounded to 16 bits."""
GREEDY, GREEDY_TEXT = "greedy tokens, log-probabilities", "greedy text"


class NotWithin(Exception):
    """A program whose answers are not PEFT's."""


@dataclass(frozen=True)
class Setting:
    work: Path
    release: Release
    card: str

    @cached_property
    def tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(ADAPTER, revision=TAG)

    @cached_property
    def original(self) -> list[Answer]:
        """PEFT's answers on the base as its repo stores it."""
        return of_model(self.peft(), self.tokenizer)

    @cached_property
    def trained(self) -> list[Answer]:
        """PEFT's answers on the NF4 weights of the training, de-quantised."""
        return of_model(self.peft(quantised=True), self.tokenizer)

    @cached_property
    def without(self) -> list[Answer]:
        """The answers of the base alone."""
        model = self.peft()
        with model.disable_adapter():
            return of_model(model, self.tokenizer)

    def peft(self, folder: Path | None = None, *, quantised: bool = False) -> Any:
        """Load an adapter with PEFT from the folder of the run, or another, on the folder of the base."""
        import torch
        from peft import PeftModel
        from transformers import AutoModelForCausalLM, BitsAndBytesConfig

        nf4 = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.float32, bnb_4bit_quant_storage=torch.float32,
        )  # fmt: skip
        base = AutoModelForCausalLM.from_pretrained(
            self.release.folder, dtype=torch.float32, quantization_config=nf4 if quantised else None
        )
        if quantised:  # on a CPU bitsandbytes' own kernel computes in 16 bits
            base = base.dequantize().float()
        return PeftModel.from_pretrained(base, str(folder or self.release.run))

    def proof(
        self, program: str, what: str, version: str, given: list[Answer], *, reference: list[Answer] | None = None,
        tolerance: float = FLOAT32,
    ) -> Proof:  # fmt: skip
        """Return the comparison of a program's answers with PEFT's. Raise NotWithin when they are others."""
        found = compare(reference or self.original, given)
        compared = GREEDY if found.largest_difference is not None else GREEDY_TEXT
        largest, lead = found.largest_difference, found.lead
        proof = Proof(program, what, version, compared, found.tokens, found.equal, largest, tolerance, lead)
        if not found.within(tolerance):
            raise NotWithin(f"{program}, {what}: {proof.words}")
        return proof

    @property
    def effect(self) -> str:
        """Say how far the base alone is from the adapter: a program that lost the adapter would be as far."""
        alone = compare(self.original, self.without)
        nf4 = compare(self.original, self.trained)
        return (
            f"Without the adapter {alone.equal} of {alone.tokens} tokens would be equal; with it on the NF4 weights of "
            f"the training, {nf4.equal} of {nf4.tokens}."
        )
