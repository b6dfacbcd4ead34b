"""Smith, Dherin, Barrett & De 2021: SGD in random order follows gradient flow on C + (ε/4m) Σ_k ‖∇Ĉ_k‖².

M1 to M6 are computed: endpoints of an epoch, in every order of the minibatches, beside gradient flow. F1a to
F1c, F3, F4 and F7 are the figures of the paper, on networks that a CPU trains in seconds.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sgdlit import theory
from sgdlit.figures.style import COLORS, MARKERS, binary_ticks, distinct, finish, panels, select
from sgdlit.foundations.errors import UserError
from sgdlit.foundations.files import read_table
from sgdlit.papers.claim import EXACT, Claim, Finding
from sgdlit.papers.paper import Evidence, Experiment, Paper, Row, Tables, Workshop
from sgdlit.papers.support import c_reg_over_batch_size, paired_accuracy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from sgdlit.theory.modified_flow import SlopeCurve
    from sgdlit.theory.problems import Problem

_PAPER = "Smith et al. 2021, arXiv 2101.12176"


@dataclass
class Options:
    """Gradient flow and discrete training on small networks (M1 to M6).

    Symbols (Smith et al. 2021, arXiv 2101.12176): ω parameters; C the loss, Ĉ_k the loss of minibatch k of m;
    ε the learning rate; n-step SGD takes n updates of the bare rate α = ε/n on each minibatch; C̃ the modified
    loss C + (α/4m) Σ_k ‖∇Ĉ_k‖² (Eqs 1, 20, 39). Distances after one epoch are fitted as ε to a power.

    Args:
        m: minibatches per epoch; all m! orders are enumerated up to 6.
        batch_size: examples per minibatch, B.
        largest_lr: the largest ε on the network with normal data; the others are halvings of it.
        largest_lr_images: the largest ε on Fashion-MNIST.
        halvings: how many halvings of the largest ε.
        n_steps: the n of n-step SGD (M6).
        order_pairs: sample this many forward/reversed pairs of orders instead of enumerating (for m > 6).
        inputs: input dimension of the network on normal data.
        init_scale: of the initial weights, whose variance is init_scale²/fan-in.
        seed: of data, start and sampled orders.
    """

    m: int = 4
    batch_size: int = 4
    largest_lr: float = 2.0**-7
    largest_lr_images: float = 2.0**-4
    halvings: int = 5
    n_steps: list[int] = field(default_factory=lambda: [1, 2, 4])
    order_pairs: int | None = None
    inputs: int = 3
    init_scale: float = 0.7
    seed: int = 0


# The modified flow: M1 to M6

SLOPE_TOLERANCE = 0.1
_IDENTITY_TOLERANCE = 1e-12
_IDENTITY_EXAMPLES = 10
_STATEMENTS = {
    "M1": "mean iterate over orders,",
    "M2": "iterates of one epoch,",
    "M3": "an epoch then its reverse,",
    "M4": "gradient descent,",
    "M6": "n-step SGD,",
}


def measure_flow(o: Options, workshop: Workshop) -> Evidence:
    """Tables ``slopes`` and ``identities``."""
    if o.halvings < 1:
        raise UserError(f"halvings = {o.halvings}: a slope needs at least one")
    if not o.n_steps or min(o.n_steps) < 1:
        raise UserError(f"n_steps = {o.n_steps}: n-step SGD takes 1 or more updates per minibatch")
    orders = theory.orders_for(o.m, o.order_pairs, o.seed)
    problems, evidence = _problems(o, workshop.data), Evidence()
    total, done = len(problems) * (o.halvings + 1), 0

    def advance() -> None:
        nonlocal done
        done += 1
        workshop.progress("flows and epochs", done, total)

    for problem, largest in problems:
        lrs = [largest * 2.0**-k for k in range(o.halvings + 1)]
        curves = theory.slope_curves(problem.minibatches, problem.start, lrs, orders, o.n_steps, advance)
        evidence.tables.setdefault("slopes", []).extend(_slope_rows(problem.name, curves))
        evidence.findings += [_slope_finding(problem.name, curve) for curve in curves]
        _add_identities(evidence, problem)
    if len(problems) == 1:
        evidence.notes.append("Fashion-MNIST left out: no data folder (--data or SGDLIT_DATA)")
    return evidence


def _problems(o: Options, data: Path | None) -> "list[tuple[Problem, float]]":
    problems = [(theory.random_regression(o.m, o.batch_size, o.inputs, o.init_scale, o.seed), o.largest_lr)]
    if data is not None:
        images = theory.fashion_mnist(_fashion_mnist(data), o.m, o.batch_size, o.init_scale, o.seed)
        problems.append((images, o.largest_lr_images))
    for problem, lr in problems:
        curvature = theory.largest_curvature(theory.mean_loss(problem.minibatches), problem.start)
        if not 0 < lr * abs(curvature) < 1:
            raise UserError(
                f"largest_lr = {lr} on {problem.name}: must lie above 0 and well below "
                f"{1 / abs(curvature):.3g}, one over the largest curvature of C at the start: the powers are "
                "those of ε → 0"
            )
    return problems


def _slope_rows(name: str, curves: "list[SlopeCurve]") -> list[Row]:
    return [
        {"problem": name, "claim": c.claim, "label": c.label, "slope": c.slope, "lr": lr, "distance": d}
        for c in curves
        for lr, d in zip(c.lrs, c.distances, strict=True)
    ]


def _slope_finding(name: str, curve: "SlopeCurve") -> Finding:
    found = curve.fitted_slope()
    statement = f"{name}: {_STATEMENTS[curve.claim]} {curve.label}, as a power of ε"
    holds = abs(found - curve.slope) <= SLOPE_TOLERANCE
    predicted = f"{curve.slope} ± {SLOPE_TOLERANCE}"
    return Finding(curve.claim, statement, predicted, f"{found:.3f}", holds, EXACT)


def _add_identities(evidence: Evidence, problem: "Problem") -> None:
    examples = problem.examples[:_IDENTITY_EXAMPLES]
    differences = theory.penalty_identities(examples, problem.start, range(1, len(examples) + 1))
    for equation, difference in differences.items():
        evidence.tables.setdefault("identities", []).append(
            {"problem": problem.name, "equation": equation, "relative_difference": difference}
        )
        statement = f"{problem.name}: the two sides of {equation} differ by, relative"
        predicted, holds = f"≤ {_IDENTITY_TOLERANCE:.0e}", difference <= _IDENTITY_TOLERANCE
        evidence.findings.append(Finding("M5", statement, predicted, f"{difference:.1e}", holds, EXACT))


_TITLES = {
    "M1": "M1, M2: one epoch of SGD, all orders",
    "M3": "M3: an epoch, then its reverse",
    "M4": "M4: gradient descent",
    "M6": "M6: n-step SGD, α = ε/n",
}


def draw_flow(tables: Tables) -> "dict[str, Figure]":
    """Distance over learning rate, a row of panels per problem: points measured, lines of theory."""
    rows = tables["slopes"]
    problems = distinct(rows, "problem")
    figure, axes = panels(len(problems), len(_TITLES), width=3.9, height=3.9)
    for place, ax in enumerate(axes):
        problem, claim = problems[place // len(_TITLES)], list(_TITLES)[place % len(_TITLES)]
        here = select(rows, problem=problem, claim=claim)
        here += select(rows, problem=problem, claim="M2") if claim == "M1" else []
        for i, label in enumerate(distinct(here, "label")):
            _draw_slope(ax, select(here, label=label), label, i)
        title = f"{_TITLES[claim]}\n({problem})"
        finish(ax, title, "learning rate ε", "distance in parameters", legend=False)
        ax.legend(fontsize=7.5, loc="upper center", bbox_to_anchor=(0.5, -0.2), frameon=False)
        binary_ticks(ax, distinct(here, "lr"))
    return {"slopes": figure}


def _draw_slope(ax: "Axes", rows: Sequence[Row], label: str, i: int) -> None:
    lr, distance = (np.array([row[key] for row in rows]) for key in ("lr", "distance"))
    slope, color, finest = rows[0]["slope"], COLORS[i], np.argmin(lr)
    ax.plot(lr, distance, MARKERS[i], color=color, markersize=5, label=f"{label} (line: slope {slope})")
    ax.plot(lr, distance[finest] * (lr / lr[finest]) ** slope, color=color, linewidth=1)


_FLOW_QUICK = "m = 3, all orders, five halvings of ε, a tanh network on normal data (and Fashion-MNIST)"
_FLOW_FULL = "the same with m = 4 and n = 1, 2, 4"


def _flow_claim(identity: str, statement: str, equation: str, prediction: str) -> Claim:
    return Claim(identity, statement, f"{_PAPER}, {equation}", "exact", prediction, _FLOW_QUICK, _FLOW_FULL)


_FLOW = Experiment(
    "flow",
    (
        _flow_claim(
            "M1",
            "the mean iterate over orders follows gradient flow on the modified loss",
            "Eqs 1, 18–20",
            "distance after an epoch ~ ε³, to flow on C ~ ε²",
        ),
        _flow_claim("M2", "iterates of different orders lie ε² apart", "Eq 13", "spread ~ ε²"),
        _flow_claim(
            "M3",
            "an epoch and its reverse follow the modified loss in a single order",
            "Eq 15",
            "distance ~ ε³, to flow on C ~ ε²",
        ),
        _flow_claim(
            "M4",
            "gradient descent follows flow on C + ε/4 ‖∇C‖²",
            "Eq 11",
            "distance ~ ε³, to flow on C ~ ε²",
        ),
        _flow_claim(
            "M5",
            "mean square norms of minibatch gradients split into mean and spread",
            "Eqs 2 and 22",
            "both sides equal to 1e-12",
        ),
        _flow_claim(
            "M6",
            "n-step SGD follows the modified loss with the bare rate α = ε/n",
            "Eq 39",
            "distance ~ ε³ with α, ~ ε² with ε",
        ),
    ),
    measure_flow,
    draw_flow,
)


# The figures: F1a, F1b, F3, F4, F7 on a diagonal linear network, F1c on a narrow MLP

_SEEDS = "none: means of two seeds, compared with a margin"
_LR, _STRENGTH, _REPEATS = "model.optimizer.lr", "model.reg_strength", "data.repeats"
_KEYS = (_LR, _STRENGTH, _REPEATS)
Found = dict[str, dict[tuple[float, ...], float]]


def _lrs(*exponents: float) -> dict[str, list[str]]:
    return {_LR: [f"2^{k}" for k in exponents]}


_DIAGONAL_GRIDS: dict[str, list[dict[str, Any]]] = {
    "rate": [_lrs(-6, -5, -4, -3)],
    "strength": [{_STRENGTH: ["2^-6", "2^-5", "2^-4", "2^-3", "2^-2"]}],
    "rate_2": [_lrs(-5, -4, -3, -2) | {"data.batch_size": 2, "data.steps": 50000}],
    "rate_4": [_lrs(-4, -3, -2, -1) | {"data.batch_size": 4, "data.steps": 25000}],
    "strength_2": [{_STRENGTH: ["2^-5", "2^-4", "2^-3", "2^-2"], "data.batch_size": 2}],
    "strength_4": [{_STRENGTH: ["2^-4", "2^-3", "2^-2", "2^-1"], "data.batch_size": 4}],
    "steps": [
        {"data.batch_size": 4, "data.steps": 25000},
        {_REPEATS: [1, 2, 4, 8]},
        _lrs(-4, -3, -2, -1.5, -1, -0.5),
    ],
}
_FASHION_GRIDS: dict[str, list[dict[str, Any]]] = {
    "rate": [_lrs(-7, -5)],
    "strength": [{_STRENGTH: ["2^-4"]}],
}


def measure_diagonal(o: Options, workshop: Workshop) -> Evidence:
    """Table ``diagonal``: the test loss at the end, by grid, rate, strength and n."""
    if not workshop.quick:
        return _drawn_by_sweeps(
            workshop, "paper/f1_f2_f5_wrn10_1.yaml", "paper/f3_wrn10_1.yaml", "paper/f4_wrn16_4.yaml"
        )
    changed = {"grids": _DIAGONAL_GRIDS, "figures": {}, "seeds": 2}
    store = workshop.sweep("diagonal", "sweeps/quick/diagonal.yaml", changed=changed)
    rows, found = _read(store, _DIAGONAL_GRIDS)
    findings = [*_rise_and_fall(found), *_one_over_lr_by_batch(found), *_one_over_bare_lr(found)]
    findings.append(_not_over_effective_lr(found))
    return Evidence({"diagonal": rows}, findings)


def _rise_and_fall(found: Found) -> list[Finding]:
    """F1b."""
    lr, strength = found["rate"], found["strength"]
    worst = max(later / earlier for curve in (lr, strength) for earlier, later in pairwise(curve.values()))
    ends = lr[2**-3,] / lr[2**-6,], strength[2**-2,] / lr[2**-6,]
    equal = {k: strength[2.0**k,] / lr[2.0**k,] for k in (-6, -5, -4, -3)}
    everywhere = ", ".join(f"{ratio:.2f} at 2^{k}" for k, ratio in equal.items())
    note = f"the ratio over the whole range is {everywhere}: the curves cross, they do not coincide"
    return [
        _finding("F1b", "largest ratio of the test loss to that before, over ε and over λ", "< 0.98", worst),
        _finding("F1b", "test loss at ε = 2⁻³ over that at 2⁻⁶", "< 0.6", ends[0]),
        _finding("F1a", "test loss at λ = 2⁻² and ε = 2⁻⁶ over that without λ", "< 0.5", ends[1]),
        _finding("F1b", "test loss at λ = 2⁻⁴ over that at ε = 2⁻⁴", "1 ± 0.05", equal[-4], note),
    ]


def _one_over_lr_by_batch(found: Found) -> list[Finding]:
    """F3."""
    one, two, four = found["rate"], found["rate_2"], found["rate_4"]
    exponents = (-6, -5, -4, -3)
    of_two = _farthest([two[2.0 ** (k + 1),] / one[2.0**k,] for k in exponents])
    of_four = _farthest([four[2.0 ** (k + 2),] / one[2.0**k,] for k in exponents])
    at_equal_lr = four[2**-3,] / one[2**-3,]
    strength = found["strength"]
    strengths = {
        batch: _farthest([
            found[f"strength_{batch}"][batch * 2.0**k,] / strength[2.0**k,] for k in (-6, -5, -4, -3)
        ])
        for batch in (2, 4)
    }  # fmt: skip
    return [
        _finding("F3", "test loss at B = 2 over that at B = 1, equal ε/B, farthest", "1 ± 0.08", of_two),
        _finding("F3", "test loss at B = 4 over that at B = 1, equal ε/B, farthest", "1 ± 0.15", of_four),
        _finding("F3", "test loss at B = 4 over that at B = 1, equal ε = 2⁻³", "> 1.5", at_equal_lr),
        _finding(
            "F3", "test loss at B = 2 over that at B = 1, equal λ/B, farthest", "1 ± 0.08", strengths[2]
        ),
        _finding(
            "F3", "test loss at B = 4 over that at B = 1, equal λ/B, farthest", "1 ± 0.15", strengths[4]
        ),
    ]


def _not_over_effective_lr(found: Found) -> Finding:
    """F7: at n = 8 the loss is that of the bare rate, so at an equal effective rate it is another."""
    steps = found["steps"]
    apart = steps[2**-4, 8] / steps[2**-1, 1]
    return _finding("F7", "test loss of n = 8 over n = 1 at equal nα = 2⁻¹", "> 1.2", apart)


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
        _finding("F4", "test loss of n steps over that of one, equal α, farthest", "1 ± 0.06",
                 _farthest(ratios)),
        # The curve is not flat, so effective rates would tell.
        _finding("F4", "test loss at n = 8, α = 2⁻² over that at 2⁻⁴", "< 0.9",
                 steps[2**-2, 8] / steps[2**-4, 8]),
        Finding("F4", statement, "falls from n = 1 to 2, and never rises", shown, falls,
                "none: a grid of rates"),
        _finding("F4", "best test loss of n = 1 over the best of n = 2, 4, 8", "< 0.85", loss),
    ]  # fmt: skip


def measure_c_reg(o: Options, workshop: Workshop) -> Evidence:
    """Table ``c_reg``: C_reg of the training set at the end, by rate and strength."""
    if not workshop.quick:
        return _drawn_by_sweeps(workshop, "paper/f1_f2_f5_wrn10_1.yaml")
    if workshop.data is None:
        return Evidence(notes=["F1c left out: no data folder (--data or SGDLIT_DATA)"])
    metric = {"name": "train_set/C_reg", "when": "final"}
    changed = {"grids": _FASHION_GRIDS, "figures": {}, "metric": metric, "seeds": 2}
    smaller = ["--model.network.widths", "[784,16,10]", "--data.train_size", "256"]
    smaller += ["--trainer.check_val_every_n_epoch", "100"]
    smaller += ["--data.root", str(_fashion_mnist(workshop.data))]
    store = workshop.sweep("c_reg", "sweeps/quick/fashion_mlp.yaml", *smaller, changed=changed)
    rows, found = _read(store, _FASHION_GRIDS)
    start, end = found["rate"][2**-7,], found["rate"][2**-5,]
    with_strength = found["strength"][2**-4,]
    findings = [
        _finding("F1c", "C_reg at the end at ε = 2⁻⁵ over that at 2⁻⁷", "< 0.9", end / start),
        _finding("F1c", "C_reg at the end at λ = 2⁻⁴ over that without λ", "< 0.9", with_strength / start),
    ]
    return Evidence({"c_reg": rows}, findings)


def _fashion_mnist(data: Path) -> Path:
    return data / "fashion-mnist" if (data / "fashion-mnist").is_dir() else data


def _drawn_by_sweeps(workshop: Workshop, *files: str) -> Evidence:
    """At full scale, sweep files train and draw; the curves are to be read against the paper's."""
    stores = [workshop.sweep(Path(file).stem, f"sweeps/{file}") for file in files]
    return Evidence(
        notes=[f"table and figures in {store}: to be compared with the paper's" for store in stores]
    )


