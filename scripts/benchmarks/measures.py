"""What measures cost: against gradients of the same examples, in products, and in a run that takes them.

Each row has a target, from the literature and from what was found achievable; see ``docs/measures.md``.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial

import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.common import (
    DEVICE,
    WARM_UP,
    Row,
    Timing,
    median_of,
    relative_to_first,
    seconds_in_fit,
    seconds_of,
    synchronize,
)
from benchmarks.networks import LOSS, Case, RandomImages
from sgdlit.data.finite import shapes
from sgdlit.data.members import MembersData
from sgdlit.data.shards import PerChannel, Shard
from sgdlit.foundations.philox import derive_key
from sgdlit.measures.curvature import start_for, to_start_from
from sgdlit.measures.distance import Distance
from sgdlit.measures.example_norms import example_norms
from sgdlit.measures.lanczos import Eigenpairs, Krylov, lanczos, start_vector
from sgdlit.measures.measure import AtSteps, Measure
from sgdlit.measures.micro_batches import MicroBatchNoise
from sgdlit.measures.presets import PresetName
from sgdlit.measures.products import GaussNewtonProducts, HessianProducts, Products
from sgdlit.measures.update_norm import UpdateNorm
from sgdlit.models import MLP, WideResNet
from sgdlit.objectives.layer_factors import linear_layers
from sgdlit.training.measure_plan import plan_of
from sgdlit.training.measuring import Measures
from sgdlit.training.module import Training

SMALL_MLP = Case("MLP 768-256x2-10, B=32", lambda: MLP([768, 256, 256, 10]), (3, 16, 16), 32, False, 1500)
SMALL_WRN = Case("WRN-10-1, B=32", lambda: WideResNet(10, 1), (3, 32, 32), 32, True, 260)
TINY_MLP = Case("MLP 768-8-10, B=32", lambda: MLP([768, 8, 10]), (3, 16, 16), 32, False, 1500)
EVERY = 20  # steps between two measures of noise
_FIRST = 8  # examples of a part beside the step's own gradient
_LOOKED_AT = 500  # examples
_PAIRS = 7  # pieces of a fit with measures, at least, for each round
Batches = list[tuple[Tensor, Tensor]]


@cache
def trained(name: str, steps: int) -> tuple[nn.Module, Tensor, Tensor]:
    """A network after some steps of SGD (lr 0.05, B = 32) on pictures of shapes, and its examples."""
    count = 5000 if name == "MLP" else 400
    pictures, targets = shapes.draw(derive_key(0, "bench"), torch.arange(count))
    inputs = PerChannel((0.5,) * 3, (0.25,) * 3)(pictures)
    torch.manual_seed(0)
    network: nn.Module = WideResNet(10, 1)
    if name == "MLP":
        inputs, network = F.avg_pool2d(inputs, 2), MLP([768, 256, 256, 10])
    else:
        network = network.to(memory_format=torch.channels_last)
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    network, inputs, targets = network.to(DEVICE), inputs.to(DEVICE), targets.to(DEVICE)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        chosen = torch.randint(count, (32,), generator=generator)
        optimizer.zero_grad()
        LOSS(network(inputs[chosen]), targets[chosen]).backward()
        optimizer.step()
    return network, inputs, targets


def measures(rounds: int, compiled: bool) -> list[Row]:
    rows = planned_shares(rounds)  # first, as in the process of a run
    for name, steps, size in (("WRN", 10, 32), ("WRN", 10, 128), ("MLP", 1000, 128)):
        rows += products(name, steps, size, rounds)
    for name, steps, most in (("MLP", 1000, 1.4), ("WRN", 10, 1.7)):
        rows += norms(name, steps, most, rounds)
    for name, steps in (("MLP", 1000), ("WRN", 10)):
        rows += eigenvalues(name, steps)
    for case, most in ((SMALL_MLP, 1.06), (SMALL_WRN, 1.01)):
        rows += in_a_run(case, most, rounds)
    return rows


def gradient(network: nn.Module, batches: Batches) -> Callable[[], object]:
    """One ordinary gradient of some examples."""
    parameters = list(network.parameters())
    return lambda: [torch.autograd.grad(LOSS(network(x), y), parameters) for x, y in batches]


def products(name: str, steps: int, size: int, rounds: int) -> list[Row]:
    """Products with the Hessian and the Gauss–Newton matrix, in gradients of the same examples."""
    network, inputs, targets = trained(name, steps)
    batches = [(inputs[:size], targets[:size])]
    alone, kept = HessianProducts(network, LOSS, batches, 0), HessianProducts(network, LOSS, batches)
    bent, bent_kept = (GaussNewtonProducts(network, LOSS, batches, memory) for memory in (0, 2**30))
    v = torch.randn(alone.size, device=DEVICE)
    work = {
        "gradient": gradient(network, batches),
        "product with H": lambda: alone @ v,
        "further product with H, graph kept": lambda: kept @ v,
        "product with the Gauss-Newton matrix": lambda: bent @ v,
        "further one, graph kept": lambda: bent_kept @ v,
    }
    found = relative_to_first(median_of(work, rounds, 5), f"products, {name}, {size} examples")
    targeted = {"product with H": 3.3, "further product with H, graph kept": 2.2}
    return [row._replace(target=targeted.get(row.work)) for row in found]


def norms(name: str, steps: int, most: float, rounds: int) -> list[Row]:
    """Norms of the gradients of single examples, in gradients of the same examples."""
    network, inputs, targets = trained(name, steps)
    inputs, targets = inputs[:1000], targets[:1000]
    batches = list(zip(inputs.split(200), targets.split(200), strict=True))  # as in a run
    work = {
        "gradient": gradient(network, batches),
        "norms of the gradients of examples": lambda: example_norms(network, LOSS, batches),
    }
    base, row = relative_to_first(median_of(work, rounds, 5), f"examples, {name}, {len(inputs)} examples")
    return [base, row._replace(target=most)]


class WatchedHessian(HessianProducts):
    """Whose products with parts of its examples are counted, each by the part's share of them."""

    def of_first(self, count: int) -> HessianProducts:
        self.part = super().of_first(count)
        return self.part

    @property
    def products_of_part(self) -> float:
        """Since the last of them was made."""
        return self.part.products * self.part.examples / self.examples


