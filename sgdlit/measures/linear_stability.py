"""Linear stability of SGD: at which learning rates does a minimum hold SGD, for its batch size?"""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, hessian, vmap
from torch.optim import SGD, Optimizer

from sgdlit.data.batches import Batch
from sgdlit.data.keyed_data import KeyedData
from sgdlit.foundations.arguments import require_above_zero
from sgdlit.foundations.errors import UserError
from sgdlit.measures.example_gradients import example_gradients
from sgdlit.measures.from_scripts import LossOfEach, gathered, of_each
from sgdlit.measures.mean_gradient import require_examples, trained_parameters
from sgdlit.measures.measure import Measure, RunAtStep, Values
from sgdlit.measures.undisturbed import preserved, refuse_coupled_examples, refuse_not_finite
from sgdlit.measures.work import Sizes, Works, work_of_company

MOST = 60
"""Parameters at most: the Hessian of each example is formed, and a matrix of P(P + 1)/2 rows."""
_FLAT = 1e-9  # of the largest eigenvalue: below it a direction counts as flat


class StableRate(NamedTuple):
    """What :func:`linear_stability` finds.

    Attributes:
        limit: the largest ε at which SGD's second moment does not grow, θ²/C.
        sharpness_limit: 2/λ₁, the same of gradient descent, never less.
        slope: mean ‖∇C_i‖ over ‖H‖‖θ‖, which must be small, no unit.
    """

    limit: float
    sharpness_limit: float
    slope: float


def linear_stability(
    network: nn.Module,
    loss: LossOfEach,
    batches: Iterable[Batch],
    batch_size: int,
    tolerance: float = 0.01,
) -> StableRate:
    """ε* = 2/λ_max(K†D): at a minimum that fits every example, SGD with a smaller ε is stable in mean square,
    and with a larger one it leaves (Mulayoff & Michaeli 2023, 2306.07850, theorem 3).

    K = ½(H ⊗ I + I ⊗ H) and D = (1 − p)·H ⊗ H + p·(1/N)Σ H_i ⊗ H_i with p = (N − B)/(B(N − 1)), for
    minibatches of B that are drawn without replacement. Nothing is said of directions in which H is flat.

    Cost: about 3P gradients of every example, and an eigenvalue problem of P(P + 1)/2 rows.

    Args:
        network: at such a minimum, with at most 60 trained parameters; nothing of it changes.
        loss: outputs and targets -> one loss for each example.
        batches: inputs and targets of all N examples.
        batch_size: B, at most N.
        tolerance: the most that mean ‖∇C_i‖ may be, as a share of ‖H‖‖θ‖.

    Raises:
        UserError: more parameters; a mean ‖∇C_i‖ that is not small, where the noise of gradients, which is
            no part of this, matters; a batch size that is not possible; a Hessian that is not positive.
    """
    require_above_zero(tolerance=tolerance)
    found = example_hessians(network, loss, batches)
    _require_batch_size(batch_size, len(found.hessians))
    slope = _relative(found, network)
    if not slope <= tolerance:
        raise UserError(
            f"network: the mean norm of examples' gradients is {slope:.2g} of ‖H‖‖θ‖, so this is no minimum "
            f"that fits every example; allowed: at most {tolerance}"
        )
    return StableRate(*stable_rate(found.hessians, batch_size), slope)


def _require_batch_size(batch_size: int, examples: int) -> None:
    if not 1 <= batch_size <= examples or batch_size % 1:
        raise UserError(f"batch_size: {batch_size} is not possible; allowed: 1 to {examples}, the examples")


def _relative(found: "ExampleHessians", network: nn.Module) -> float:
    """Mean ‖∇C_i‖ over ‖H‖‖θ‖; infinite where that is 0."""
    length = math.sqrt(sum(float(p.detach().double().square().sum()) for p in _parameters(network).values()))
    unit = float(torch.linalg.matrix_norm(found.hessians.mean(0), 2)) * length
    return found.slope / unit if unit else math.inf


def stable_rate(hessians: Tensor, batch_size: int) -> tuple[float, float]:
    """ε* and 2/λ₁ from the Hessians of N examples, float64 ``[N, P, P]``; see :func:`linear_stability`."""
    _require_batch_size(batch_size, len(hessians))
    n, whole = len(hessians), hessians.mean(0)
    values, vectors = torch.linalg.eigh(whole)
    if not float(values[-1]) > 0 or float(values[0]) < -1e-6 * float(values[-1]):
        raise UserError(
            f"network: its Hessian has eigenvalues from {float(values[0]):.3g} to {float(values[-1]):.3g}, "
            "so this is no minimum; allowed: none below 0, and one above"
        )
    steep = values > _FLAT * values[-1]
    own = vectors.T @ hessians @ vectors  # in the eigenbasis K is diagonal: (λ_i + λ_j)/2 for the entry ij
    p = (n - batch_size) / (batch_size * (n - 1)) if n > 1 else 0.0
    rows, columns = torch.triu_indices(len(values), len(values))
    kept = steep[rows] | steep[columns]
    rows, columns = rows[kept], columns[kept]
    # D on symmetric matrices, in the basis (E_ij + E_ji)/√2 and E_ii, which is orthonormal.
    norm = torch.where(rows == columns, 0.5, 1.0).to(values).sqrt()
    dense = torch.zeros(len(rows), len(rows), dtype=values.dtype)
    for share, each in ((1 - p, torch.diag(values).unsqueeze(0)), (p, own)):
        for one in each:
            straight = one[rows][:, rows] * one[columns][:, columns]
            crossed = one[rows][:, columns] * one[columns][:, rows]
            dense += share / len(each) * (straight + crossed) * norm.unsqueeze(1) * norm
    root = ((values[rows] + values[columns]) / 2).rsqrt()
    largest = float(torch.linalg.eigvalsh(dense * root.unsqueeze(1) * root)[-1])
    return 2 / largest, 2 / float(values[-1])


