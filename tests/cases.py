"""What tests run over, found by itself: a stream, a finite set, an order, an objective, a measure or an
update rule that is put into its folder of the package is tested without being listed anywhere.

Data, orders, objectives and measures tell the arguments of some small ones of their kind (``small``). A
finite set that is read from files gets small files in its official format. Networks, losses and batches are
listed here: a :data:`PROBLEMS` is a network with a loss that fits it and a batch.
"""

import importlib
import inspect
import itertools
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from official_formats import write_official
from torch import Tensor, nn

import sgdlit.algorithms.transforms
import sgdlit.data
import sgdlit.measures
import sgdlit.objectives
from sgdlit.algorithms.rules import UpdateRule, rule_classes
from sgdlit.algorithms.transforms import GradientTransform
from sgdlit.config.options import is_abstract
from sgdlit.data.array_file import save_arrays
from sgdlit.data.arrays import Arrays
from sgdlit.data.corruptions import Corruption
from sgdlit.data.image_shards import ImagesFromFiles, ImageShards
from sgdlit.data.keyed_data import KeyedData
from sgdlit.data.label_errors import LabelErrors
from sgdlit.data.orders import Order
from sgdlit.data.sensing import MatrixSensing
from sgdlit.data.streams import StreamData
from sgdlit.data.teachers import LinearTeacher, MLPTeacher
from sgdlit.data.zipf_tokens import ZipfTokens
from sgdlit.measures.measure import Measure
from sgdlit.models import MLP, DeepLinear, SimpleCNN
from sgdlit.models.diagonal import DiagonalLinear
from sgdlit.models.groupsort import GroupSortMLP
from sgdlit.models.mean_field import MeanField
from sgdlit.models.perceptron import Perceptron
from sgdlit.models.sensing import BilinearForm, NormalizedStack
from sgdlit.models.tiny_transformer import TinyTransformer
from sgdlit.objectives import LOSSES, Loss, Objective

T = TypeVar("T")

for room in (sgdlit.algorithms.transforms, sgdlit.data, sgdlit.measures, sgdlit.objectives):
    for module in pkgutil.walk_packages(room.__path__, f"{room.__name__}."):
        importlib.import_module(module.name)


def found(base: type[T]) -> Iterator[type[T]]:
    """The concrete subclasses that the package itself has."""
    for cls in base.__subclasses__():
        if not is_abstract(cls) and cls.__module__.startswith("sgdlit."):
            yield cls
        yield from found(cls)


def named(cls: type, given: dict[str, Any]) -> str:
    return " ".join([cls.__name__, *(f"{name}={value}" for name, value in given.items())])


def small_ones(base: type[T]) -> dict[str, Callable[..., T]]:
    """By name, what makes each of the small ones of every class; takes further arguments."""

    def maker(cls: type[T], small: dict[str, Any]) -> Callable[..., T]:
        return lambda **given: cls(**{**small, **given})

    return {named(cls, small): maker(cls, small) for cls in found(base) for small in cls.small}


ORDERS: dict[str, Callable[[], Order]] = small_ones(Order)
SIZES = {"steps": 12, "batch_size": 8, "val_size": 12, "test_size": 20, "seed": 3}
STREAMS = {
    name: lambda make=make, **given: make(**{**SIZES, **given})
    for name, make in small_ones(StreamData).items()
}


def own_arrays(folder: Path) -> Path:
    """Bytes of 40 training and 12 test images in ten classes, as a person would store them."""
    draws = np.random.default_rng(0)
    images, labels = draws.integers(0, 256, (52, 1, 6, 6), dtype=np.uint8), np.arange(52) % 10
    return save_arrays(folder / "own.npz", images[:40], labels[:40], images[40:], labels[40:])


def finite_set(cls: type[ImageShards], small: dict[str, Any], folder: Path, **given: Any) -> ImageShards:
    """A small finite set of 20 training examples, whose files, where it has any, are made in ``folder``."""
    sizes = {"batch_size": 8, "val_size": 12, "train_size": 20, "seed": 3, "last_batch": "short"}
    if issubclass(cls, ImagesFromFiles):
        small = {"root": str(write_official(cls.files, folder / cls.__name__)), **small}
    if issubclass(cls, Arrays):
        small = {"path": str(own_arrays(folder)), **small}
    return cls(**{**small, **sizes, **given})


FINITE_SETS = {
    named(cls, small): lambda folder, cls=cls, small=small, **given: finite_set(cls, small, folder, **given)
    for cls in found(ImageShards)
    for small in cls.small
}


def _data() -> Iterator[tuple[str, Callable[..., KeyedData]]]:
    for name, make in STREAMS.items():
        yield name, lambda folder, make=make, **given: make(**given)
        shard = {"shard_size": 20, "last_batch": "short"}
        yield f"shard of {name}", lambda folder, make=make, shard=shard, **given: make(**{**shard, **given})
    yield from FINITE_SETS.items()
    *_, (name, make) = FINITE_SETS.items()
    for order, order_of in ORDERS.items():
        ordered = {"batch_size": 4, "repeats": 2}
        yield (
            f"{name} in {order}",
            lambda folder, make=make, order_of=order_of, ordered=ordered, **given: make(
                folder, **{**ordered, "order": order_of(), **given}
            ),
        )


