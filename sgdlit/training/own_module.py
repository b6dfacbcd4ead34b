"""A LightningModule of one's own, as measures see it: a run whose network gives losses.

A method ``example_losses(batch) -> [b]`` gives the loss of each example. Without it ``training_step`` gives
the mean over a batch, which is enough for gradients and curvature of the mean.

Measures look at a copy of the module, made each time: what ``training_step`` does to its module (metrics,
lists, counters) ends with the copy, and its logging goes nowhere.
"""

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers.logger import DummyLogger
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.data import DataLoader, IterableDataset

from sgdlit.algorithms import Member
from sgdlit.data.batches import Batch
from sgdlit.data.keyed_data import KeyedData
from sgdlit.data.members import AsOneProcess
from sgdlit.foundations.errors import UserError
from sgdlit.foundations.generators import kept
from sgdlit.foundations.philox import derive_key
from sgdlit.measures.measure import Measure
from sgdlit.objectives import Loss, NetworkOutput
from sgdlit.training import rows
from sgdlit.training.rows import Row

_SEED = 0  # of examples, probes and start vectors, where the data have none of their own


@runtime_checkable
class GivesExampleLosses(Protocol):
    """A module that knows the loss of each example."""

    def example_losses(self, batch: Any) -> Tensor:
        """The losses of the examples of a batch, ``[b]``."""


class MeanOnly(Loss):
    """The output of a network that computes the mean over a batch, a scalar."""

    def per_example(self, outputs: Tensor, targets: Tensor) -> Tensor:
        raise UserError(
            "loss: training_step gives the mean over a batch, and no loss of each example; allowed: a method "
            "example_losses(batch) of the module that returns [b]"
        )

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs


class _Quiet(AsOneProcess):
    """A trainer that logs nothing."""

    def __init__(self, trainer: Trainer) -> None:
        super().__init__(trainer)
        self.logger = DummyLogger()
        self.loggers = [self.logger]


class LossesOf(nn.Module):
    """Numbers of examples ``[b]`` -> their losses ``[b]``, or the mean, by a copy of a LightningModule.

    It has the copy's parameters and buffers under their own names.

    Args:
        module: is copied.
        examples: the batch that holds all of them, a tree of tensors ``[n, ...]``.
        trainer: of the module.

    Raises:
        UserError: a module that cannot be copied.
    """

    def __init__(self, module: LightningModule, examples: Any, trainer: Trainer) -> None:
        super().__init__()
        own = _copy_of(module)
        self._parameters, self._modules, self._buffers = own._parameters, own._modules, own._buffers
        quiet = _Quiet(trainer)
        for part in own.modules():
            if isinstance(part, LightningModule):
                part.trainer = quiet
                part.__dict__.update(log=_nothing, log_dict=_nothing, print=_nothing)
        # Not as attributes: the copy is no submodule, its parts are.
        self.__dict__.update(own=own, quiet=quiet, source=trainer, examples=examples)
        self.training = own.training

    def __deepcopy__(self, memo: dict[int, Any]) -> "LossesOf":
        again = LossesOf(self.__dict__["own"], self.__dict__["examples"], self.__dict__["source"])
        memo[id(self)] = again
        return again

    def train(self, mode: bool = True) -> "LossesOf":
        self.__dict__["own"].train(mode)
        self.training = mode
        return self

    def forward(self, numbers: Tensor) -> Tensor:
        own: LightningModule = self.__dict__["own"]
        batch = tree_map(lambda leaf: leaf[numbers], self.__dict__["examples"])
        if not isinstance(own, GivesExampleLosses):
            return _mean_loss(own, batch)
        losses = own.example_losses(batch)
        if losses.shape != numbers.shape:
            raise UserError(
                f"{type(own).__name__}.example_losses: shape {tuple(losses.shape)} for {len(numbers)} "
                f"examples; allowed: ({len(numbers)},), one loss for each"
            )
        return losses


def _nothing(*_: Any, **__: Any) -> None:
    """Log nothing."""


