"""Grosse, CSC 2541 lecture 7: minibatch gradients, a drop of the learning rate, linear regression, workers.

G1 enumerates all minibatches of a network's gradients. G3 looks at a drop of the rate
(``support/rate_drop.py``), G12 at stochastic linear regression (``support/stochastic_regression.py``). G17
trains workers that average at every step beside one run on their joint batch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations, product
from typing import TYPE_CHECKING

import numpy as np

from sgdlit import theory
from sgdlit.figures.style import COLORS, MARKERS, distinct, finish, panels, select
from sgdlit.papers.claim import EXACT, Claim, Finding
from sgdlit.papers.paper import Evidence, Experiment, Paper, Row, Tables, Workshop
from sgdlit.papers.support import rate_drop, stochastic_regression
from sgdlit.papers.support.fresh_seeds import FIRST, in_words

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = np.ndarray


@dataclass
class Options:
    """A drop of the learning rate (G3), and stochastic linear regression (G12).

    Symbols (Grosse, CSC 2541 lecture 7): in ``drop`` the noisy quadratic model L = ½ Σ_i h_i θ_i² with
    gradient noise of variance c_i/B, here h_i = c_i = i^(−exponent) and θ_0 ~ N(0, I); learning rate α, batch
    size B (F5, F6). In ``regression`` x ~ N(0, Σ) the inputs, λ_i the eigenvalues of Σ; t = w_*ᵀx + N(0, σ²);
    δ = w_* − w (F10).

    Args:
        drop: of G3.
        regression: of G12.
    """

    drop: rate_drop.DropOptions = field(default_factory=rate_drop.DropOptions)
    regression: stochastic_regression.RegressionOptions = field(
        default_factory=stochastic_regression.RegressionOptions
    )


# All minibatches of a few examples: G1

_EXAMPLES, _SIZES, _ROUNDING = 8, (1, 2, 3, 4), 1e-12


def measure_minibatches(options: Options, workshop: Workshop) -> Evidence:
    """Table ``minibatches``: S·tr Cov of the minibatch gradient over S, with and without replacement."""
    singles = _gradients(np.eye(_EXAMPLES))
    mean = _gradients(np.full((1, _EXAMPLES), 1 / _EXAMPLES))[0]
    trace = float(((singles - mean) ** 2).sum(1).mean())
    rows: list[Row] = []
    biases: list[float] = []
    for drawn, choose in (("with replacement", _tuples), ("without", _subsets)):
        for size in _SIZES:
            means = _gradients(np.eye(_EXAMPLES)[choose(size)].mean(1))
            biases.append(float(np.abs(means.mean(0) - mean).max() / np.abs(mean).max()))
            variance = float(((means - mean) ** 2).sum(1).mean())
            left = 1.0 if drawn == "with replacement" else (_EXAMPLES - size) / (_EXAMPLES - 1)
            rows.append(
                {"drawn": drawn, "size": size, "scaled_variance": size * variance / trace, "predicted": left}
            )
    apart = max(abs(row["scaled_variance"] - row["predicted"]) for row in rows)
    what = f"all minibatches of {_SIZES[0]} to {_SIZES[-1]} of {_EXAMPLES} examples"
    return Evidence(
        {"minibatches": rows},
        [
            Finding("G1", f"{what}: largest relative error of their mean gradient", f"< {_ROUNDING:.0e}",
                    f"{max(biases):.1e}", max(biases) < _ROUNDING, EXACT),
            Finding("G1", f"{what}: largest distance of S·Var/Γ from 1, or from (N − S)/(N − 1) without "
                    "replacement", f"< {_ROUNDING:.0e}", f"{apart:.1e}", apart < _ROUNDING, EXACT),
        ],
        seeds=in_words(1),
    )  # fmt: skip


def _gradients(shares: Array) -> Array:
    """∇Σ_i w_i C_i of a tanh network, ``[k, P]``, for the shares w of each of k minibatches ``[k, N]``."""
    import torch

    problem = theory.random_regression(_EXAMPLES, 1, 3, 0.7, FIRST)

    def cost(parameters: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
        return (own * torch.stack([loss(parameters) for loss in problem.examples])).sum()

    of_each = torch.vmap(torch.func.grad(cost), in_dims=(None, 0), chunk_size=512)
    return of_each(problem.start, torch.from_numpy(shares)).numpy()


def _tuples(size: int) -> Array:
    return np.array(list(product(range(_EXAMPLES), repeat=size)))


def _subsets(size: int) -> Array:
    return np.array(list(combinations(range(_EXAMPLES), size)))


def draw_minibatches(tables: Tables) -> dict[str, Figure]:
    """S·Var over S: points enumerated, lines of theory."""
    figure, (ax,) = panels(1, 1)
    for k, drawn in enumerate(distinct(tables["minibatches"], "drawn")):
        rows = select(tables["minibatches"], drawn=drawn)
        x = [row["size"] for row in rows]
        ax.plot(x, [row["predicted"] for row in rows], color=COLORS[k], label=f"{drawn}: theory")
        ax.plot(x, [row["scaled_variance"] for row in rows], MARKERS[k], color=COLORS[k], label="enumerated")
    ax.set(xticks=_SIZES, ylim=(0, 1.2))
    finish(ax, "variance of minibatch gradients (G1)", "examples S of a minibatch", "S · Var / Γ", log="")
    return {"minibatches": figure}


# Workers that average at every step: G17

_WORKERS, _JOINT_BATCH, _WORKERS_STEPS = (1, 2, 4, 8), 32, 60


def measure_workers(options: Options, workshop: Workshop) -> Evidence:
    """Table ``workers``: after each step, how far the workers' mean is from the run on their joint batch."""
    alone = _parameters_over_steps(1)
    rows: list[Row] = []
    for i, workers in enumerate(_WORKERS):
        apart = np.abs(_parameters_over_steps(workers) - alone).max(1) / np.abs(alone).max()
        rows += [{"workers": workers, "step": t, "distance": float(d)} for t, d in enumerate(apart)]
        workshop.progress("workers", i + 1, len(_WORKERS))
    most = max(row["distance"] for row in rows)
    moved = float(np.abs(alone[-1] - alone[0]).max() / np.abs(alone).max())
    statement = (
        f"{_WORKERS[-1]} and fewer workers: largest distance from one run on the joint batch, relative"
    )
    note = f"the run itself moves its parameters by {moved:.2f}"
    return Evidence(
        {"workers": rows},
        [Finding("G17", statement, f"< {_ROUNDING:.0e}", f"{most:.1e}", most < _ROUNDING, EXACT, note)],
        seeds=in_words(1),
    )


