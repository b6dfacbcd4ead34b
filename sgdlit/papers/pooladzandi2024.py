"""Pooladzandi & Li 2024, PSGD: a preconditioner on a Lie group, fitted online, removes ill-conditioning.

The regression's inputs have a covariance of condition number 10⁴ in a rotated basis, where Adam's diagonal is
of no use. Kron, of the extra ``optimizers``, keeps a Kronecker product of two triangular factors.

What misleads: the gain is in the last decades. The first 10⁻³ is not reached much sooner, and at a condition
number of 10² there is none. Kron updates its factors at random steps, which it draws from the global
generators of torch, numpy and Python.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sgdlit import theory
from sgdlit.figures.style import COLORS, distinct, finish, panels, select
from sgdlit.papers.claim import Claim, Finding
from sgdlit.papers.paper import Evidence, Experiment, Paper, Tables, Workshop
from sgdlit.papers.support.seed_findings import in_every_seed

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor
    from torch.optim import Optimizer

Array = np.ndarray

_SIZE, _BATCH_SIZE, _STEPS = 16, 64, 600
_CONDITIONS = (1e4, 1e2)
_LRS = {"SGD": (0.01, 0.03, 0.1, 0.3), "Adam": (0.01, 0.03, 0.1, 0.3), "Kron": (0.003, 0.01, 0.03, 0.1, 0.3)}
_REACHED = 1e-3


@dataclass
class Options:
    """Matrix regression y = W*x with inputs x ~ N(0, A²), and no noise.

    Symbols (Pooladzandi & Li, arXiv 2402.04553): cond the condition number of A², whose eigenvalues are
    spaced evenly in their logarithms from 1 to 1/cond in a random basis; the loss is ‖(W − W*)A‖², here over
    that at the start W = 0.

    Args:
        seeds: of the problem and of the inputs.
    """

    seeds: int = 5


def measure(o: Options, workshop: Workshop) -> Evidence:
    """Tables ``curves``, the loss over steps of each seed at each method's best rate, and ``ends``."""
    makers = _makers()
    tables: Tables = {"curves": [], "ends": []}
    best: dict[tuple[float, str], list[Array]] = {}
    total, done = len(_CONDITIONS) * o.seeds, 0
    for condition in _CONDITIONS:
        for seed in range(o.seeds):
            problem = Problem(condition, seed)
            for method, make in makers.items():
                curves = {lr: problem.losses(make, lr) for lr in _LRS[method]}
                lr, curve = min(curves.items(), key=lambda one: np.nan_to_num(one[1][-1], nan=np.inf))
                best.setdefault((condition, method), []).append(curve)
                at = {"condition": condition, "seed": seed, "method": method, "lr": lr}
                tables["ends"].append({**at, "loss": float(curve[-1]), "reached": _first(curve)})
                tables["curves"] += [
                    {**at, "step": t, "loss": float(curve[t])} for t in range(0, _STEPS + 1, 10)
                ]
            done += 1
            workshop.progress("problems", done, total)
    return Evidence(tables, _findings(best))


class Problem:
    """A regression: the target, the inputs of every step, and the loss of a method.

    Args:
        condition: of A².
        seed: of everything.
    """

    def __init__(self, condition: float, seed: int) -> None:
        import torch

        basis = np.linalg.qr(theory.normal_matrix(seed, "PSGD basis", _SIZE, _SIZE))[0]
        self.root = (basis * np.geomspace(1, condition**-0.5, _SIZE)) @ basis.T
        inputs = theory.normal_matrix(seed, "PSGD inputs", _STEPS * _BATCH_SIZE, _SIZE) @ self.root
        self.inputs = torch.from_numpy(inputs).float().view(_STEPS, _BATCH_SIZE, _SIZE)
        self.target = torch.from_numpy(theory.normal_matrix(seed, "PSGD target", _SIZE, _SIZE)).float()
        self.seed = seed

    def losses(self, make: Callable[[list[Tensor], float], Optimizer], lr: float) -> Array:
        """‖(W − W*)A‖² over that at the start after 0 … T steps, at a rate that falls linearly to 0.

        Returns:
            float64 ``[T + 1]``; NaN from where it is not finite.
        """
        import torch

        weights = torch.zeros(_SIZE, _SIZE, requires_grad=True)
        path = torch.empty(_STEPS + 1, _SIZE, _SIZE)
        with seeded_generators(self.seed):
            optimizer = make([weights], lr)
            for t, x in enumerate(self.inputs):
                path[t] = weights.detach()
                for group in optimizer.param_groups:
                    group["lr"] = lr * (1 - t / _STEPS)
                error = (weights.detach() - self.target) @ x.T  # y = Wx of each example
                weights.grad = error @ x / _BATCH_SIZE
                optimizer.step()
            path[_STEPS] = weights.detach()
        apart = (path - self.target).double().numpy() @ self.root
        losses = (apart**2).sum((1, 2))
        with np.errstate(invalid="ignore"):
            return losses / losses[0]


