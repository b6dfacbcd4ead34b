"""Smith et al. 2021, equation 22, on a trained network: C_reg over the batch size, and its two parts.

The prediction comes from the gradients of single examples, what is found from minibatches of random
partitions: two computations that share the network and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sgdlit.figures.style import COLORS, distinct, finish, panels, select
from sgdlit.papers.claim import IN_ERRORS, Finding
from sgdlit.papers.paper import Row, Tables, Workshop

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor, nn

_WIDTHS = [16, 24, 3]
_EXAMPLES = 240
_SIZES = (1, 2, 4, 8, 16, 48, 120, _EXAMPLES)
_LR, _BATCH_SIZE = 0.1, 8
_MOST_ERRORS = 4.0  # of eight comparisons, of which one beyond that would come by chance once in 2000 checks


def rows_of(steps: list[int], partitions: int, seed: int, workshop: Workshop) -> list[Row]:
    """Columns step, batch_size, of_gradient, of_noise, found, error: C_reg after some steps of SGD.

    A tanh MLP of float64 is trained on a minibatch of random examples at each step.

    Args:
        steps: at which it is measured.
        partitions: random ones, over which the mean of C_reg is taken at each batch size.
        seed: of data, start, minibatches and partitions.
        workshop: told how far it is.
    """
    import torch

    from sgdlit.data.teachers import MLPTeacher
    from sgdlit.foundations.philox import derive_key, permutation
    from sgdlit.models import MLP
    from sgdlit.objectives import loss_by_name

    torch.manual_seed(seed)
    network, loss = MLP(_WIDTHS, activation="tanh").double(), loss_by_name("cross_entropy")
    teacher = MLPTeacher(
        _WIDTHS, "hard", seed=seed, shard_size=_EXAMPLES, batch_size=_BATCH_SIZE, steps=max(steps)
    )
    x, y = teacher.chosen(torch.arange(_EXAMPLES), torch.device("cpu"))
    x, optimizer = x.double(), torch.optim.SGD(network.parameters(), lr=_LR)
    found: list[Row] = []
    for step in range(max(steps) + 1):
        if step in steps:
            keys = [derive_key(seed, f"partition of {size} at step {step}") for size in _SIZES]
            counts = [2 if size in (1, _EXAMPLES) else partitions for size in _SIZES]  # all are alike there
            orders = [
                [permutation(key, _EXAMPLES, k) for k in range(count)]
                for key, count in zip(keys, counts, strict=True)
            ]
            found += [{"step": step, **row} for row in _at_a_step(network, x, y, orders)]
            workshop.progress("steps", step, max(steps))
        chosen = permutation(derive_key(seed, "minibatches"), _EXAMPLES, step)[:_BATCH_SIZE]
        optimizer.zero_grad()
        loss(network(x[chosen]), y[chosen]).backward()
        optimizer.step()
    return found


def _at_a_step(network: nn.Module, x: Tensor, y: Tensor, orders: list[list[Tensor]]) -> list[Row]:
    """The two parts of equation 22 from single examples; the mean over partitions from minibatches."""
    import numpy as np

    from sgdlit.foundations.intervals import mean_and_error
    from sgdlit.measures.c_reg import c_reg, c_reg_parts
    from sgdlit.objectives import loss_by_name

    loss = loss_by_name("cross_entropy")
    parts = c_reg_parts(network, loss, [(x, y)], _SIZES)
    rows = []
    for size, of_size in zip(_SIZES, orders, strict=True):
        values = [float(c_reg(network, loss, ((x[i], y[i]) for i in order.split(size)))) for order in of_size]
        mean, error = mean_and_error(np.array(values))
        rows.append(
            {
                "batch_size": size, "of_gradient": parts.of_gradient, "of_noise": parts.of_noise[size],
                "found": float(mean), "error": float(error),
            }
        )  # fmt: skip
    return rows


def findings(claim: str, rows: list[Row]) -> list[Finding]:
    """At each step the largest distance in standard errors; at B = N and B = 1 nothing is random."""
    compared = []
    for step in distinct(rows, "step"):
        own = select(rows, step=step)
        random = [row for row in own if row["batch_size"] not in (1, _EXAMPLES)]
        errors = max(abs(row["found"] - _predicted(row)) / row["error"] for row in random)
        apart = max(abs(row["found"] / _predicted(row) - 1) for row in own if row not in random)
        sizes = f"B = {random[0]['batch_size']} to {random[-1]['batch_size']}"
        compared += [
            Finding(claim, f"step {step}: largest distance over {sizes}, in standard errors",
                    f"< {_MOST_ERRORS:g}", f"{errors:.2f}", errors < _MOST_ERRORS, IN_ERRORS),
            Finding(claim, f"step {step}: relative difference at B = 1 and B = N", "< 1e-10", f"{apart:.1e}",
                    apart < 1e-10, "none: every partition gives the same"),
        ]  # fmt: skip
    return compared


def _predicted(row: Row) -> float:
    return row["of_gradient"] + row["of_noise"]


def draw(tables: Tables) -> dict[str, Figure]:
    """C_reg over B at each step: two parts and their sum as lines, means over partitions as points."""
    rows = tables["c_reg_over_batch_size"]
    steps = distinct(rows, "step")
    figure, axes = panels(1, len(steps), width=3.6)
    for ax, step in zip(axes, steps, strict=True):
        own = select(rows, step=step)
        sizes = [row["batch_size"] for row in own]
        noisy = [row for row in own if row["of_noise"] > 0]
        ax.plot(sizes, [row["of_gradient"] for row in own], color=COLORS[0], linestyle="--",
                label="of the gradient, ¼‖∇C‖²")  # fmt: skip
        ax.plot([row["batch_size"] for row in noisy], [row["of_noise"] for row in noisy], color=COLORS[1],
                linestyle=":", label="of the noise, ¼(N − B)/(N − 1)·Γ/B")  # fmt: skip
        ax.plot(
            sizes, [_predicted(row) for row in own], color=COLORS[6], linewidth=1, label="their sum, Eq 22"
        )
        ax.errorbar(sizes, [row["found"] for row in own], [2 * row["error"] for row in own], fmt="o",
                    markersize=3.5, color=COLORS[2], label="minibatches, ± 2 standard errors")  # fmt: skip
        finish(ax, f"after {step} steps" if step else "at the start", "batch size B", "C_reg", legend=False)
    lines, names = axes[0].get_legend_handles_labels()
    figure.legend(lines, names, loc="outside lower center", ncols=len(names), fontsize=8)
    return {"c_reg_over_batch_size": figure}
