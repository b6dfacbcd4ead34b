"""Kumar et al. 2022, fine-tuning with SGD: where the first layer's gradients are large, freeze it.

The network computes on c·x with its first layer E divided by c: one function for every c, and gradients of E
that are c times as large, as the embedding layer of a transformer has them. It learns one task of a teacher,
and is then fine-tuned on 500 examples of another, whose last layer moved.

What misleads: that AdamW is better than SGD without freezing, the starting point of the paper, is hardly to
be seen at this size, about one point in a hundred and inside the spread of seeds. It is told, not claimed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sgdlit.figures.style import COLORS, MARKERS, finish, panels, select
from sgdlit.papers.claim import Claim, Finding
from sgdlit.papers.paper import Evidence, Experiment, Paper, Row, Tables, Workshop
from sgdlit.papers.support.seed_findings import in_every_seed, in_the_mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor, nn
    from torch.optim import Optimizer

    from sgdlit.data.batches import Batches
    from sgdlit.models.embedding import EmbeddingMLP

_SCALES = (1.0, 30.0)
_INPUTS, _CLASSES = 20, 5
_LRS = {
    "SGD": np.geomspace(1e-5, 1e-1, 9),
    "SGD, frozen": np.geomspace(1e-3, 1e-1, 5),
    "AdamW": np.array([3e-4, 1e-3, 3e-3, 1e-2]),
}
_PRETRAINING, _FINE_TUNING, _EXAMPLES, _TESTED = 1500, 200, 500, 4000


@dataclass
class Options:
    """Fine-tuning of a small classifier with a first layer of scaled inputs.

    Symbols (Kumar et al., arXiv 2211.09359): E the first layer, c the scale of its inputs; ID the accuracy
    on the distribution of the fine-tuning examples, OOD that on inputs shifted by a vector of length 2. The
    rate of each method is the one with the best ID accuracy.

    Args:
        seeds: of teacher, network and examples.
    """

    seeds: int = 5


def measure(o: Options, workshop: Workshop) -> Evidence:
    """Tables ``gradients``, the ratio of layers, and ``accuracy``, by c, method, rate and seed."""
    from sgdlit.models.embedding import EmbeddingMLP
    from sgdlit.papers.support.initial_networks import initial_network

    tasks = [Task(seed) for seed in range(o.seeds)]
    sizes = (_INPUTS, 32, 64, _CLASSES)
    pretrained = [initial_network(lambda: EmbeddingMLP(*sizes), seed) for seed in range(o.seeds)]
    _train(pretrained, tasks, _PRETRAINING, lambda p: _adam(p, 3e-3), pretraining=True)
    tables: Tables = {"gradients": [], "accuracy": []}
    for i, scale in enumerate(_SCALES):
        starts = [_rescaled(network, scale) for network in pretrained]
        for seed, (network, task) in enumerate(zip(starts, tasks, strict=True)):
            tables["gradients"].append({"c": scale, "seed": seed, "ratio": gradient_ratio(network, task)})
        for method in _LRS:
            tables["accuracy"] += _fine_tuned(starts, tasks, method, scale)
        workshop.progress("scales", i + 1, len(_SCALES))
    return Evidence(tables, _findings(tables))


class Task:
    """Two tasks of one teacher, and the examples of the second.

    The teacher is argmax of V relu(Ux), U 32×20 and V 5×32 of normals; in the second task V moves by
    0.7·N(0, 1).
    """

    def __init__(self, seed: int) -> None:
        import torch

        from sgdlit.foundations.philox import derive_key, normal

        def draw(purpose: str, rows: int, columns: int) -> Tensor:
            return normal(derive_key(seed, f"fine-tuning {purpose}"), torch.arange(rows), columns)

        self.seed, self.draw = seed, draw
        self.first, self.last = draw("first layer", 32, _INPUTS), draw("last layer", _CLASSES, 32)
        self.moved = self.last + 0.7 * draw("move", _CLASSES, 32)
        self.inputs, tested = draw("examples", _EXAMPLES, _INPUTS), draw("test", _TESTED, _INPUTS)
        shift = draw("shift", 1, _INPUTS)
        self.tested = {"ID": tested, "OOD": tested + 2 * shift / shift.norm()}
        self.labels = self.label(self.inputs, self.moved)

    def label(self, x: Tensor, last: Tensor) -> Tensor:
        """The class of each input, int64 ``[n]``."""
        return ((x @ self.first.T).relu() @ last.T).argmax(1)

    def accuracy(self, network: nn.Module) -> dict[str, float]:
        """On the second task, ``ID`` and ``OOD``."""
        import torch

        with torch.no_grad():
            return {
                name: float((network(x).argmax(1) == self.label(x, self.moved)).double().mean())
                for name, x in self.tested.items()
            }


def _batches(task: Task, pretraining: bool) -> Batches:
    """A stream of the first task, 64 examples a step; or the examples of the second, 50 at a time."""
    import torch

    from sgdlit.data.batches import Batch, Batches
    from sgdlit.data.orders import Itinerary, RandomReshuffling
    from sgdlit.foundations.philox import derive_key, normal

    key = derive_key(task.seed, "fine-tuning stream")
    order = Itinerary(RandomReshuffling(), _EXAMPLES, 50, seed=task.seed)

    class Stream(Batches):
        def batch(self, step: int, part: slice) -> Batch:
            x = normal(key, torch.arange(64 * step, 64 * (step + 1))[part], _INPUTS)
            return x, task.label(x, task.last)

    class Examples(Batches):
        def batch(self, step: int, part: slice) -> Batch:
            chosen = order.indices(step)[part]
            return task.inputs[chosen], task.labels[chosen]

    return Stream(64, _PRETRAINING) if pretraining else Examples(50, _EXAMPLES // 50)


def _train(
    networks: Sequence[nn.Module],
    tasks: list[Task],
    steps: int,
    make: Callable[[Iterable[nn.Parameter]], Optimizer] | list[Callable[[Iterable[nn.Parameter]], Optimizer]],
    pretraining: bool,
) -> None:
    """Train each network on its task, all of them together; fine-tuning with rates that fall to 0."""
    import torch

    from sgdlit.algorithms import EngineGroup, Member
    from sgdlit.data.batches import Block
    from sgdlit.objectives import loss_by_name

    makers = make if isinstance(make, list) else [make] * len(networks)
    cosine = None if pretraining else lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, steps)
    loss = loss_by_name("cross_entropy")
    members = [Member(network, loss, own, cosine) for network, own in zip(networks, makers, strict=True)]
    seen = {task.seed: _batches(task, pretraining) for task in tasks}
    EngineGroup(members).run(Block(0, steps, [seen[task.seed] for task in tasks]))


def _adam(parameters: Iterable[nn.Parameter], lr: float) -> Optimizer:
    import torch

    return torch.optim.Adam(parameters, lr=lr)


def _rescaled(network: EmbeddingMLP, scale: float) -> EmbeddingMLP:
    """The same function with E divided by c.

    Adam at rate/c in E makes the same of c·x as at c = 1, but for its ε, so one pretraining is that of all.
    """
    import copy

    import torch

    found = copy.deepcopy(network)
    with torch.no_grad():
        found.embed.weight /= scale
    found.input_scale = scale
    return found


def gradient_ratio(network: nn.Module, task: Task) -> float:
    """‖∂C/∂E‖ over the mean of ‖∂C/∂W₁‖ and ‖∂C/∂W₂‖, on the fine-tuning examples."""
    import torch

    from sgdlit.objectives import loss_by_name

    loss = loss_by_name("cross_entropy")(network(task.inputs), task.labels)
    first, *others = (float(g.norm()) for g in torch.autograd.grad(loss, list(network.parameters())))
    return first / float(np.mean(others))


def _fine_tuned(starts: Sequence[nn.Module], tasks: list[Task], method: str, scale: float) -> list[Row]:
    import copy

    import torch

    from sgdlit.models.frozen import Frozen

    points = [(task, float(lr)) for task in tasks for lr in _LRS[method]]
    networks: list[nn.Module] = [copy.deepcopy(starts[task.seed]) for task, _ in points]
    if method == "SGD, frozen":
        networks = [Frozen(network, ["embed"]) for network in networks]

    def maker(lr: float) -> Callable[[Iterable[nn.Parameter]], Optimizer]:
        if method == "AdamW":
            return lambda p: torch.optim.AdamW(p, lr=lr)
        return lambda p: torch.optim.SGD(p, lr=lr, momentum=0.9)

    _train(
        networks,
        [task for task, _ in points],
        _FINE_TUNING,
        [maker(lr) for _, lr in points],
        pretraining=False,
    )
    return [
        {"c": scale, "method": method, "lr": lr, "seed": task.seed, **task.accuracy(network)}
        for (task, lr), network in zip(points, networks, strict=True)
    ]


def chosen(rows: list[Row], scale: float, method: str) -> list[Row]:
    """Of each seed, the row of the rate with the best ID accuracy."""
    here = select(rows, c=scale, method=method)
    return [
        max(select(here, seed=seed), key=lambda row: row["ID"]) for seed in sorted({r["seed"] for r in here})
    ]


def _findings(tables: Tables) -> list[Finding]:
    ratio = {c: [row["ratio"] for row in select(tables["gradients"], c=c)] for c in _SCALES}
    one, large = _SCALES

    def gain(scale: float, other: str, on: str) -> np.ndarray:
        rows = tables["accuracy"]
        pairs = zip(chosen(rows, scale, "SGD, frozen"), chosen(rows, scale, other), strict=True)
        return np.array([frozen[on] - own[on] for frozen, own in pairs])

    of_adam = gain(large, "SGD", "ID").mean() - gain(large, "AdamW", "ID").mean()
    note = f"AdamW minus SGD without freezing, c = 30: {of_adam:+.3f} in the mean"
    statement = "‖∂E‖ over the mean norm of the other layers' gradients"
    return [
        in_every_seed("L3a", f"c = 1: {statement}", ratio[one], high=1.5),
        in_every_seed("L3a", f"c = 30: {statement}", ratio[large], low=10),
        in_every_seed("L3b", "c = 30: ID accuracy, frozen minus SGD", gain(large, "SGD", "ID"), low=0),
        in_the_mean(
            "L3b", "c = 30: ID accuracy, frozen minus SGD", gain(large, "SGD", "ID"), 0.02, 0.09, note
        ),
        in_the_mean("L3b", "c = 30: OOD accuracy, frozen minus SGD", gain(large, "SGD", "OOD"), 0.015, 0.1),
        in_the_mean("L3b", "c = 30: ID accuracy, frozen minus AdamW", gain(large, "AdamW", "ID"), low=0),
        in_the_mean("L3b", "c = 1: ID accuracy, frozen minus SGD", gain(one, "SGD", "ID"), -0.02, 0.02),
    ]


def draw(tables: Tables) -> dict[str, Figure]:
    """Accuracy of each method at its chosen rate, for both scales, ID and OOD; seeds, and their mean."""
    figure, axes = panels(1, 2)
    for ax, scale in zip(axes, _SCALES, strict=True):
        for k, on in enumerate(("ID", "OOD")):
            found = np.array([[r[on] for r in chosen(tables["accuracy"], scale, m)] for m in _LRS])
            x = np.arange(len(_LRS)) + 0.15 * (2 * k - 1)
            for seed in found.T:
                ax.plot(x, seed, MARKERS[k], color=COLORS[k], markersize=3, alpha=0.5)
            ax.plot(
                x, found.mean(1), "_", color=COLORS[k], markersize=20, markeredgewidth=2, label=f"{on}, mean"
            )
        ratio = np.mean([row["ratio"] for row in select(tables["gradients"], c=scale)])
        ax.set_xticks(range(len(_LRS)), list(_LRS))
        finish(ax, f"c = {scale:g}: ‖∂E‖ is {ratio:.2g} of the other layers'", "", "accuracy", log="")
    low = min(ax.get_ylim()[0] for ax in axes)
    high = max(ax.get_ylim()[1] for ax in axes)
    for ax in axes:
        ax.set_ylim(low, high)
    return {"fine_tuning": figure}


_QUICK = "a network 20–32–64–5 on two tasks of a random teacher, 500 examples, 200 steps, five seeds"
_FULL = "CLIP ViT-B/16, DINO and ConvNeXt on FMoW, Camelyon, Living-17, Waterbirds and DomainNet"


def _claim(identity: str, statement: str, prediction: str) -> Claim:
    source = "Kumar, Shen, Bubeck & Gunasekar 2022, arXiv 2211.09359, section 3"
    return Claim(identity, statement, source, "trained", prediction, _QUICK, _FULL, "list/fine_tuning.yaml")


PAPER = Paper(
    "kumar2022",
    "Kumar et al. 2022, How to fine-tune vision models with SGD, arXiv 2211.09359",
    (
        Experiment(
            "fine_tuning",
            (
                _claim(
                    "L3a",
                    "one function can have a first layer whose gradients are much larger than the others'",
                    "a ratio below 1.5 at c = 1, above 10 at c = 30",
                ),
                _claim(
                    "L3b",
                    "freezing it repairs fine-tuning with SGD, and does nothing where it is like the others",
                    "c = 30: better in every seed, by 0.02 to 0.09 ID and 0.015 to 0.1 OOD, no worse than "
                    "AdamW; c = 1: within 0.02",
                ),
            ),
            measure,
            draw,
        ),
    ),
    Options,
)
