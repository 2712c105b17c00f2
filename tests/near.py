"""Numbers that are equal but for rounding: how far they may be apart, in shares of what was summed to make them.

Kernels of other processors, and other numbers of threads, sum in another order. The error of a sum grows with its terms
and not with the sum, which may be near zero, so the scale is that of the terms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

Step = tuple[float, Mapping[str, Sequence[float]], Mapping[str, torch.Tensor]]
"""The loss, the metrics and the gradients of a training step."""


def assert_near(found: Any, expected: Any, *, share: float, scale: Any = None, name: str = "") -> None:
    """Compare element by element. The allowed distance is `share` of `scale`, by default the largest of `expected`."""
    one, other = (torch.as_tensor(values, dtype=torch.float64) for values in (found, expected))
    assert one.shape == other.shape, name
    scale = float(other.abs().max() if scale is None else scale)
    distance = float((one - other).abs().max())
    assert distance <= share * scale, f"{name} {distance:.3g} apart, which is {distance / scale:.2g} of {scale:.3g}"


def assert_same_step(found: Step, expected: Step) -> None:
    """Compare two ways to compute one training step: losses to 1e-5, gradients to 1e-4 of what they are sums of."""
    loss, metrics, gradients = expected
    # a loss is a function of order one of the rewards, or more (ipo squares them); the metrics are means of the same
    assert_near(found[0], loss, share=1e-5, scale=max(1, abs(loss)), name="loss")
    for name, values in metrics.items():
        largest = max(map(abs, values), default=0)
        assert_near(found[1][name], values, share=1e-5, scale=max(1, largest), name=name)
    assert gradients.keys() == found[2].keys()
    # where terms cancel nothing but rounding is left (a query with one key has no gradient), and that is of their size
    floor = 1e-6 * max(float(gradient.norm()) for gradient in gradients.values())
    for name, gradient in gradients.items():
        distance = float((gradient - found[2][name]).norm())
        assert distance <= 1e-4 * float(gradient.norm()) + floor, f"{name} {distance:.3g} of {gradient.norm():.3g}"