def _parameters_over_steps(workers: int) -> Array:
    """The parameters of the first of some workers, each with its share of B = 32: float64 ``[T + 1, P]``."""
    import torch

    from sgdlit.algorithms import EngineGroup, Member
    from sgdlit.algorithms.mixing import Gossip
    from sgdlit.data.batches import Batch, Batches, Block
    from sgdlit.data.teachers import MLPTeacher
    from sgdlit.models import MLP
    from sgdlit.objectives import loss_by_name
    from sgdlit.papers.support.initial_networks import initial_network

    data = MLPTeacher([8, 16, 3], labels="hard", steps=_WORKERS_STEPS, batch_size=_JOINT_BATCH,
                      dtype="float64", seed=FIRST)  # fmt: skip
    joint, size = data.batches(torch.device("cpu")), _JOINT_BATCH // workers

    class Share(Batches):
        """What worker ``k`` sees of the joint batch."""

        def __init__(self, k: int) -> None:
            super().__init__(size, _WORKERS_STEPS)
            self.k = k

        def batch(self, step: int, part: slice) -> Batch:
            inputs, targets = joint.batch(step, slice(self.k * size, (self.k + 1) * size))
            return inputs[part], targets[part]

    members = [
        Member(initial_network(lambda: MLP([8, 24, 3]), FIRST).double(), loss_by_name("cross_entropy"),
               lambda p: torch.optim.SGD(p, lr=0.2))
        for _ in range(workers)
    ]  # fmt: skip
    engines = EngineGroup(members, mixing=Gossip())
    shares, found = [Share(k) for k in range(workers)], []
    for step in range(_WORKERS_STEPS + 1):
        found.append(torch.cat([p.detach().flatten().clone() for p in members[0].network.parameters()]))
        if step < _WORKERS_STEPS:
            engines.run(Block(step, 1, shares))
    return torch.stack(found).numpy()


