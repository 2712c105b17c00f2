"""Compare numbers that are equal up to rounding.

Other processors, and other numbers of threads, sum in another order. The error of a sum grows with its terms and not
with the sum, which may be near zero, so a tolerance is a fraction of the size of the terms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy.typing as npt
import torch

Step = tuple[float, Mapping[str, Sequence[float]], Mapping[str, torch.Tensor]]
"""The loss, the metrics and the gradients of a training step."""


def assert_near(
    found: npt.ArrayLike, expected: npt.ArrayLike, *, share: float, scale: float | None = None, name: str = ""
) -> None:
    """Compare element by element. The allowed distance is `share` of `scale`, by default the largest of `expected`."""
    actual, wanted = (torch.as_tensor(values, dtype=torch.float64) for values in (found, expected))
    assert actual.shape == wanted.shape, name
    scale = float(wanted.abs().max()) if scale is None else float(scale)
    distance = float((actual - wanted).abs().max())
    assert distance <= share * scale, f"{name} {distance:.3g} apart, which is {distance / scale:.2g} of {scale:.3g}"


def assert_same_step(found: Step, expected: Step) -> None:
    """Compare two ways to compute one training step: losses within 1e-5, gradients within 1e-4, of their terms."""
    loss, metrics, gradients = expected
    # losses are of order one in the rewards, or above (ipo squares them); the metrics are means of these
    assert_near(found[0], loss, share=1e-5, scale=max(1, abs(loss)), name="loss")
    for name, values in metrics.items():
        largest = max(map(abs, values), default=0)
        assert_near(found[1][name], values, share=1e-5, scale=max(1, largest), name=name)
    assert gradients.keys() == found[2].keys()
    # where terms cancel, only rounding of their size is left: a query with a single key has no gradient
    floor = 1e-6 * max(float(gradient.norm()) for gradient in gradients.values())
    for name, gradient in gradients.items():
        distance = float((gradient - found[2][name]).norm())
        assert distance <= 1e-4 * float(gradient.norm()) + floor, f"{name} {distance:.3g} of {gradient.norm():.3g}"