DATA: dict[str, Callable[..., KeyedData]] = dict(_data())
"""By name, what makes data of every kind: takes a folder for files, and arguments of :class:`KeyedData`."""


# Networks, losses and batches


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    """A network in float64 whose initial parameters, also those that start at one value, are drawn."""
    torch.manual_seed(0)
    network = make().double()
    for parameter in network.parameters():
        if parameter.dim() <= 1:
            nn.init.normal_(parameter, mean=0.3, std=0.1)
    return network


def with_dropout() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 7), nn.Tanh(), nn.Dropout(0.5), nn.Linear(7, 3))


def with_batchnorm() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 7), nn.BatchNorm1d(7), nn.Tanh(), nn.Linear(7, 3))


def partly_frozen() -> nn.Module:
    network = MLP([6, 7, 3], activation="tanh")
    network.layers[1].weight.requires_grad_(False)
    return network


def smooth_convolutions() -> nn.Module:
    first, second = nn.Conv2d(1, 2, 3, padding=1, stride=2), nn.Conv2d(2, 4, 3, groups=2)
    return nn.Sequential(first, nn.GELU(), second, nn.Tanh(), nn.Flatten(), nn.Linear(4, 3))


@dataclass(frozen=True)
class NetworkCase:
    """A small network: what makes it, what it sees and gives, and whether its second derivative is smooth."""

    make: Callable[[], nn.Module]
    inputs: tuple[int, ...]
    outputs: int
    smooth: bool = True


NETWORKS: dict[str, NetworkCase] = {
    "MLP": NetworkCase(lambda: MLP([6, 7, 3], activation="gelu"), (6,), 3),
    "MLP, ReLU": NetworkCase(lambda: MLP([6, 9, 3]), (6,), 3, smooth=False),
    "MLP, one output": NetworkCase(lambda: MLP([6, 7, 1], activation="tanh"), (6,), 1),
    "partly frozen": NetworkCase(partly_frozen, (6,), 3),
    "batchnorm": NetworkCase(with_batchnorm, (6,), 3),
    "deep linear": NetworkCase(lambda: DeepLinear([6, 5, 3]), (6,), 3),
    "bilinear": NetworkCase(lambda: BilinearForm(DeepLinear([6, 7, 6])), (2, 6), 1),
    "GroupSort": NetworkCase(lambda: GroupSortMLP([6, 4, 3], bias=True), (6,), 3, smooth=False),
    "diagonal": NetworkCase(lambda: DiagonalLinear(6, 0.3, 0.1), (6,), 1),
    "perceptron": NetworkCase(lambda: Perceptron(6), (6,), 1),
    "mean field": NetworkCase(lambda: MeanField(6, 7, bias_scale=0.5, activation="tanh"), (6,), 1),
    "mean field on the sphere": NetworkCase(
        lambda: MeanField(6, 9, start="sphere", bias=False), (6,), 1, smooth=False
    ),
    "SimpleCNN": NetworkCase(lambda: SimpleCNN((2, 3), 4, 3, image_size=8), (1, 8, 8), 3, smooth=False),
    "smooth convolutions": NetworkCase(smooth_convolutions, (1, 6, 6), 3),
}
"""Networks that a seed and their input decide; ``with_dropout`` is apart."""


def targets_of(loss: str, batch: int, outputs: int) -> dict[str, Tensor]:
    """By name, targets of every kind that a loss takes with so many outputs; none where it takes none."""
    generator = torch.Generator().manual_seed(2)
    classes = torch.randint(outputs, (batch,), generator=generator)
    numbers = torch.randn(batch, outputs, generator=generator, dtype=torch.float64)
    several = {"classes": classes} if outputs > 1 else {}
    kinds = {
        "cross_entropy": several | ({"probabilities": numbers.softmax(1)} if outputs > 1 else {}),
        "half_squared_error": several | {"numbers": numbers},
        "hinge": {"signs": numbers[:, 0].sign()} if outputs == 1 else {},
        "logistic": {"signs": numbers[:, 0].sign()} if outputs == 1 else {},
        "network_output": {"none": torch.zeros(batch)} if outputs == 1 else {},
        "next_token": {},
    }
    return kinds[loss]


@dataclass(frozen=True)
class Problem:
    """A network in float64 that ``network()`` draws, a loss that fits it, and a batch of 6 examples."""

    case: NetworkCase
    loss: Loss
    inputs: Tensor
    targets: Tensor

    def network(self) -> nn.Module:
        return seeded(self.case.make)


def _problems() -> Iterator[tuple[str, Problem]]:
    for name, case in NETWORKS.items():
        generator = torch.Generator().manual_seed(1)
        inputs = torch.randn(6, *case.inputs, generator=generator, dtype=torch.float64)
        for loss in LOSSES:
            for kind, targets in targets_of(loss, len(inputs), case.outputs).items():
                yield f"{name}, {loss} of {kind}", Problem(case, LOSSES[loss], inputs, targets)