class ExampleHessians(NamedTuple):
    """∇²C_i, float64 ``[N, P, P]``, and the mean ‖∇C_i‖."""

    hessians: Tensor
    slope: float


def example_hessians(network: nn.Module, loss: LossOfEach, batches: Iterable[Batch]) -> ExampleHessians:
    """The Hessian of each example by the trained parameters, one after another, and the mean ‖∇C_i‖.

    Raises:
        UserError: more than 60 parameters; what
            :func:`sgdlit.measures.example_gradients.example_gradients` refuses.
    """
    own, batches = of_each(loss), gathered(batches)
    require_examples(sum(len(inputs) for inputs, _ in batches))
    _refuse_many(network)
    refuse_coupled_examples(network)
    refuse_not_finite(network)
    slope = float(example_gradients(network, own, batches).squared_norms.sqrt().mean())
    with preserved(network) as looked_at:
        parameters = {name: p.detach().double() for name, p in _parameters(looked_at).items()}
        sizes = [p.numel() for p in parameters.values()]
        rest = {name: b.double() if b.is_floating_point() else b for name, b in looked_at.named_buffers()}
        rest |= {n: p.detach().double() for n, p in looked_at.named_parameters() if n not in parameters}

        def cost(flat: Tensor, x: Tensor, y: Tensor) -> Tensor:
            parts = zip(parameters.items(), flat.split(sizes), strict=True)
            values = {name: part.view_as(p) for (name, p), part in parts}
            outputs = functional_call(looked_at, values | rest, (x.unsqueeze(0),))
            return own.per_example(outputs, y.unsqueeze(0)).squeeze(0)

        flat = torch.cat([p.flatten() for p in parameters.values()])
        each = vmap(hessian(cost), in_dims=(None, 0, 0), chunk_size=64)
        found = [each(flat, _double(x), _double(y)) for x, y in batches if len(x)]
    return ExampleHessians(torch.cat(found), slope)


def _double(values: Tensor) -> Tensor:
    return values.double() if values.is_floating_point() else values


def _parameters(network: nn.Module) -> dict[str, nn.Parameter]:
    return trained_parameters(network)


def _refuse_many(network: nn.Module, owner: str = "network") -> None:
    count = sum(p.numel() for p in _parameters(network).values())
    if count > MOST:
        raise UserError(f"{owner}: {count} parameters are too many here; allowed: at most {MOST}")


class LinearStability(Measure):
    """``measure/stable_lr_limit`` ε* = 2/λ_max(K†D), and ``measure/lr_over_stable_limit`` ε/ε*, above 1 where
    SGD leaves the minimum; of the examples, as if they were the training set, for the run's batch size.

    ``measure/mean_slope`` is mean ‖∇C_i‖ over ‖H‖‖θ‖: where it is above the tolerance, or the Hessian is not
    positive, there is no minimum that fits every example, and the others have no value. Runs with another
    optimizer than SGD, or with momentum, are refused.

    Args:
        tolerance: of the mean slope.
        cadence: see :class:`Measure`.
    """

    formula = "ε* = 2/λ_max(K†D), K = ½(H⊕H), D = (1 − p)H⊗H + p mean H_i⊗H_i, p = (N − B)/(B(N − 1))"
    answers = "is this minimum stable for SGD with this learning rate and batch size"
    price = "3 P n for P ≤ 60 parameters"
    logged = ("measure/stable_lr_limit", "measure/lr_over_stable_limit", "measure/mean_slope")
    needs = ("examples", "optimizer")

    def __init__(self, tolerance: float = 0.01, **cadence: Any) -> None:
        super().__init__(**cadence)
        require_above_zero("LinearStability", tolerance=tolerance)
        self.tolerance = tolerance

    @property
    def looks_at_each(self) -> bool:
        return True

    def check(self, network: nn.Module, data: KeyedData) -> None:
        _refuse_many(network, type(self).__name__)

    def check_optimizer(self, optimizer: Optimizer) -> None:
        kind, groups = type(optimizer), optimizer.param_groups
        others = [name for name in ("momentum", "maximize") if groups[0].get(name)]
        if kind is not SGD or len(groups) > 1 or others:
            what = f" with {len(groups)} groups of parameters" if len(groups) > 1 else ""
            if kind is SGD and others:
                what = f" with {' and '.join(others)}"
            raise UserError(
                f"{type(self).__name__}: not known of {kind.__name__}{what}; allowed: model.optimizer: "
                "torch.optim.SGD without momentum, of one group of parameters"
            )

    def work(self, sizes: Sizes) -> Works:
        n = sizes.examples
        return {
            self: work_of_company(n, sizes.linear)._replace(
                example_gradients=n, products=sizes.parameters * n
            )
        }

    def take(self, run: RunAtStep, member: int) -> Values:
        found = example_hessians(run.network, run.loss, run.examples)
        slope = _relative(found, run.network)
        values = {"measure/mean_slope": slope} if slope < math.inf else {}
        if slope > self.tolerance:
            return values
        try:
            limit, _ = stable_rate(found.hessians, min(run.data.batch_size, run.examples.count))
        except UserError:  # a saddle, or flat
            return values
        lr = float(run.optimizer.param_groups[0]["lr"]) * run.gradient_factor
        return values | {"measure/stable_lr_limit": limit, "measure/lr_over_stable_limit": lr / limit}
