"""Tiny runs that take measures while they train, and the same measures taken of them afterwards."""

import math
from pathlib import Path
from typing import Any

import torch
import yaml
from fit_runs import Runs
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, pad

from sgdlit.cli.main import main
from sgdlit.models import WideResNet
from sgdlit.runs.reading import load_run

P0: list[Any] = [
    *("GradientNorm", "GradientNoise", "ExpectedCReg", "ExampleNorms", "DirectionalSharpness", "Alignment"),
    *("StepRatio", "Distance", "UpdateNorm", "WeightNorms", "SingularValues", "TrainTestGap"),
    {"class_path": "Sharpness", "init_args": {"count": 2}},
    {"class_path": "BatchSharpness", "init_args": {"minibatches": 4}},
    {"class_path": "Trace", "init_args": {"probes": 3}},
]
"""Every measure of the first kind that any network has."""

P1: list[Any] = [
    *("CovarianceSpectrum", "SignalToNoise", "TailIndex", "Margins", "GaussNewtonSharpness"),
    {"class_path": "RandomProjections", "init_args": {"count": 3}},
]
"""Of the second kind, those of examples."""

EXAMPLES = {"wrn": 10}
"""How many are measured, of networks whose convolutions take long in float64; of all others 40."""
CHUNK_SIZE = {40: 16, 10: 8}
SPACING = {"first": 4, "per_doubling": 1}
SNAPSHOTS = [f"--checkpoints.snapshots.{key}={value}" for key, value in SPACING.items()]
SNAPSHOTS += ["--checkpoints.snapshots.before=true", "--checkpoints.snapshots.optimizer=true"]
Values = dict[tuple[int, str], float]
"""By step and name."""


class Rows(nn.Module):
    """A transformer's block on the lines of a picture, of which it sees the mean of each two; 10 classes.

    Shapes: input ``[B, 1, 28, 28]``, output ``[B, 10]``.
    """

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.enter = nn.Linear(28, width)
        self.block = nn.TransformerEncoderLayer(
            width, 2, 16, dropout=0.0, activation="gelu", batch_first=True
        )
        self.leave = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        lines = x.flatten(0, 1).unflatten(1, (14, 2)).mean(2)
        return self.leave(self.block(self.enter(lines)).mean(1))


class OnSmallPictures(WideResNet):
    """WRN-10-1 on pictures of 16x16, the means of each four pixels with a border: a third of the work.

    Shapes: input ``[B, 1, 28, 28]``, output ``[B, 10]``.
    """

    def __init__(self) -> None:
        super().__init__(10, 1, in_channels=1, image_size=16)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(pad(avg_pool2d(x, 2), (1, 1, 1, 1)))


class Dropping(nn.Sequential):
    """A small network that draws at every step."""

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(784, 12), nn.Tanh(), nn.Dropout(0.3), nn.Linear(12, 10))


class Normed(nn.Sequential):
    """A small network with BatchNorm."""

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(784, 12), nn.BatchNorm1d(12), nn.Tanh(), nn.Linear(12, 10))


NETWORKS = {
    "mlp": [],
    "wrn": ["--model.network=measured_runs.OnSmallPictures"],
    "transformer": ["--model.network=measured_runs.Rows"],
    "dropout": ["--model.network=measured_runs.Dropping"],
}


def measures_of(network: str) -> list[Any]:
    """What is measured of a network: all, but of one whose convolutions take long."""
    return P0 if network in EXAMPLES else [*P0, *P1]


def with_measures(
    runs: Runs, measures: list[Any] | None = None, network: str = "mlp", **init_args: Any
) -> list[str]:
    """The arguments of ``fit`` that take measures at log-spaced steps, of some examples in chunks."""
    examples, measures = EXAMPLES.get(network, 40), measures or measures_of(network)
    init: dict[str, Any] = {"measures": measures, "examples": examples, "chunk_size": CHUNK_SIZE[examples]}
    init |= {} if "every_n_steps" in init_args else {"at": SPACING}
    callback = {"class_path": "sgdlit.training.measuring.Measures", "init_args": init | init_args}
    path = runs.folder / f"measures_{abs(hash(str(callback)))}.yaml"
    path.write_text(yaml.safe_dump({"trainer": {"callbacks": [callback]}}))
    return ["--config", str(path)]


def during(folder: Path, member: int | None = None) -> Values:
    """What the callback logged."""
    return _values(load_run(folder).metrics, member)


def afterwards(
    folder: Path,
    *arguments: str,
    measures: list[Any] | None = None,
    network: str = "mlp",
    member: int | None = None,
) -> Values:
    """What ``measure --run`` finds with the same settings."""
    examples, measures = EXAMPLES.get(network, 40), measures or measures_of(network)
    given = ["--examples", str(examples), "--chunk_size", str(CHUNK_SIZE[examples]), *arguments]
    assert main(["measure", "--run", str(folder), "--measures", yaml.safe_dump(measures), *given]) == 0
    return found_before(folder, member)


def found_before(folder: Path, member: int | None = None) -> Values:
    """What an earlier ``measure --run`` has stored, of all members."""
    return _values(load_run(folder).measured, member)


def _values(table: dict[str, Any], member: int | None) -> Values:
    found = {}
    for name in (name for name in table if name.startswith("measure/")):
        for i, step in enumerate(table["step"].tolist()):
            own = member is None or table["member"][i] == member
            if own and not math.isnan(table[name][i]):
                found[step, name] = float(table[name][i])
    return found


def apart(found: Values, expected: Values, tolerance: float = 0.0) -> list[str]:
    """Where some values differ: in a bit, or by more than ``tolerance`` of their size."""
    only = sorted(found.keys() ^ expected.keys())
    wrong = [f"{key}: only in one" for key in only]
    for key in found.keys() & expected.keys():
        one, other = found[key], expected[key]
        if one != other and not abs(one - other) <= tolerance * max(abs(one), abs(other)):
            wrong.append(f"{key}: {one!r} and {other!r}")
    return sorted(wrong)


def as_float64(found: dict[str, Any]) -> Tensor:
    """All parameters of a checkpoint in one vector."""
    return torch.cat([value.double().flatten() for value in found["state_dict"].values()])