def _read(store: Path, grids: Mapping[str, list[dict[str, Any]]]) -> tuple[list[Row], Found]:
    """The table of a sweep, and its centers by grid and by the values of rate, strength and n.

    Among the latter a point without a center, where runs diverged, is infinitely large.
    """
    found: Found = {grid: {} for grid in grids}
    rows: list[Row] = []
    for line in read_table(store / "table.csv"):
        keys = [k for entry in grids[line["grid"]] for k in entry if k in (_LR, _STRENGTH)]
        keys += [k for entry in grids[line["grid"]] for k in entry if k == _REPEATS]
        center = float(line["center"]) if line["center"] else None
        found[line["grid"]][tuple(float(line[k]) for k in keys)] = math.inf if center is None else center
        at = {k.rsplit(".", 1)[-1]: float(line[k]) if line.get(k) else None for k in _KEYS}
        rows.append({"grid": line["grid"], **at, "center": center})
    return rows, found


def _finding(claim: str, statement: str, predicted: str, value: float, note: str = "") -> Finding:
    """``predicted`` is ``< a``, ``> a`` or ``a ± b``."""
    if predicted[0] in "<>":
        limit = float(predicted[2:])
        holds = value < limit if predicted[0] == "<" else value > limit
    else:
        middle, width = map(float, predicted.split(" ± "))
        holds = abs(value - middle) <= width * max(middle, 1e-300)
    holds = holds and math.isfinite(value)  # else runs diverged
    return Finding(claim, statement, predicted, f"{value:.3f}", bool(holds), _SEEDS, note)