@contextmanager
def seeded_generators(seed: int) -> Iterator[None]:
    """Inside, the global generators of Python, numpy and torch are seeded; afterwards they are as before."""
    from sgdlit.foundations.generators import kept

    before = np.random.get_state()
    np.random.seed(seed)
    try:
        with kept([], seed):
            yield
    finally:
        np.random.set_state(before)


def _makers() -> dict[str, Callable[[list[Tensor], float], Optimizer]]:
    """The three optimizers.

    Raises:
        ModuleNotFoundError: pytorch_optimizer is not installed.
    """
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what it imports in turn
        from pytorch_optimizer import Kron

    return {
        "SGD": lambda p, lr: torch.optim.SGD(p, lr=lr, momentum=0.9),
        "Adam": lambda p, lr: torch.optim.Adam(p, lr=lr),
        "Kron": lambda p, lr: Kron(p, lr=lr),
    }


def _first(curve: Array) -> int | None:
    """The first step at which the loss is below 10⁻³ of that at the start."""
    reached = np.flatnonzero(curve < _REACHED)
    return int(reached[0]) if len(reached) else None


def _findings(best: dict[tuple[float, str], list[Array]]) -> list[Finding]:
    hard, easy = _CONDITIONS
    ends = {key: np.array([curve[-1] for curve in curves]) for key, curves in best.items()}
    others = np.minimum(ends[hard, "SGD"], ends[hard, "Adam"])
    first = [_first(curve) or np.inf for curve in best[hard, "Kron"]]
    first_of_others = [
        min(_first(best[hard, method][k]) or np.inf for method in ("SGD", "Adam")) for k in range(len(first))
    ]
    on_easy = ends[easy, "Kron"] / np.minimum(ends[easy, "SGD"], ends[easy, "Adam"])
    sooner = np.array(first) / np.array(first_of_others)
    return [
        in_every_seed("L19a", "cond 10⁴: loss of Kron at the end over the lower of SGD and Adam",
                      ends[hard, "Kron"] / others, high=0.01),
        in_every_seed("L19b", "cond 10⁴: steps of Kron to 10⁻³ over those of the sooner of SGD and Adam",
                      sooner, 0.5, 2),
        in_every_seed("L19b", "cond 10²: loss of Kron at the end over the lower of SGD and Adam",
                      on_easy, low=1),
    ]  # fmt: skip


def draw(tables: Tables) -> dict[str, Figure]:
    """The loss over steps of each seed, at each method's best rate."""
    figure, axes = panels(1, 2)
    for ax, condition in zip(axes, _CONDITIONS, strict=True):
        for color, method in zip(COLORS, _LRS, strict=False):
            rows = select(tables["curves"], condition=condition, method=method)
            for seed in distinct(rows, "seed"):
                own = select(rows, seed=seed)
                ax.plot([r["step"] for r in own], [r["loss"] for r in own], color=color, linewidth=0.9,
                        label=method if seed == 0 else None)  # fmt: skip
        ax.axhline(_REACHED, color="black", linestyle=":", linewidth=1)
        finish(
            ax,
            f"condition number {condition:.0e}, best rates",
            "step",
            "‖(W − W*)A‖² / at the start",
            log="y",
        )
    return {"regression": figure}


_QUICK = "regression 16×16 in a rotated basis, B = 64, 600 steps, best of four or five rates, five seeds"
_FULL = "ResNet-18 on CIFAR-10, nanoGPT"


def _claim(identity: str, statement: str, prediction: str) -> Claim:
    source = "Pooladzandi & Li 2024, arXiv 2402.04553"
    return Claim(identity, statement, source, "simulated", prediction, _QUICK, _FULL, "list/psgd.yaml")


PAPER = Paper(
    "pooladzandi2024",
    "Pooladzandi & Li 2024, Curvature-informed SGD via general purpose Lie-group preconditioners, "
    "arXiv 2402.04553",
    (
        Experiment(
            "regression",
            (
                _claim(
                    "L19a",
                    "a Kronecker preconditioner fitted online removes ill-conditioning that Adam cannot",
                    "below a hundredth of the loss of SGD and of Adam at the end, in every seed",
                ),
                _claim(
                    "L19b",
                    "it gains nothing in the first decades, nor where the problem is well conditioned",
                    "10⁻³ within a factor 2 of the others' steps; at cond 10² no lower loss",
                ),
            ),
            measure,
            draw,
        ),
    ),
    Options,
)
