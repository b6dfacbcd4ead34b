"""Smith, Dherin, Barrett & De 2021: SGD in random order follows gradient flow on C + (ε/4m) Σ_k ‖∇Ĉ_k‖².

M1 to M6 are computed (``support/epoch_flows.py``); F1a, F1b, F3, F4 and F7 are trained on a diagonal linear
network (``support/diagonal_curves.py``), F1c, F6 and F7a on images.
"""

from typing import TYPE_CHECKING, Any

from sgdlit.figures.style import binary_ticks, finish, panels, select
from sgdlit.papers.claim import Claim
from sgdlit.papers.paper import Evidence, Experiment, Paper, Tables, Workshop
from sgdlit.papers.support import c_reg_over_batch_size, paired_accuracy, training_ends
from sgdlit.papers.support.centers import STRENGTH, draw_line, finding, lrs, read
from sgdlit.papers.support.diagonal_curves import DIAGONAL, figure_claim
from sgdlit.papers.support.epoch_flows import FLOW, SOURCE, Options
from sgdlit.papers.support.fresh_seeds import SPLIT, fresh_seeds, in_words
from sgdlit.papers.support.full_sweeps import drawn_by_sweeps

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# C_reg at the end, on images: F1c

_FASHION_GRIDS: dict[str, list[dict[str, Any]]] = {
    "rate": [lrs(-7, -5)],
    "strength": [{STRENGTH: ["2^-4"]}],
}


def measure_c_reg(o: Options, workshop: Workshop) -> Evidence:
    """Table ``c_reg``: C_reg of the training set at the end, by rate and strength."""
    if not workshop.quick:
        return drawn_by_sweeps(workshop, "paper/f1_f2_f5_wrn10_1.yaml")
    if workshop.data is None:
        return Evidence(notes=["F1c left out: no data folder (--data or SGDLIT_DATA)"])
    metric = {"name": "train_set/C_reg", "when": "final"}
    changed = {"grids": _FASHION_GRIDS, "figures": {}, "metric": metric, "seeds": fresh_seeds(2)}
    smaller = [*SPLIT, "--model.network.widths", "[784,16,10]", "--data.train_size", "256"]
    smaller += ["--trainer.check_val_every_n_epoch", "100"]
    smaller += ["--data.root", str(workshop.data)]
    store = workshop.sweep("c_reg", "sweeps/quick/fashion_mlp.yaml", *smaller, changed=changed)
    rows, found = read(store, _FASHION_GRIDS)
    start, end = found["rate"][2**-7,], found["rate"][2**-5,]
    with_strength = found["strength"][2**-4,]
    findings = [
        finding("F1c", "C_reg at the end at ε = 2⁻⁵ over that at 2⁻⁷", "< 0.9", end / start),
        finding("F1c", "C_reg at the end at λ = 2⁻⁴ over that without λ", "< 0.9", with_strength / start),
    ]
    return Evidence({"c_reg": rows}, findings, seeds=in_words(2))


def draw_c_reg(tables: Tables) -> "dict[str, Figure]":
    """C_reg over rate and strength."""
    figure, (ax,) = panels(1, 1)
    rows = [row for row in tables["c_reg"] if row["center"] is not None]
    draw_line(ax, "ε at λ = 0", select(rows, grid="rate"), lambda r: r["lr"])
    draw_line(ax, "λ at ε = 2⁻⁷", select(rows, grid="strength"), lambda r: r["reg_strength"])
    without = select(rows, grid="rate", lr=2**-7)[0]["center"]
    ax.axhline(without, color="0.4", linestyle="--", linewidth=1, label="λ = 0, ε = 2⁻⁷")
    finish(ax, "F1c: C_reg at the end", "ε or λ", "C_reg of the training set")
    binary_ticks(ax, (row["reg_strength"] or row["lr"] for row in rows))
    return {"c_reg": figure}


# F2, F5, F6 and F7a on images: test accuracy by pairs, and how training ends