def _copy_of(module: LightningModule) -> LightningModule:
    try:
        return copy.deepcopy(module)
    except (RuntimeError, TypeError) as error:
        raise UserError(
            f"Measures: {type(module).__name__} cannot be copied, so that measures could change it: {error}; "
            "allowed: a module that keeps no tensor with a graph, and nothing that cannot be copied"
        ) from error


def _mean_loss(module: LightningModule, batch: Any) -> Tensor:
    """What ``training_step`` returns of a batch: a mean, a scalar."""
    arguments = {"batch_idx": 0} if "batch_idx" in inspect.signature(module.training_step).parameters else {}
    found: Any = module.training_step(batch, **arguments)
    loss = found["loss"] if isinstance(found, Mapping) else found
    if not isinstance(loss, Tensor) or loss.dim():
        raise UserError(
            f"{type(module).__name__}.training_step: returned no scalar loss, which measures differentiate; "
            "allowed: a loss, or a dictionary with one as loss; or a method example_losses(batch) of the "
            "module that returns [b]"
        )
    return loss


class ExamplesOf(KeyedData):
    """The training set of a module of one's own: a batch of its examples is their numbers, twice.

    Args:
        seed: of what measures draw.
        batch_size: B, of a step.
        steps_per_epoch: of the trainer.
        population: N, how many there are; None for a stream.
        choose: how some are chosen: number, or None for all, and purpose -> their indices.
    """

    def __init__(
        self,
        seed: int,
        batch_size: int,
        steps_per_epoch: int,
        population: int | None,
        choose: Callable[[int | None, str], Tensor] | None = None,
    ) -> None:
        super().__init__(batch_size, seed=seed, last_batch="short")
        self.population, self._steps, self._choose = population, steps_per_epoch, choose

    @property
    def source(self) -> dict[str, Any]:
        return {}

    @property
    def is_finite(self) -> bool:
        return self.population is not None

    @property
    def steps_per_epoch(self) -> int:
        return self._steps

    def take_over(self, other: KeyedData) -> None:
        raise NotImplementedError("each run holds its own")

    def size(self, split: str) -> int:
        return (self.population or 0) if split == "train_set" else 0

    def examples(self, split: str, device: torch.device) -> Any:
        raise NotImplementedError("measures ask for chosen ones")

    def prepare(self, inputs: Tensor) -> Tensor:
        return inputs

    def at_a_time(self, device: torch.device) -> int:
        return self.batch_size

    def choose(self, count: int | None, purpose: str) -> Tensor:
        return super().choose(count, purpose) if self._choose is None else self._choose(count, purpose)

    def chosen(self, indices: Tensor, device: torch.device) -> Batch:
        return indices.to(device), indices.to(device)


class OwnModule:
    """A LightningModule of one's own in the place of a :class:`Training`: one run, looked at by measures.

    Args:
        module: what is trained.
        trainer: which has begun to train it.

    Raises:
        UserError: data of which no examples can be chosen.
    """

    several = curves = False

    def __init__(self, module: LightningModule, trainer: Trainer) -> None:
        self.module, self.trainer = module, trainer
        self.source = _source(trainer)
        self.data = _training_set(self.source, trainer)
        self.examples: Any = None

    @property
    def device(self) -> torch.device:
        return self.module.device

    def hold(self, indices: Tensor) -> None:
        """Take some examples from the data, once for all: those that measures look at.

        What the data draw for them is drawn anew from a seed, and does not last.

        Raises:
            UserError: examples that are more than tensors.
        """
        device = self.device
        with kept([device], derive_key(_SEED, "measures").lo):
            if isinstance(self.source, KeyedData):
                batch: Any = self.source.chosen(indices, device)
            else:
                batch = self.source.collate_fn([self.source.dataset[i] for i in indices.tolist()])
                _check_leaves(batch, len(indices))
                batch = self.trainer.strategy.batch_to_device(batch, device)
        self.examples = self.trainer.precision_plugin.convert_input(batch)

    @property
    def members(self) -> list[Member]:
        """The one run, with a copy of the module as it is now."""
        loss = NetworkOutput() if isinstance(self.module, GivesExampleLosses) else MeanOnly()
        network = LossesOf(self.module, self.examples, self.trainer)
        return [Member(network, loss, lambda _: self.trainer.optimizers[0])]

    def here(self) -> list[int]:
        return [0]

    def log_rows(self, found: Mapping[int, Row]) -> None:
        """Write a row to every logger of the trainer."""
        rows.write(self.trainer.loggers, self.trainer.global_step, found, several=False)


