"""F1a, F1b, F3, F4 and F7 of Smith et al. 2021 on a diagonal linear network, which a CPU trains in seconds.

At full scale they are the sweeps of Wide-ResNets on CIFAR-10.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from sgdlit.figures.style import binary_ticks, finish, panels, select
from sgdlit.papers.claim import Claim, Finding
from sgdlit.papers.paper import Evidence, Experiment, Row, Tables, Workshop
from sgdlit.papers.support.centers import (
    REPEATS,
    STRENGTH,
    Found,
    draw_line,
    drawn_at,
    farthest,
    finding,
    lrs,
    read,
)
from sgdlit.papers.support.epoch_flows import SOURCE, Options
from sgdlit.papers.support.fresh_seeds import FIRST, fresh_seeds, in_words
from sgdlit.papers.support.full_sweeps import drawn_by_sweeps

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_GRIDS: dict[str, list[dict[str, Any]]] = {
    "rate": [lrs(-6, -5, -4, -3)],
    "strength": [{STRENGTH: ["2^-6", "2^-5", "2^-4", "2^-3", "2^-2"]}],
    "rate_2": [lrs(-5, -4, -3, -2) | {"data.batch_size": 2, "data.steps": 50000}],
    "rate_4": [lrs(-4, -3, -2, -1) | {"data.batch_size": 4, "data.steps": 25000}],
    "strength_2": [{STRENGTH: ["2^-5", "2^-4", "2^-3", "2^-2"], "data.batch_size": 2}],
    "strength_4": [{STRENGTH: ["2^-4", "2^-3", "2^-2", "2^-1"], "data.batch_size": 4}],
    "steps": [
        {"data.batch_size": 4, "data.steps": 25000},
        {REPEATS: [1, 2, 4, 8]},
        lrs(-4, -3, -2, -1.5, -1, -0.5),
    ],
}


_WEIGHED = (
    "farthest at λ/B = 2⁻³, the largest, and within the band below it; λ also weighs ‖∇C‖², which does not "
    "fall with B"
)


def measure_diagonal(o: Options, workshop: Workshop) -> Evidence:
    """Table ``diagonal``: the test loss at the end, by grid, rate, strength and n."""
    if not workshop.quick:
        return drawn_by_sweeps(
            workshop, "paper/f1_f2_f5_wrn10_1.yaml", "paper/f3_wrn10_1.yaml", "paper/f4_wrn16_4.yaml"
        )
    changed = {"grids": _GRIDS, "figures": {}, "seeds": fresh_seeds(2)}
    data = ("--data.data_seed", str(FIRST))
    store = workshop.sweep("diagonal", "sweeps/quick/diagonal.yaml", *data, changed=changed)
    rows, found = read(store, _GRIDS)
    findings = [*_rise_and_fall(found), *_one_over_lr_by_batch(found), *_one_over_bare_lr(found)]
    findings.append(_not_over_effective_lr(found))
    return Evidence({"diagonal": rows}, findings, seeds=in_words(2))


def _rise_and_fall(found: Found) -> list[Finding]:
    """F1b."""
    lr, strength = found["rate"], found["strength"]
    worst = max(later / earlier for curve in (lr, strength) for earlier, later in pairwise(curve.values()))
    ends = lr[2**-3,] / lr[2**-6,], strength[2**-2,] / lr[2**-6,]
    equal = {k: strength[2.0**k,] / lr[2.0**k,] for k in (-6, -5, -4, -3)}
    everywhere = ", ".join(f"{ratio:.2f} at 2^{k}" for k, ratio in equal.items())
    note = f"the ratio over the whole range is {everywhere}: the curves cross, they do not coincide"
    return [
        finding("F1b", "largest ratio of the test loss to that before, over ε and over λ", "< 0.98", worst),
        finding("F1b", "test loss at ε = 2⁻³ over that at 2⁻⁶", "< 0.6", ends[0]),
        finding("F1a", "test loss at λ = 2⁻² and ε = 2⁻⁶ over that without λ", "< 0.5", ends[1]),
        finding("F1b", "test loss at λ = 2⁻⁴ over that at ε = 2⁻⁴", "1 ± 0.05", equal[-4], note),
    ]


def _one_over_lr_by_batch(found: Found) -> list[Finding]:
    """F3."""
    one, two, four = found["rate"], found["rate_2"], found["rate_4"]
    exponents = (-6, -5, -4, -3)
    of_two = farthest([two[2.0 ** (k + 1),] / one[2.0**k,] for k in exponents])
    of_four = farthest([four[2.0 ** (k + 2),] / one[2.0**k,] for k in exponents])
    at_equal_lr = four[2**-3,] / one[2**-3,]
    strength = found["strength"]
    strengths = {
        batch: farthest([
            found[f"strength_{batch}"][batch * 2.0**k,] / strength[2.0**k,] for k in (-6, -5, -4, -3)
        ])
        for batch in (2, 4)
    }  # fmt: skip
    return [
        finding("F3", "test loss at B = 2 over that at B = 1, equal ε/B, farthest", "1 ± 0.08", of_two),
        finding("F3", "test loss at B = 4 over that at B = 1, equal ε/B, farthest", "1 ± 0.15", of_four),
        finding("F3", "test loss at B = 4 over that at B = 1, equal ε = 2⁻³", "> 1.5", at_equal_lr),
        finding(
            "F3",
            "test loss at B = 2 over that at B = 1, equal λ/B, farthest",
            "1 ± 0.08",
            strengths[2],
            _WEIGHED,
        ),
        finding(
            "F3",
            "test loss at B = 4 over that at B = 1, equal λ/B, farthest",
            "1 ± 0.15",
            strengths[4],
            _WEIGHED,
        ),
    ]


def _not_over_effective_lr(found: Found) -> Finding:
    """F7: at n = 8 the loss is that of the bare rate, so at an equal effective rate it is another."""
    steps = found["steps"]
    apart = steps[2**-4, 8] / steps[2**-1, 1]
    return finding("F7", "test loss of n = 8 over n = 1 at equal nα = 2⁻¹", "> 1.2", apart)


def _one_over_bare_lr(found: Found) -> list[Finding]:
    """F4."""
    steps = found["steps"]
    best: dict[int, tuple[float, float]] = {}
    ratios = [steps[lr, n] / steps[lr, 1] for lr in (2**-4, 2**-3, 2**-2) for n in (2, 4, 8)]
    for n in (1, 2, 4, 8):
        best[n] = min((loss, lr) for (lr, m), loss in steps.items() if m == n)
    lrs = [best[n][1] for n in (1, 2, 4, 8)]
    falls = lrs[0] > lrs[1] >= lrs[2] >= lrs[3]
    loss = best[1][0] / min(best[n][0] for n in (2, 4, 8))
    statement = "best bare rate for n = 1, 2, 4, 8"
    shown = ", ".join(f"{lr:.3g}" for lr in lrs)
    return [
        finding("F4", "test loss of n steps over that of one, equal α, farthest", "1 ± 0.06",
                 farthest(ratios)),
        # The curve is not flat, so effective rates would tell.
        finding("F4", "test loss at n = 8, α = 2⁻² over that at 2⁻⁴", "< 0.9",
                 steps[2**-2, 8] / steps[2**-4, 8]),
        Finding("F4", statement, "falls from n = 1 to 2, and never rises", shown, falls,
                "none: a grid of rates"),
        finding("F4", "best test loss of n = 1 over the best of n = 2, 4, 8", "< 0.85", loss),
    ]  # fmt: skip


def draw_diagonal(tables: Tables) -> "dict[str, Figure]":
    """Test loss over rate and strength, over ε/B, over λ/B, and over α for n steps."""
    rows = [row for row in tables["diagonal"] if row["center"] is not None]
    figure, axes = panels(1, 4, width=3.6)
    lines: list[tuple[Axes, str, str, Callable[[Row], float], dict[str, Any]]] = [
        (axes[0], "ε at λ = 0", "rate", lambda r: r["lr"], {}),
        (axes[0], "λ at ε = 2⁻⁶", "strength", lambda r: r["reg_strength"], {}),
        (axes[1], "B = 1", "rate", lambda r: r["lr"], {}),
        (axes[1], "B = 2", "rate_2", lambda r: r["lr"] / 2, {}),
        (axes[1], "B = 4", "rate_4", lambda r: r["lr"] / 4, {}),
        (axes[2], "B = 1", "strength", lambda r: r["reg_strength"], {}),
        (axes[2], "B = 2", "strength_2", lambda r: r["reg_strength"] / 2, {}),
        (axes[2], "B = 4", "strength_4", lambda r: r["reg_strength"] / 4, {}),
        *((axes[3], f"n = {n}", "steps", lambda r: r["lr"], {"repeats": float(n)}) for n in (1, 2, 4, 8)),
    ]  # fmt: skip
    for ax, label, grid, x, only in lines:
        draw_line(ax, label, select(rows, grid=grid, **only), x)
    finish(axes[0], "F1b: over ε, and over λ", "ε or λ", "test loss")
    finish(axes[1], "F3: over ε/B", "ε/B", "test loss")
    finish(axes[2], "F3: over λ/B at ε = 2⁻⁶", "λ/B", "test loss")
    finish(axes[3], "F4: n steps on each minibatch, B = 4", "bare rate α", "test loss")
    for ax in axes:
        binary_ticks(ax, {2.0 ** round(np.log2(x)) for x in drawn_at(ax)})
    return {"diagonal": figure}


_QUICK = "a diagonal linear network on 80 examples, 1250 epochs, two seeds"


def figure_claim(
    identity: str,
    statement: str,
    figure: str,
    prediction: str,
    quick: str,
    full: str,
    config: str,
    shows: bool = True,
) -> Claim:
    source = f"{SOURCE}, {figure}"
    return Claim(identity, statement, source, "trained", prediction, quick, full, config, shows)


DIAGONAL = Experiment(
    "diagonal",
    (
        figure_claim(
            "F1b",
            "the test loss falls with ε and with λ",
            "Fig 1b",
            "falls at every step of the grid; at 2⁻⁴ alone, λ and ε are compared, within 5 %",
            _QUICK,
            "WRN-10-1 on CIFAR-10 over ε and λ",
            "sweeps/paper/f1_f2_f5_wrn10_1.yaml",
        ),
        figure_claim(
            "F1a",
            "a run at a small rate that minimises the modified loss generalises better",
            "Fig 1a",
            "less than half of the test loss at λ = 2⁻²",
            _QUICK,
            "WRN-10-1 on CIFAR-10, λ = 2⁻⁶ against 0 for 6400 epochs",
            "paper/f1a_wrn10_1.yaml",
        ),
        figure_claim(
            "F3",
            "curves of small batches are one over ε/B, and over λ/B at one rate",
            "Fig 3",
            "equal within 8 % (B = 2) and 15 % (B = 4) at equal ε/B, and at equal λ/B",
            _QUICK,
            "WRN-10-1 on CIFAR-10 over ε at several B",
            "sweeps/paper/f3_wrn10_1.yaml",
            shows=False,
        ),
        figure_claim(
            "F4",
            "n-step SGD depends on the bare rate, and its largest stable one falls with n",
            "Fig 4",
            "equal within 6 % at equal α; the best rate falls with n, and the best loss rises",
            _QUICK,
            "WRN-16-4 on CIFAR-10 with 1 to 16 steps on each minibatch",
            "sweeps/paper/f4_wrn16_4.yaml",
        ),
        figure_claim(
            "F7",
            "the effective rate nα does not decide what n-step SGD finds",
            "Fig 7",
            "test losses that differ by a fifth at equal nα",
            _QUICK,
            "an MLP on Fashion-MNIST with 1 to 16 steps on each minibatch",
            "sweeps/paper/f7_fashion_mlp.yaml",
        ),
    ),
    measure_diagonal,
    draw_diagonal,
    data_at_full=("cifar10",),
)
