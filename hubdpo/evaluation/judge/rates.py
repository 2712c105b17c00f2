"""The win rate at equal length: a logistic model of who wins, given the difference of the lengths.

After Dubois et al. 2024, Length-Controlled AlpacaEval (arXiv 2404.04475): the log odds of a win are theta + phi *
tanh(d / std(d)), d being the adapter's length less the base's, and the rate that counts is that at d = 0. Their third
term, how hard a prompt is, needs many models and has no place in a comparison of two.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hubdpo.artefacts.manifests.judged import Rate

Values = npt.NDArray[np.float64]

RIDGE = 0.01
"""Penalty on the squares of the coefficients, which matters only where the verdicts follow the lengths exactly."""
FEWEST = 4
"""Prompts without which two coefficients are not fitted."""
STEPS, LONGEST_STEP = 200, 1.0


def win_rate(scores: Values) -> Rate:
    """Return the mean of the scores (0, 1/2 or 1) of the prompts `[n]`, with an interval as of `length_controlled`."""
    rate = _rate(scores, np.ones((len(scores), 1)))
    value = float(scores.mean())
    return Rate(value=value, low=min(value, rate.low), high=max(value, rate.high))


def length_controlled(scores: Values, differences: Values) -> Rate | None:
    """Return the win rate at equal length, from a score and a difference of lengths per prompt `[n]`.

    None for fewer than FEWEST prompts, or where one model always gives the longer answer: then quality cannot be told
    from length.
    """
    if len(scores) < FEWEST or differences.min() > 0 or differences.max() < 0:
        return None
    spread = differences.std()
    lengths = np.tanh(differences / spread) if spread > 0 else np.zeros(len(scores))
    return _rate(scores, np.stack([np.ones(len(scores)), lengths], axis=1))


def _rate(scores: Values, columns: Values) -> Rate:
    """Fit the scores by columns `[n, k]` of which the first is 1, and return the rate where the others are 0.

    Half a win and half a loss there are added (Haldane 1956), so that no rate is surely 0 or 1. The interval is that of
    the log odds by the sandwich estimator (HC2) with the quantile of Student's t, which needs no model of ties. Of
    simulated comparisons of 8 to 100 prompts it holds 95 % and more; a bootstrap of this fit holds 86 to 93 % with 16.
    """
    from scipy.stats import t

    prompts, terms = columns.shape
    columns = np.concatenate([columns, np.eye(1, terms).repeat(2, axis=0)])
    targets, weights = np.append(scores, [1.0, 0.0]), np.append(np.ones(prompts), [0.5, 0.5])
    theta, chances, inverse = _fitted(columns, targets, weights)
    leverage = weights * chances * (1 - chances) * np.einsum("ni,ij,nj->n", columns, inverse, columns)
    residuals = weights * (targets - chances) / np.sqrt(1 - np.minimum(leverage, 0.9))
    pulls = columns * residuals[:, None]
    error = float(np.sqrt((inverse @ (pulls.T @ pulls) @ inverse)[0, 0]))
    around = error * float(t.ppf(0.975, max(prompts - terms, 1)))
    value, low, high = (float(_chance(np.array(place))) for place in (theta, theta - around, theta + around))
    return Rate(value=value, low=low, high=high)


def _fitted(columns: Values, targets: Values, weights: Values) -> tuple[float, Values, Values]:
    """Return theta, the fitted chances `[n]` and the inverse of the Hessian, by Newton's method with bounded steps."""
    coefficients = np.zeros(columns.shape[1])
    for _ in range(STEPS):
        chances = _chance(columns @ coefficients)
        slope = columns.T @ (weights * (targets - chances)) - RIDGE * coefficients
        curve = (columns.T * (weights * chances * (1 - chances))) @ columns + RIDGE * np.eye(len(coefficients))
        step = np.linalg.solve(curve, slope)
        coefficients = coefficients + step * min(1.0, LONGEST_STEP / max(float(np.abs(step).max()), 1e-12))
        if np.abs(step).max() < 1e-10:
            break
    return float(coefficients[0]), chances, np.asarray(np.linalg.inv(curve), dtype=np.float64)


def _chance(log_odds: Values) -> Values:
    return 1 / (1 + np.exp(-np.clip(log_odds, -50, 50)))