class Timed:
    """A matrix whose products are counted and timed."""

    def __init__(self, matrix: Products) -> None:
        self.matrix, self.seconds = matrix, 0.0

    def __matmul__(self, vector: Tensor) -> Tensor:
        found: list[Tensor] = []
        self.seconds += seconds_of(lambda: found.append(self.matrix @ vector))
        return found[0]


def eigenvalues(name: str, steps: int) -> list[Row]:
    """How many products eigenvalues to 1e-3 need: the most over the Hessians after some steps; and how long
    Lanczos's own algebra takes, in time of its products. Starts are cold, or those of a Hessian before; their
    products with a part of the examples count by their share.

    The limit of one eigenvalue is the number of products from the same start after which its value is within
    1e-3, whether it is known by then or not.
    """
    counts: dict[str, float] = {}
    least: dict[str, float] = {}
    seconds: dict[str, float] = {}
    own: list[float] = []
    old: dict[int, Tensor] = {}
    for later in (0, 1, 11, 111):
        network, inputs, targets = trained(name, steps + later)
        batches = list(zip(inputs.split(500), targets.split(500), strict=True))
        hessian = WatchedHessian(network, LOSS, batches)
        for k in (1, 5):
            cold = start_vector(hessian.gradient, 0, "bench", later)
            starts = {"cold": partial(start_for, random=cold, count=k)}
            if k in old:
                starts["warm"] = partial(start_for, random=cold, count=k, old=old[k])
            for how, make in starts.items():
                start = make(hessian)
                found, spent, share = timed_lanczos(hessian, start, k)
                key = f"top {k}, {how}"
                of_start = hessian.products_of_part if k == 1 else 0
                whole = found.products + of_start
                if k == 1:
                    least[key] = max(least.get(key, 0), products_until_near(hessian, start, 1e-3) + of_start)
                counts[key] = max(counts.get(key, 0), whole if found.converged else 10**6)
                seconds[key] = max(seconds.get(key, 0.0), spent)
                own.append(share)
                old[k] = to_start_from(found)
    group = f"products for eigenvalues, {name}, {len(inputs)} examples"
    most = {"top 1, cold": 8, "top 1, warm": 5, "top 5, cold": 22, "top 5, warm": 22}
    rows = [
        Row(
            group,
            key,
            seconds[key],
            counts[key],
            most[key],
            _share(least.get(key), counts[key], seconds[key]),
        )
        for key in counts
    ]
    share = sum(own) / len(own)
    return [*rows, Row(group, "Lanczos's own algebra over its products", share, share, 0.05)]


