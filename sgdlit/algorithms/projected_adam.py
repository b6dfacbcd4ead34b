"""APOLLO: column factors of Adam, seen through a random projection, scale the gradient of SGD."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from sgdlit.algorithms.by_tensor import ByTensor
from sgdlit.foundations.errors import UserError
from sgdlit.foundations.philox import derive_key, normal


class ProjectedAdam(ByTensor):
    """θ ← (1 − lr·w)θ − lr·G·diag(s), s_j = ‖R̃_j‖/‖R_j‖ with R = PG and R̃ what Adam makes of it.

    G is the gradient of a matrix ``[m, n]`` and P ``[r, m]`` a projection with entries N(0, 1/r), fixed and a
    function of the seed and of the tensor's place: the state is 2rn numbers in place of Adam's 2mn. With one
    factor for the whole tensor and r = 1 it is APOLLO-Mini. Tensors that are no matrices, and matrices of r
    rows or fewer, take Adam's step. Source: Zhu et al. 2024, 2412.05270, algorithm 1, without its limiter of
    the growth of norms. ``pytorch_optimizer.APOLLO`` takes its rank from param groups, and without is Adam.

    Args:
        params: parameters, or groups of them.
        lr: of all tensors; schedules move it.
        betas: of Adam's moments.
        eps: added to √V̂.
        weight_decay: w.
        rank: r.
        per_tensor: one factor for each tensor, not for each column.
        seed: of the projections.

    Raises:
        UserError: a number that is not possible.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        rank: int = 4,
        per_tensor: bool = False,
        seed: int = 0,
    ) -> None:
        for name, value in (("lr", lr), ("eps", eps), ("weight_decay", weight_decay)):
            if not 0 <= value < math.inf:
                raise UserError(f"optimizer.{name}: {value} is not possible; allowed: 0 or more")
        if not all(0 <= beta < 1 for beta in betas):
            raise UserError(
                f"optimizer.betas: {betas} is not possible; allowed: two numbers from 0 to below 1"
            )
        if rank < 1:
            raise UserError(f"optimizer.rank: {rank} is not possible; allowed: 1 or more")
        given = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, {**given, "rank": rank, "per_tensor": per_tensor, "seed": seed})

    def update_tensor(self, p: Tensor, gradient: Tensor, group: dict[str, Any], place: int) -> None:
        p.mul_(1 - group["lr"] * group["weight_decay"])
        p.sub_(self._direction(p, gradient, group, place), alpha=group["lr"])

    def _direction(self, p: Tensor, gradient: Tensor, group: dict[str, Any], place: int) -> Tensor:
        rank = group["rank"]
        if gradient.dim() != 2 or len(gradient) <= rank:
            return self._adapted(p, gradient, group)
        seen = self._projection(gradient, rank, group["seed"], place) @ gradient
        adapted = self._adapted(p, seen, group)
        over = None if group["per_tensor"] else 0
        lengths = [torch.linalg.vector_norm(part, dim=over) for part in (adapted, seen)]
        return gradient * torch.where(lengths[1] > 0, lengths[0] / lengths[1], torch.zeros_like(lengths[1]))

    def _projection(self, gradient: Tensor, rank: int, seed: int, place: int) -> Tensor:
        """P of the tensor with this number, ``[r, m]``."""
        key = derive_key(seed, f"projection {place}")
        rows = torch.arange(rank, device=gradient.device)
        return normal(key, rows, len(gradient), dtype=gradient.dtype) / math.sqrt(rank)

    def _adapted(self, p: Tensor, gradient: Tensor, group: dict[str, Any]) -> Tensor:
        """M̂/(√V̂ + ε) after taking a gradient in, whose moments are kept with the parameter."""
        state, (first, second) = self.state[p], group["betas"]
        if not state:
            state["step"] = torch.tensor(0.0)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(gradient), torch.zeros_like(gradient)
        state["step"] = state["step"] + 1
        count = float(state["step"])
        mean = state["exp_avg"].lerp_(gradient, 1 - first)
        square = state["exp_avg_sq"].mul_(second).addcmul_(gradient, gradient, value=1 - second)
        root = (square / (1 - second**count)).sqrt().add_(group["eps"])
        return mean / (1 - first**count) / root