PROBLEMS: dict[str, Problem] = dict(_problems())
"""Networks × losses × targets, by name."""


# Objectives, measures and update rules

OBJECTIVES: dict[str, Callable[..., Objective]] = small_ones(Objective)
MEASURES: dict[str, Callable[[], Measure]] = small_ones(Measure)
TRANSFORMS: dict[str, Callable[..., GradientTransform]] = small_ones(GradientTransform)
LABEL_ERRORS: dict[str, Callable[..., LabelErrors]] = small_ones(LabelErrors)
CORRUPTIONS: dict[str, Callable[..., Corruption]] = small_ones(Corruption)
RULES: dict[type[torch.optim.Optimizer], type[UpdateRule]] = rule_classes()


@dataclass(frozen=True)
class RunCase:
    """A small run: a network, a loss, and data that it is trained on."""

    network: Callable[[], nn.Module]
    loss: str
    data: Callable[[], KeyedData]
    optimizer: type[torch.optim.Optimizer] = torch.optim.SGD


def _shard(data: Callable[..., StreamData], **given: Any) -> Callable[[], KeyedData]:
    sizes = {**SIZES, "last_batch": "short", "shard_size": 20}
    return lambda: data(**{**sizes, **given})


_sensing = _shard(MatrixSensing, d=6, r=2, gamma=0.5, shard_size=None, last_batch="error")
_classes = _shard(MLPTeacher, widths=[6, 8, 3], labels="hard")
_numbers = _shard(MLPTeacher, widths=[6, 8, 3])
_linear = _shard(LinearTeacher, d=6)
RUNS: dict[str, RunCase] = {
    "MLP": RunCase(NETWORKS["MLP"].make, "cross_entropy", _classes),
    "MLP on a stream": RunCase(
        NETWORKS["MLP"].make,
        "cross_entropy",
        _shard(MLPTeacher, widths=[6, 8, 3], labels="hard", shard_size=None, last_batch="error"),
    ),
    "MLP, numbers": RunCase(NETWORKS["MLP, ReLU"].make, "half_squared_error", _numbers),
    "MLP under Adam": RunCase(NETWORKS["MLP"].make, "cross_entropy", _classes, torch.optim.Adam),
    "dropout": RunCase(with_dropout, "cross_entropy", _classes),
    "batchnorm": RunCase(with_batchnorm, "cross_entropy", _classes),
    "partly frozen": RunCase(partly_frozen, "cross_entropy", _classes),
    "deep linear": RunCase(NETWORKS["deep linear"].make, "half_squared_error", _numbers),
    "diagonal": RunCase(NETWORKS["diagonal"].make, "half_squared_error", _linear),
    "mean field": RunCase(NETWORKS["mean field"].make, "half_squared_error", _linear),
    "one state": RunCase(lambda: Perceptron(1), "half_squared_error", _shard(LinearTeacher, d=1)),
    "sensing": RunCase(NETWORKS["bilinear"].make, "half_squared_error", _sensing),
    "sensing, one matrix": RunCase(lambda: BilinearForm(DeepLinear([6, 6])), "half_squared_error", _sensing),
    "transformer": RunCase(
        lambda: TinyTransformer(vocabulary=20, length=5, width=4),
        "next_token",
        _shard(ZipfTokens, vocabulary=20, length=5),
    ),
    "sensing, batchnorm": RunCase(
        lambda: BilinearForm(NormalizedStack(6, 2)), "half_squared_error", _sensing
    ),
}
"""Runs that measures are taken of; each takes those that its ``check`` accepts."""

IMPLEMENTATIONS = ("foreach", "capturable", "fused")
"""Settings of torch's optimizers that say how, and not what, they compute."""


def changed(default: Any) -> Any:
    """Another value of a setting that is a switch, a number or some numbers; None of any other."""
    if isinstance(default, bool):
        return not default
    if isinstance(default, int | float):
        return default / 2 if default else 0.1
    if isinstance(default, tuple):
        return tuple(map(changed, default))
    return None


def optimizer_settings(optimizer: type[torch.optim.Optimizer]) -> dict[str, Any]:
    """Settings of an optimizer that decide what it computes, but the rate: by name, another than the
    default."""
    parameters = inspect.signature(optimizer).parameters
    names = [name for name in parameters if name not in ("self", "params", "lr", *IMPLEMENTATIONS)]
    found = {name: changed(parameters[name].default) for name in names}
    return {name: value for name, value in found.items() if value is not None}


def combinations(settings: dict[str, Any]) -> list[dict[str, Any]]:
    """None of some settings, each alone, every two, and all."""
    sizes = sorted({0, 1, 2, len(settings)} & set(range(len(settings) + 1)))
    return [dict(some) for size in sizes for some in itertools.combinations(settings.items(), size)]