def _share(least: float | None, count: float, seconds: float) -> float | None:
    """The time of the least number of products."""
    return None if least is None else seconds * least / count


def products_until_near(matrix: Products, start: Tensor, tolerance: float) -> int:
    """Products after which the largest Ritz value is near the eigenvalue."""
    eigenvalue = float(lanczos(matrix, start, 1, 1e-6).values[0])
    krylov = Krylov(matrix, start, 100)
    krylov.extend()
    while krylov.ritz()[0][-1] < (1 - tolerance) * eigenvalue:
        krylov.extend()
    return len(krylov)


def timed_lanczos(hessian: HessianProducts, start: Tensor, count: int) -> tuple[Eigenpairs, float, float]:
    """What Lanczos finds, its seconds, and those outside of its products over those inside."""
    hessian @ start  # graphs are kept from here on, and are no part of the comparison
    matrix, found = Timed(hessian), list[Eigenpairs]()
    spent = seconds_of(lambda: found.append(lanczos(matrix, start, count, 1e-3, vectors=True)))
    return found[0], spent, (spent - matrix.seconds) / matrix.seconds


def in_a_run(case: Case, most: float, rounds: int) -> list[Row]:
    """Time of a step in ``fit`` with measures over that without.

    The two are compared in one fit, in which pieces of some steps with measures and without follow each
    other: between two fits a machine changes its pace.

    The limit of those of noise is the step and the arithmetic alone: one gradient, in one pass, of the
    examples that are looked at. Single examples of linear layers need none: the step's own pass shows them.
    Where the loop takes the steps, these show the gradient of the batch. The target is that of the cheapest
    form.
    """
    whole, linear = case.batch_size, linear_layers(case.make()) is not None
    of_part, of_each = (
        f"noise of {what}, every {EVERY}th step" for what in (f"{_FIRST} examples and all", "single examples")
    )
    given: dict[str, tuple[list[Measure], int, int]] = {
        f"noise of 4 parts of a batch, every {EVERY}th step": ([MicroBatchNoise()], EVERY, whole),
        of_part: ([MicroBatchNoise(parts=2, first=_FIRST)], EVERY, _FIRST + (whole if linear else 0)),
        of_each: ([MicroBatchNoise(parts=None)], EVERY, 0 if linear else whole),
        "distance and updates, every 10th step": ([Distance(), UpdateNorm()], 10, 0),
    }
    targets = [None, None if linear else 1.03, 1.03 if linear else None, most]
    alone = {examples: seconds_of_gradient(case, examples) for examples in (_FIRST, whole, _FIRST + whole)}
    group, rows = f"measures in fit, {case.name}", list[Row]()
    for target, (name, (taken, every, seen)) in zip(targets, given.items(), strict=True):
        without, together = seconds_in_pieces(case, taken, every, rounds)
        rows += [Row(group, "fit without measures", without, 1.0)] if not rows else []
        limit = without + alone[seen] / EVERY if seen else None
        rows.append(Row(group, name, together, together.over(without), target, limit))
    return rows


class PieceWatch(Callback):
    """The time at the end of each piece of some steps."""

    def __init__(self, steps: int) -> None:
        self.every_n_steps, self.times = steps, list[float]()

    def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
        if trainer.global_step % self.every_n_steps == 0:
            synchronize()
            self.times.append(time.perf_counter())

    def seconds(self) -> list[float]:
        """Of each piece, per step, from the second one on."""
        pairs = zip(self.times, self.times[1:], strict=False)
        return [(end - start) / self.every_n_steps for start, end in pairs]


