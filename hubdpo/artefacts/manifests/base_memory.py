"""Part `memory` of a base in `run.json` and `merge.json`: what a program needs in memory to answer with it."""

from __future__ import annotations

from hubdpo.artefacts.manifests.manifest import Count, Part

NF4_BITS = 4 + 8 / 64 + 32 / (64 * 256)
"""Bits of a value in NF4 with double quantisation: an 8-bit scale for 64 values, a 32-bit one for 256 scales (QLoRA,
arXiv 2305.14314, section 3)."""
BYTES = 2
"""Bytes of a value in bfloat16 and float16."""


class BaseMemory(Part):
    """Numbers of values, from the headers of the weights and from config.json."""

    linear_values: Count
    """Weights of linear layers, which NF4 stores in 4 bits; without output head and experts."""
    other_values: Count
    """Embeddings, output head, norms and experts."""
    cache_values: Count | None = None
    """Keys and values that a token adds to the cache, in all layers; None where it is not known, as of layers that keep
    a window of tokens, or compress or share what they keep."""

    @property
    def in_16_bits(self) -> int:
        """Bytes of the weights in bfloat16 or float16."""
        return BYTES * (self.linear_values + self.other_values)

    @property
    def in_nf4(self) -> int:
        """Bytes of the weights where linear layers are in NF4, and the others in 16 bits."""
        return round(NF4_BITS / 8 * self.linear_values) + BYTES * self.other_values