def _farthest(ratios: Sequence[float]) -> float:
    return max(ratios, key=lambda ratio: math.inf if math.isnan(ratio) else abs(ratio - 1))


def draw_diagonal(tables: Tables) -> "dict[str, Figure]":
    """Test loss over rate and strength, over ε/B, and over α for n steps."""
    rows = [row for row in tables["diagonal"] if row["center"] is not None]
    figure, axes = panels(1, 3)
    lines: list[tuple[Axes, str, str, Callable[[Row], float], dict[str, Any]]] = [
        (axes[0], "ε at λ = 0", "rate", lambda r: r["lr"], {}),
        (axes[0], "λ at ε = 2⁻⁶", "strength", lambda r: r["reg_strength"], {}),
        (axes[1], "B = 1, λ/B", "strength", lambda r: r["reg_strength"], {}),
        (axes[1], "B = 2, λ/B", "strength_2", lambda r: r["reg_strength"] / 2, {}),
        (axes[1], "B = 4, λ/B", "strength_4", lambda r: r["reg_strength"] / 4, {}),
        (axes[1], "B = 1, ε/B", "rate", lambda r: r["lr"], {}),
        (axes[1], "B = 2, ε/B", "rate_2", lambda r: r["lr"] / 2, {}),
        (axes[1], "B = 4, ε/B", "rate_4", lambda r: r["lr"] / 4, {}),
        *((axes[2], f"n = {n}", "steps", lambda r: r["lr"], {"repeats": float(n)}) for n in (1, 2, 4, 8)),
    ]  # fmt: skip
    for ax, label, grid, x, only in lines:
        _draw_line(ax, label, select(rows, grid=grid, **only), x)
    finish(axes[0], "F1b: the rate regularizes", "ε or λ", "test loss")
    finish(axes[1], "F3: equal ε/B, or λ/B at ε = 2⁻⁶", "ε/B, or λ/B", "test loss")
    finish(axes[2], "F4: n steps on each minibatch, B = 4", "bare rate α", "test loss")
    for ax in axes:
        binary_ticks(ax, {2.0 ** round(np.log2(x)) for x in _drawn_at(ax)})
    return {"diagonal": figure}


