"""Rollout cost: what a cloned linear policy costs in the loop that it closes."""

from typing import Any

import torch
from torch import Tensor, nn

from sgdlit.data.keyed_data import KeyedData
from sgdlit.data.teachers import LinearTeacher
from sgdlit.foundations.arguments import require_counts
from sgdlit.foundations.errors import UserError
from sgdlit.measures.measure import Measure, RunAtStep, Values


def rollout_cost(factor: Tensor, horizon: int = 60) -> Tensor:
    """Σ_{t<T} |φ|ᵗ, of the shape of the closed loop's factors φ: |x_t| of x_{t+1} = φx_t from x₀ = 1, summed.

    Source: Block et al. 2023, arXiv 2310.11428.
    """
    require_counts(horizon=horizon)
    powers = torch.arange(horizon, device=factor.device)
    return factor.abs().unsqueeze(-1).pow(powers).sum(-1)


class RolloutCost(Measure):
    """``measure/rollout_cost`` Σ_{t<T} \\|φ\\|ᵗ with φ = ``expert`` + f(1) − w*, of a linear policy f that
    learns an expert w* from its actions; ``measure/expert_cost`` of the expert.

    Args:
        expert: the factor of the loop that the expert closes.
        horizon: T, steps of a rollout.
        cadence: see :class:`Measure`.
    """

    formula = "Σ_{t<T} |φ|ᵗ, φ = φ* + k − k*"
    answers = "what does noise of SGD, invisible in the loss, cost when the policy acts"
    price = "0"
    logged = ("measure/rollout_cost", "measure/expert_cost")
    headline = "measure/rollout_cost"

    def __init__(self, expert: float = 0.95, horizon: int = 60, **cadence: Any) -> None:
        super().__init__(**cadence)
        require_counts("RolloutCost", horizon=horizon)
        self.expert, self.horizon = expert, horizon

    def check(self, network: nn.Module, data: KeyedData) -> None:
        if not isinstance(data, LinearTeacher) or data.d != 1:
            raise UserError(
                f"RolloutCost: {type(data).__name__} is no expert of one state and one action; allowed: "
                "sgdlit.data.teachers.LinearTeacher with d: 1"
            )

    def take(self, run: RunAtStep, member: int) -> Values:
        assert isinstance(run.data, LinearTeacher), "check() lets no others pass"
        first = next(run.network.parameters())
        with torch.no_grad():
            gain = run.network(torch.ones(1, 1, dtype=first.dtype, device=first.device)).double().reshape(())
        factor = self.expert + gain - run.data.weights[0].to(gain)
        expert = torch.tensor(self.expert, dtype=torch.float64)
        return {
            "measure/rollout_cost": float(rollout_cost(factor, self.horizon)),
            "measure/expert_cost": float(rollout_cost(expert, self.horizon)),
        }