def check_own_module(module: LightningModule) -> None:
    """Refuse a module whose losses nobody can ask for.

    Raises:
        UserError: saying what is allowed.
    """
    if not module.automatic_optimization and not isinstance(module, GivesExampleLosses):
        raise UserError(
            f"Measures: {type(module).__name__} optimizes in its training_step, which cannot be called for "
            "the loss alone; allowed: a method example_losses(batch) that returns [b]"
        )


def left_out(module: LightningModule, measures: Sequence[Measure]) -> dict[Measure, str]:
    """The measures that cannot be taken of a module of one's own, each with the reason in words."""
    knows = isinstance(module, GivesExampleLosses)
    found = {}
    for measure in measures:
        if not knows and measure.looks_at_each:
            found[measure] = f"{type(module).__name__} has no method example_losses(batch) that returns [b]"
        elif {"batches", "step_batch"} & set(measure.needs) or type(measure).note is not Measure.note:
            found[measure] = f"of {type(module).__name__} only chosen training examples are looked at"
    return found


def in_words(found: Mapping[Measure, str]) -> str:
    """Which measures are not taken, in a sentence."""
    reasons: dict[str, list[str]] = {}
    for measure, why in found.items():
        reasons.setdefault(why, []).append(type(measure).__name__)
    parts = (f"{', '.join(names)}, because {why}" for why, names in reasons.items())
    return f"measures that are not taken: {'; '.join(parts)}"


# Which examples


def _source(trainer: Trainer) -> KeyedData | DataLoader:
    """Where the examples come from.

    Raises:
        UserError: a loader of which single examples cannot be asked for.
    """
    data, loader = trainer.datamodule, trainer.train_dataloader
    if isinstance(data, KeyedData):
        return data
    if (
        not isinstance(loader, DataLoader)
        or isinstance(loader.dataset, IterableDataset)
        or loader.batch_sampler is None
    ):
        raise UserError(
            f"Measures: cannot choose training examples of {type(loader).__name__}; allowed: a DataLoader "
            "whose dataset has a length and examples by number, or data of sgdlit.data"
        )
    return loader


def _training_set(source: KeyedData | DataLoader, trainer: Trainer) -> ExamplesOf:
    if isinstance(source, KeyedData):
        steps, population = source.steps_per_epoch, source.training_size
        return ExamplesOf(source.seed, source.batch_size, steps, population, source.choose)
    shares = trainer.world_size * trainer.accumulate_grad_batches
    size = source.batch_size or source.batch_sampler.batch_size  # type: ignore[union-attr]
    steps = -(-len(source) // trainer.accumulate_grad_batches)
    return ExamplesOf(_SEED, size * shares, steps, len(source.dataset))  # type: ignore[arg-type]


def _check_leaves(batch: Any, count: int) -> None:
    """Refuse a batch that is more than tensors with an entry of each example."""
    for leaf in tree_flatten(batch)[0]:
        if not isinstance(leaf, Tensor) or leaf.dim() == 0 or len(leaf) != count:
            shape = f" of shape {tuple(leaf.shape)}" if isinstance(leaf, Tensor) else ""
            raise UserError(
                f"Measures: a batch of {count} training examples holds a {type(leaf).__name__}{shape}; "
                f"allowed: tensors [{count}, ...], in any lists, tuples and dictionaries"
            )