def draw_c_reg(tables: Tables) -> "dict[str, Figure]":
    """C_reg over rate and strength."""
    figure, (ax,) = panels(1, 1)
    rows = [row for row in tables["c_reg"] if row["center"] is not None]
    _draw_line(ax, "ε at λ = 0", select(rows, grid="rate"), lambda r: r["lr"])
    _draw_line(ax, "λ at ε = 2⁻⁷", select(rows, grid="strength"), lambda r: r["reg_strength"])
    finish(ax, "F1c: C_reg at the end", "ε or λ", "C_reg of the training set")
    binary_ticks(ax, (x for x in _drawn_at(ax) if x > 0))
    return {"c_reg": figure}


def _drawn_at(ax: "Axes") -> list[float]:
    """The places on the x axis of all points of all lines."""
    return [x for line in ax.lines for x in np.asarray(line.get_xdata(), dtype=np.float64).tolist()]


def _draw_line(ax: "Axes", label: str, rows: Sequence[Row], x: Callable[[Row], float]) -> None:
    i = len(ax.lines)
    ax.plot([x(row) for row in rows], [row["center"] for row in rows], color=COLORS[i], marker=MARKERS[i],
            markersize=4, linewidth=1.2, label=label)  # fmt: skip


# F6 and F7 by pairs: test accuracy