def seconds_in_pieces(case: Case, taken: Sequence[Measure], every: int, rounds: int) -> tuple[Timing, Timing]:
    """Seconds of a step in pieces of a fit without measures, and in those that follow with them."""
    length = 2 * EVERY
    pairs = rounds * max(_PAIRS, case.fit_steps // (2 * length))
    steps = length * (2 * pairs + 1)  # the first piece warms up
    due = [step for step in range(every, steps + 1, every) if (step - 1) // length % 2 == 0]
    watch = PieceWatch(length)
    callback = Measures(list(taken), at=AtSteps(due), examples=_LOOKED_AT)
    data = RandomImages(case.image, case.batch_size)
    seconds_in_fit(model_of(case), data, steps, length, (callback, watch))
    found = watch.seconds()
    return Timing(found[::2]), Timing(found[1::2])


def seconds_of_gradient(case: Case, examples: int) -> float:
    """Of the mean over some examples, in one pass."""
    network = case.make().to(DEVICE)
    inputs = torch.randn(examples, *case.image, device=DEVICE)
    if case.channels_last:
        network = network.to(memory_format=torch.channels_last)
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    batch = (inputs, torch.zeros(examples, dtype=torch.int64, device=DEVICE))
    return median_of({"gradient": gradient(network, [batch])}, 5, 5)["gradient"]


def planned_shares(rounds: int) -> list[Row]:
    """What measures were said to take, in steps, and what they took: the larger over the smaller."""
    return [
        planned_share_of(case, preset, runs, steps, times, rounds * fits)
        for case, preset, runs, steps, times, fits in (
            (SMALL_MLP, "standard", 1, 1500, 6, 4),
            (SMALL_MLP, "full", 1, 700, 1, 1),
            (SMALL_WRN, "standard", 1, 120, 3, 1),
            (TINY_MLP, "standard", 1, 1500, 6, 4),
            (SMALL_MLP, "standard", 4, 700, 2, 2),
        )
    ]


class ShareWatch(Callback):
    """Time for measures and for steps between two steps of a fit."""

    def __init__(self, measures: Measures, last: int) -> None:
        self.measures, self.last = measures, last
        self.seconds = self.of_measures = 0.0

    def next_due(self, step: int) -> int | None:
        return next((due for due in (WARM_UP, self.last) if due > step), None)

    def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
        if trainer.global_step in (WARM_UP, self.last):
            synchronize()
            self.seconds = time.perf_counter() - self.seconds
            self.of_measures = self.measures.time.of_measures - self.of_measures


def planned_share_of(case: Case, preset: PresetName, runs: int, steps: int, times: int, fits: int) -> Row:
    """Of a preset that is taken a few times in a run of some steps, beside the start, where it warms up; what
    it took is the median over some fits."""
    found = [planned_and_taken(case, preset, runs, steps, times) for _ in range(fits)]
    planned, took, seconds = (statistics.median(part) for part in zip(*found, strict=True))
    name = f"{preset}, {runs} run{'s' * (runs > 1)}: planned {planned:.0f} steps, took {took:.0f}"
    apart = max(planned, took) / max(min(planned, took), 1e-9)
    return Row(f"price of measures once, {case.name}", name, seconds, apart, 1.2)


def planned_and_taken(
    case: Case, preset: PresetName, runs: int, steps: int, times: int
) -> tuple[float, float, float]:
    """Steps that taking a preset once was said to take in one run, and that it took; and its seconds."""
    parts = [model_of(case) for _ in range(runs)]
    data = [Pictures(case.image, case.batch_size) for _ in range(runs)]
    for own in data:
        own.setup()
    model = parts[0] if runs == 1 else Training.joined(parts, [{"seed_everything": k} for k in range(runs)])
    at = [steps * k // (times + 1) for k in range(1, times + 1)]
    callback = Measures([preset], at=AtSteps(at), examples=_LOOKED_AT)
    at_ends = replace(callback.view, at=AtSteps([0]))
    plans = [plan_of(callback.measures, v, model.members, data, steps) for v in (callback.view, at_ends)]
    watch = ShareWatch(callback, steps - 1)
    given = data[0] if runs == 1 else MembersData(data)
    seconds_in_fit(model, given, steps, 50, (callback, watch))
    step = (watch.seconds - watch.of_measures) / (steps - 1 - WARM_UP)
    planned = (plans[0].share - plans[1].share) * steps / times
    return planned, watch.of_measures / times / step, watch.of_measures / times


class Pictures(RandomImages):
    """Pictures of shapes, so that curvature is that of a network which learns."""

    def _shard(self, size: int) -> Shard:
        return shapes_of(size, self.image[1])


@cache
def shapes_of(count: int, size: int) -> Shard:
    """Pictures ``[count, 3, size, size]`` in bytes, and their classes."""
    pictures, targets = shapes.draw(derive_key(1, "bench"), torch.arange(count))
    small = F.interpolate(pictures.float(), (size, size), mode="area")
    return Shard(small.round().to(torch.uint8), targets)


def model_of(case: Case) -> Training:
    return Training(
        case.make(),
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=2.0**-8),
        channels_last=case.channels_last,
    )
