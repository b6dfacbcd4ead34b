"""Tail index: how heavy is the tail of the noise of single examples."""

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from sgdlit.foundations.arguments import require_above_zero, require_some
from sgdlit.measures.mean_gradient import squared_norm
from sgdlit.measures.measure import Measure, RunAtStep, Values

_EQUAL = 1e-9  # mean logarithm of a quotient, below which it is rounding
SHARES = (0.05, 0.1, 0.2)  # of the sample, from its largest


def hill(sample: Tensor) -> Tensor:
    """α̂_k = k/Σ_{i≤k} ln(X₍ᵢ₎/X₍ₖ₊₁₎) of the k largest of a positive sample: ``[n − 1]``, k = 1 ….

    Its standard error is α/√k where the tail is a power law, P(X > x) ∝ x^(−α). Where it is none α̂ goes on
    growing as k falls: look at all of them (Hill 1975). It is infinite where the k + 1 largest are equal.

    Args:
        sample: ``[n]`` independent draws, n ≥ 2.

    Raises:
        UserError: fewer than two numbers, or one that is not above 0 and finite.
    """
    require_some("sample", sample, 2)
    require_above_zero(sample=float(sample.min()))
    require_above_zero(sample=float(sample.max()))
    logs = sample.double().sort(descending=True).values.log()
    k = torch.arange(1, len(logs), dtype=torch.float64, device=logs.device)
    spread = (logs.cumsum(0)[:-1] - k * logs[1:]) / k
    return torch.where(spread > _EQUAL, 1 / spread, math.inf)


class TailIndex(Measure):
    """``measure/tail_index_qNN`` Hill's α̂ of ‖∇C_i − ∇C‖ over the examples, from the largest NN % of them,
    NN = 05, 10, 20, where these are 3 or more; the standard error of each is α̂/√k.

    The array ``tail_index`` has α̂ for every k. Examples are a sample, coordinates of one gradient are none.
    """

    formula = "α̂_k = k/Σ_{i≤k} ln(X₍ᵢ₎/X₍ₖ₊₁₎), X_i = ‖∇C_i − ∇C‖"
    answers = "how heavy is the tail of the noise of single examples"
    price = "that of GradientNoise; 0 beside it"
    logged = ("measure/tail_index_qNN",)
    arrays: ClassVar[Mapping[str, str]] = {"tail_index": "[n − 1]: α̂ from the k largest, k = 1 …"}
    needs = ("examples", "gradient", "example_norms", "example_products")

    def take(self, run: RunAtStep, member: int) -> Values:
        sample = run.once(deviations)
        if len(sample) < 2:
            return {}
        found = hill(sample)
        ks = {share: round(share * len(sample)) for share in SHARES}
        return {
            f"measure/tail_index_q{round(100 * share):02}": float(found[k - 1])
            for share, k in ks.items()
            if k >= 3 and bool(found[k - 1].isfinite())
        }

    def take_arrays(self, run: RunAtStep, member: int) -> dict[str, Tensor]:
        sample = run.once(deviations)
        return {"tail_index": hill(sample)} if len(sample) > 1 else {}


def deviations(run: RunAtStep) -> Tensor:
    """‖∇C_i − ∇C‖ of the measured examples, those above 0, float64, and none where one is not finite; ask for
    them by ``run.once``."""
    squares = run.example_norms - 2 * run.example_products + squared_norm(run.gradient)
    if not bool(squares.isfinite().all()):
        return squares[:0]
    return squares[squares > 0].sqrt()