def measure_pairs(o: Options, workshop: Workshop) -> Evidence:
    """Tables ``accuracy`` and ``pairs``."""
    if not workshop.quick:
        return _drawn_by_sweeps(workshop, "paper/f6_fashion_mlp.yaml", "paper/f7_fashion_mlp.yaml")
    if workshop.data is None:
        return Evidence(notes=["F6 and F7a left out: no data folder (--data or SGDLIT_DATA)"])
    changed = {"grids": paired_accuracy.GRIDS, "figures": {}, "seeds": paired_accuracy.SEEDS}
    root = ["--data.root", str(_fashion_mnist(workshop.data))]
    return paired_accuracy.evidence(
        workshop.sweep("pairs", "sweeps/quick/fashion_mlp.yaml", *root, changed=changed)
    )


# C_reg over the batch size: Eq 22 beyond an identity


def measure_two_parts(o: Options, workshop: Workshop) -> Evidence:
    """Table ``c_reg_over_batch_size``."""
    partitions = 20 if workshop.quick else 400
    rows = c_reg_over_batch_size.rows_of([0, 300, 3000], partitions, o.seed, workshop)
    found = c_reg_over_batch_size.findings("M5b", rows)
    return Evidence({"c_reg_over_batch_size": rows}, found, seeds=str(o.seed))


