"""Preconditioned sharpness: the largest curvature in the coordinates in which Adam descends."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam, AdamW, Optimizer

from sgdlit.data.batches import Batch
from sgdlit.foundations.arguments import require_shares
from sgdlit.foundations.errors import UserError
from sgdlit.measures.curvature import CurvatureMeasure, hessian_of, work_of_hessian
from sgdlit.measures.lanczos import Eigenpairs, expected_products, lanczos, start_vector, work_of_lanczos
from sgdlit.measures.measure import RunAtStep, Values
from sgdlit.measures.products import HessianProducts, LossFunction
from sgdlit.measures.stability_limit import stability_limit
from sgdlit.measures.work import Sizes, Works

_MORE = 5  # products than without the preconditioner


class Preconditioned:
    """D^(−1/2)·(H + w)·D^(−1/2), by its products with vectors ``[P]``.

    Args:
        hessian: H.
        preconditioner: D, positive, ``[P]``.
        shift: w, what weight decay inside the gradient adds.
    """

    def __init__(self, hessian: HessianProducts, preconditioner: Tensor, shift: float = 0.0) -> None:
        self.hessian, self.shift = hessian, shift
        self.inverse_root = preconditioner.to(hessian.dtype).rsqrt()

    def __matmul__(self, vector: Tensor) -> Tensor:
        scaled = self.inverse_root * vector
        return self.inverse_root * (self.hessian @ scaled + self.shift * scaled)


def adam_preconditioner(optimizer: Optimizer, parameters: Iterable[Tensor]) -> Tensor:
    """D = (1 − β₁ᵗ)(√(v/(1 − β₂ᵗ)) + ε_A), ``[P]``: update t is −ε·m/D, with m and v Adam's averages
    of gradients and of their squares.

    Args:
        optimizer: Adam or AdamW, of one group.
        parameters: whose entries D has, one after another.

    Raises:
        UserError: another optimizer; no update so far.
    """
    if not is_adam(optimizer):
        raise UserError(
            f"preconditioned sharpness: not known of {type(optimizer).__name__}; allowed: Adam, AdamW, of "
            "one group of parameters"
        )
    group = optimizer.param_groups[0]
    (beta1, beta2), square = group["betas"], "max_exp_avg_sq" if group["amsgrad"] else "exp_avg_sq"
    found = []
    for p in parameters:
        state = optimizer.state.get(p, {})
        if square not in state:
            raise UserError("preconditioned sharpness: Adam has no averages before its first update")
        t = float(state["step"])
        root = (state[square].double() / (1 - beta2**t)).sqrt() + group["eps"]
        found.append(((1 - beta1**t) * root).reshape(-1))
    return torch.cat(found)


def is_adam(optimizer: Optimizer) -> bool:
    """Whether D is known of an optimizer."""
    return type(optimizer) in (Adam, AdamW) and len(optimizer.param_groups) == 1


def preconditioned_sharpness(
    network: nn.Module,
    loss: LossFunction,
    batches: Iterable[Batch],
    optimizer: Optimizer,
    tolerance: float = 1e-3,
    seed: int = 0,
) -> Eigenpairs:
    """λ₁(D^(−1/2)·H·D^(−1/2)), with D of :func:`adam_preconditioner`; unit C/θ over that of the gradient.

    Under Adam it settles at 2(1 + β₁)/((1 − β₁)ε), 38/ε at β₁ = 0.9 (Cohen et al. 2022, 2207.14484); see
    :func:`sgdlit.measures.stability_limit.stability_limit`. Weight decay w inside Adam's gradient makes H
    into H + w.

    Cost: as that of the sharpness, with a few products more.

    Args:
        network: see :class:`sgdlit.measures.products.Products`, as ``loss`` and ``batches``.
        loss: outputs and targets -> mean loss, or one per example.
        batches: inputs and targets of all examples.
        optimizer: Adam or AdamW after at least one update of the network's parameters.
        tolerance: relative error.
        seed: of the start vector.

    Raises:
        UserError: another optimizer; no update so far.
    """
    trained = [p for p in network.parameters() if p.requires_grad]
    preconditioner = adam_preconditioner(optimizer, trained)
    hessian = HessianProducts(network, loss, batches)
    return preconditioned_sharpness_of(hessian, preconditioner, shift_of(optimizer), tolerance, seed)


def preconditioned_sharpness_of(
    hessian: HessianProducts,
    preconditioner: Tensor,
    shift: float = 0.0,
    tolerance: float = 1e-3,
    seed: int = 0,
    step: int = 0,
) -> Eigenpairs:
    """The same, of products with a Hessian, D ``[P]`` and what weight decay adds."""
    start = start_vector(preconditioner.to(hessian.dtype), seed, "preconditioned sharpness", step)
    return lanczos(Preconditioned(hessian, preconditioner, shift), start, 1, tolerance)


def shift_of(optimizer: Optimizer) -> float:
    """What weight decay adds to the Hessian: w in Adam, 0 in AdamW, where it is beside the gradient."""
    group = optimizer.param_groups[0]
    beside = isinstance(optimizer, AdamW) or group.get("decoupled_weight_decay")
    return 0.0 if beside else float(group["weight_decay"])


class PreconditionedSharpness(CurvatureMeasure):
    """``measure/preconditioned_sharpness`` λ₁(D^(−1/2)HD^(−1/2)) of the examples under Adam or AdamW.

    Beside it ``measure/preconditioned_sharpness_converged``, with no value where it is 0, and
    ``measure/preconditioned_sharpness_over_limit``, 1 at Adam's edge of stability, whose value is
    ``measure/preconditioned_sharpness_limit``. Nothing at step 0.

    Args:
        tolerance: relative error.
        cadence: see :class:`Measure`.
    """

    formula = "λ₁(D^(−1/2)HD^(−1/2)), D = (1 − β₁ᵗ)(√v̂ + ε_A)"
    answers = "how close is Adam to its edge of stability, 38/ε at β₁ = 0.9"
    price = "(1 + 2 m) n, with about 10 products m"
    logged = (
        "measure/preconditioned_sharpness",
        "measure/preconditioned_sharpness_converged",
        "measure/preconditioned_sharpness_over_limit",
        "measure/preconditioned_sharpness_limit",
    )
    needs = ("examples", "optimizer", "optimizer_state")

    def __init__(self, tolerance: float = 1e-3, **cadence: Any) -> None:
        super().__init__(**cadence)
        require_shares(type(self).__name__, tolerance=tolerance)
        self.tolerance = tolerance

    def check_optimizer(self, optimizer: Optimizer) -> None:
        if not is_adam(optimizer):
            raise UserError(
                f"PreconditionedSharpness: not known of {type(optimizer).__name__}; allowed: "
                "model.optimizer: torch.optim.Adam or torch.optim.AdamW, of one group of parameters"
            )

    def work(self, sizes: Sizes) -> Works:
        if sizes.step == 0:
            return {}
        products = min(_MORE + expected_products(1, self.tolerance), sizes.parameters)
        own = work_of_lanczos(products, sizes.examples)
        return work_of_hessian(sizes) | {self: own}

    def take(self, run: RunAtStep, member: int) -> Values:
        if run.step == 0:
            return {}
        limit = stability_limit(run.optimizer)
        trained = [p for p in run.network.parameters() if p.requires_grad]
        preconditioner = adam_preconditioner(run.optimizer, trained)
        found = preconditioned_sharpness_of(
            run.once(hessian_of),
            preconditioner,
            shift_of(run.optimizer),
            self.tolerance,
            run.data.seed,
            run.step,
        )
        name = "measure/preconditioned_sharpness"
        values = {f"{name}_converged": float(found.converged)}
        if found.converged:
            largest = float(found.values[0])
            over = limit.lr_times(largest) / limit.limit
            values |= {name: largest, f"{name}_over_limit": over, f"{name}_limit": limit.sharpness}
        return values