def measure_pairs(o: Options, workshop: Workshop) -> Evidence:
    """Tables ``accuracy``, ``pairs`` and ``ends``."""
    if not workshop.quick:
        return drawn_by_sweeps(workshop, "paper/f6_fashion_mlp.yaml", "paper/f7_fashion_mlp.yaml")
    if workshop.data is None:
        return Evidence(notes=["F2, F5, F6 and F7a left out: no data folder (--data or SGDLIT_DATA)"])
    changed = {"grids": paired_accuracy.GRIDS, "figures": {}, "seeds": paired_accuracy.SEEDS}
    arguments = [*SPLIT, "--data.root", str(workshop.data)]
    store = workshop.sweep("pairs", "sweeps/quick/fashion_mlp.yaml", *arguments, changed=changed)
    of_pairs, of_ends = paired_accuracy.evidence(store), training_ends.evidence(store)
    findings = [*of_pairs.findings, *of_ends.findings]
    return Evidence(of_pairs.tables | of_ends.tables, findings, of_ends.notes, of_pairs.seeds)


def draw_pairs(tables: Tables) -> "dict[str, Figure]":
    """Accuracies and differences of pairs; how training ends."""
    return paired_accuracy.draw(tables) | training_ends.draw(tables)


# C_reg over the batch size: Eq 22 beyond an identity


def measure_two_parts(o: Options, workshop: Workshop) -> Evidence:
    """Table ``c_reg_over_batch_size``."""
    partitions = 20 if workshop.quick else 400
    rows = c_reg_over_batch_size.rows_of([0, 300, 3000], partitions, o.seed, workshop)
    found = c_reg_over_batch_size.findings("M5b", rows)
    return Evidence({"c_reg_over_batch_size": rows}, found, seeds=str(o.seed))


_C_REG = Experiment(
    "c_reg",
    (
        figure_claim(
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
    data_at_full=("cifar10",),
)
_PAIRS_QUICK = (
    "an MLP 784–64–10 on 1024 images of Fashion-MNIST, 100 epochs at B = 16 and ε = 2⁻⁷ unless said, twelve "
    "seeds; ε = 2⁻⁴ and λ = 2⁻¹ were chosen on others and on other images; the test set says which epoch is "
    "best, as in the paper"
)


def _pair_claim(identity: str, statement: str, figure: str, config: str, shows: bool = True) -> Claim:
    prediction = "the 95 % interval of the mean paired difference of the highest test accuracy is above 0"
    full = "an MLP 784–4096–4096–4096–10 on all of Fashion-MNIST, seven seeds"
    path = f"sweeps/paper/{config}"
    return figure_claim(identity, statement, figure, prediction, _PAIRS_QUICK, full, path, shows)


def _end_claim(identity: str, statement: str, figure: str, prediction: str) -> Claim:
    full = "WRN-10-1 on CIFAR-10 over ε and λ"
    path = "sweeps/paper/f1_f2_f5_wrn10_1.yaml"
    return figure_claim(identity, statement, figure, prediction, _PAIRS_QUICK, full, path, shows=False)


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
        _end_claim(
            "F2",
            "the rate that is best for the test is larger than the one that is best for the training set",
            "Fig 2",
            "one rate is best for training accuracy, and a larger one for test accuracy",
        ),
        _end_claim(
            "F5",
            "training ends alike in the sweep over ε and in the one over λ",
            "Fig 5",
            "at equal values training accuracy within 0.005, training loss within a factor of 1.5",
        ),
    ),
    measure_pairs,
    draw_pairs,
    needs_data=True,
)
_TWO_PARTS = Experiment(
    "two_parts",
    (
        Claim(
            "M5b",
            "over the batch size, C_reg is ¼‖∇C‖² and a part of the noise that falls as (N − B)/B",
            f"{SOURCE}, Eq 22",
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
    (FLOW, _TWO_PARTS, DIAGONAL, _C_REG, _PAIRS),
    Options,
    {"m": 3},
)