_DIAGONAL_QUICK = "a diagonal linear network on 80 examples, 1250 epochs, two seeds"


def _figure_claim(
    identity: str,
    statement: str,
    figure: str,
    prediction: str,
    quick: str,
    full: str,
    config: str,
    shows: bool = True,
) -> Claim:
    source = f"{_PAPER}, {figure}"
    return Claim(identity, statement, source, "trained", prediction, quick, full, config, shows)


_DIAGONAL = Experiment(
    "diagonal",
    (
        _figure_claim(
            "F1b",
            "the test loss falls with ε and with λ",
            "Fig 1b",
            "falls at every step of the grid; at 2⁻⁴ alone, λ and ε are compared, within 5 %",
            _DIAGONAL_QUICK,
            "WRN-10-1 on CIFAR-10 over ε and λ",
            "sweeps/paper/f1_f2_f5_wrn10_1.yaml",
        ),
        _figure_claim(
            "F1a",
            "a run at a small rate that minimises the modified loss generalises better",
            "Fig 1a",
            "less than half of the test loss at λ = 2⁻²",
            _DIAGONAL_QUICK,
            "WRN-10-1 on CIFAR-10, λ = 2⁻⁶ against 0 for 6400 epochs",
            "paper/f1a_wrn10_1.yaml",
        ),
        _figure_claim(
            "F3",
            "curves of small batches are one over ε/B, and over λ/B at one rate",
            "Fig 3",
            "equal within 8 % (B = 2) and 15 % (B = 4) at equal ε/B, and at equal λ/B",
            _DIAGONAL_QUICK,
            "WRN-10-1 on CIFAR-10 over ε at several B",
            "sweeps/paper/f3_wrn10_1.yaml",
        ),
        _figure_claim(
            "F4",
            "n-step SGD depends on the bare rate, and its largest stable one falls with n",
            "Fig 4",
            "equal within 6 % at equal α; the best rate falls with n, and the best loss rises",
            _DIAGONAL_QUICK,
            "WRN-16-4 on CIFAR-10 with 1 to 16 steps on each minibatch",
            "sweeps/paper/f4_wrn16_4.yaml",
        ),
        _figure_claim(
            "F7",
            "the effective rate nα does not decide what n-step SGD finds",
            "Fig 7",
            "test losses that differ by a fifth at equal nα",
            _DIAGONAL_QUICK,
            "an MLP on Fashion-MNIST with 1 to 16 steps on each minibatch",
            "sweeps/paper/f7_fashion_mlp.yaml",
        ),
    ),
    measure_diagonal,
    draw_diagonal,
)
_C_REG = Experiment(
    "c_reg",
    (
        _figure_claim(
            "F1c",
            "C_reg at the end falls with ε and with λ",
            "Fig 1c",
            "by a tenth or more",
            "an MLP 784–16–10 on 256 images of Fashion-MNIST, two seeds",
            "WRN-10-1 on CIFAR-10 over ε and λ",
            "sweeps/paper/f1_f2_f5_wrn10_1.yaml",
        ),
    ),
    measure_c_reg,
    draw_c_reg,
    needs_data=True,
    data_at_full="cifar10",
)
_PAIRS_QUICK = (
    "an MLP 784–64–10 on 1024 images of Fashion-MNIST, 100 epochs at B = 16 and ε = 2⁻⁷ unless said, twelve "
    "seeds; ε = 2⁻⁴ and λ = 2⁻¹ were chosen on others; the test set says which epoch is best, as in the paper"
)