def draw_workers(tables: Tables) -> dict[str, Figure]:
    """The distance over steps, and one unit of rounding."""
    figure, (ax,) = panels(1, 1)
    for k, workers in enumerate(distinct(tables["workers"], "workers")):
        rows = [row for row in select(tables["workers"], workers=workers) if row["distance"] > 0]
        if rows:
            ax.plot([r["step"] for r in rows], [r["distance"] for r in rows], color=COLORS[k],
                    label=f"{workers} workers, B = {_JOINT_BATCH // workers} each")  # fmt: skip
    ax.axhline(2.0**-52, color="black", linestyle="--", linewidth=1, label="one rounding, 2⁻⁵²")
    finish(ax, "workers that average at every step (G17)", "step", "distance from one run", log="y")
    return {"workers": figure}


# The paper


def measure_drop(options: Options, workshop: Workshop) -> Evidence:
    """G3, see :func:`rate_drop.measure_drop`."""
    return rate_drop.measure_drop(options.drop, workshop)


def measure_regression(options: Options, workshop: Workshop) -> Evidence:
    """G12, see :func:`stochastic_regression.measure_regression`."""
    return stochastic_regression.measure_regression(options.regression, workshop)


_SOURCE = "Grosse, CSC 2541 lecture 7"
_MINIBATCHES = Experiment(
    "minibatches",
    (
        Claim(
            "G1",
            "the minibatch gradient is unbiased, and its variance falls as 1/S",
            _SOURCE,
            "exact",
            "an unbiased mean, and S·Var constant, to 1e-12; without replacement times (N − S)/(N − 1)",
            "all minibatches of 1 to 4 of 8 examples of a tanh network",
            "the same",
        ),
    ),
    measure_minibatches,
    draw_minibatches,
)
_WORKERS_AVERAGE = Experiment(
    "workers",
    (
        Claim(
            "G17",
            "synchronous data-parallel SGD is SGD on the joint batch",
            _SOURCE,
            "simulated",
            "equal to rounding at every step",
            "1, 2, 4 and 8 workers in one process, an MLP 8–24–3 in float64, 60 steps",
            "processes of their own: python -m sgdlit fit --trainer.devices 2 --trainer.strategy ddp",
        ),
    ),
    measure_workers,
    draw_workers,
)
_DROP = Experiment(
    "drop",
    (
        Claim(
            "G3",
            "the loss falls at once when the learning rate falls",
            f"{_SOURCE}; F6",
            "trained",
            "by more than a tenth, and three times as much as in as many steps before",
            "20 dimensions, 400 steps, 40 simulated runs; two runs of an MLP 784–32–10 on Fashion-MNIST",
            "50 dimensions, 2000 steps, 100 simulated runs; three runs of the config",
            "rate_drop/fashion_mlp.yaml",
        ),
    ),
    measure_drop,
    rate_drop.draw_drop,
    needs_data=True,
)
_REGRESSION = Experiment(
    "regression",
    (
        Claim(
            "G12",
            "gradient noise has the covariance F10, and the risk of SGD its exact value",
            f"{_SOURCE}; F10",
            "simulated",
            "no mean lies farther from theory than chance allows",
            "20 000 gradients; 400 runs of 100 steps",
            "200 000 gradients; 200 runs of 300 steps",
        ),
    ),
    measure_regression,
    stochastic_regression.draw_regression,
)

# 400 runs: the risk of SGD is skewed, and means of 60 lie 5 errors off once in a hundred seeds.
PAPER = Paper(
    "grosse2021",
    "Grosse 2021, CSC 2541 lecture 7",
    (_MINIBATCHES, _DROP, _REGRESSION, _WORKERS_AVERAGE),
    Options,
    {
        "drop.dimensions": 20,
        "drop.steps": 400,
        "drop.simulations": 40,
        "regression.runs": 400,
        "regression.steps": 100,
        "regression.covariance_samples": 20_000,
    },
)