def _pair_claim(identity: str, statement: str, figure: str, config: str, shows: bool = True) -> Claim:
    prediction = "the 95 % interval of the mean paired difference of the highest test accuracy is above 0"
    full = "an MLP 784–4096–4096–4096–10 on all of Fashion-MNIST, seven seeds"
    path = f"sweeps/paper/{config}"
    return _figure_claim(identity, statement, figure, prediction, _PAIRS_QUICK, full, path, shows)


_PAIRS = Experiment(
    "pairs",
    (
        _pair_claim(
            "F6a",
            "at a small rate the explicit regularizer raises test accuracy, as a larger rate does without it",
            "Fig 6a",
            "f6_fashion_mlp.yaml",
        ),
        _pair_claim(
            "F6b",
            "at equal ε/B another batch size gains the same way",
            "Fig 6b",
            "f6_fashion_mlp.yaml",
            shows=False,
        ),
        _pair_claim(
            "F6c", "at equal λ/B another batch size gains the same way", "Fig 6c", "f6_fashion_mlp.yaml"
        ),
        _pair_claim(
            "F7a",
            "n steps on each minibatch raise test accuracy",
            "Fig 7",
            "f7_fashion_mlp.yaml",
            shows=False,
        ),
    ),
    measure_pairs,
    paired_accuracy.draw,
    needs_data=True,
)
_TWO_PARTS = Experiment(
    "two_parts",
    (
        Claim(
            "M5b",
            "over the batch size, C_reg is ¼‖∇C‖² and a part of the noise that falls as (N − B)/B",
            f"{_PAPER}, Eq 22",
            "simulated",
            "minibatches of random partitions within 4 standard errors of it, exactly at B = 1 and B = N",
            "a tanh MLP 16–24–3 on 240 examples, at the start and after 300 and 3000 steps; 20 partitions at "
            "each of eight batch sizes",
            "the same, with 400 partitions",
        ),
    ),
    measure_two_parts,
    c_reg_over_batch_size.draw,
)

PAPER = Paper(
    "smith2021",
    "Smith, Dherin, Barrett & De 2021, On the origin of implicit regularization in SGD, arXiv 2101.12176",
    (_FLOW, _TWO_PARTS, _DIAGONAL, _C_REG, _PAIRS),
    Options,
    {"m": 3},
)
