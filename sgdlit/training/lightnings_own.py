"""What of Lightning's own a run cannot have: callbacks and Trainer options, each refused in a sentence.

docs/lightning.md has a row for every callback and every option of Lightning 2.6. What is not refused acts at
the same steps, and leaves the same numbers, however many steps a call takes.
"""

import importlib.util
import os
import warnings
from collections.abc import Iterable, Mapping

from lightning.fabric.utilities.types import _Stateful
from lightning.pytorch import Callback, LightningDataModule, Trainer
from lightning.pytorch.callbacks import (
    BackboneFinetuning,
    BatchSizeFinder,
    DeviceStatsMonitor,
    EarlyStopping,
    GradientAccumulationScheduler,
    LearningRateFinder,
    ModelCheckpoint,
    ModelPruning,
    OnExceptionCheckpoint,
    StochasticWeightAveraging,
    WeightAveraging,
)
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.strategies import DDPStrategy, ParallelStrategy, SingleDeviceStrategy
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher
from torch.utils._pytree import tree_leaves
from torch.utils.data import DataLoader, RandomSampler, SubsetRandomSampler, WeightedRandomSampler

from sgdlit.data.keyed_data import KeyedData
from sgdlit.data.members import MembersData
from sgdlit.foundations.console import warn
from sgdlit.foundations.errors import UserError, did_you_mean, with_allowed
from sgdlit.training.evaluation import BestSoFar

_DRAWING = (RandomSampler, SubsetRandomSampler, WeightedRandomSampler)
_AVERAGE = (
    "it copies the module and puts the average in its place; allowed: sgdlit.training.iterate_average."
    "IterateAverage, which evaluates an average (polynomial: 0 for the mean of all iterates)"
)
_TRIES = "it trains for a while before the run, which a resumed run could not repeat; allowed: a sweep over "
_REFUSED: dict[type[Callback], str] = {
    BackboneFinetuning: "the network has no part named backbone; allowed: model.network.class_path: "
    "sgdlit.models.frozen.Frozen, or one of your own with requires_grad set",
    BatchSizeFinder: _TRIES + "data.batch_size",
    LearningRateFinder: _TRIES + "model.optimizer.lr",
    GradientAccumulationScheduler: "a step's batch has data.batch_size examples whatever it is cut into; "
    "allowed: trainer.accumulate_grad_batches, which cuts every one into equal parts",
    OnExceptionCheckpoint: "a new run would begin from the file of an earlier one; allowed: "
    "checkpoints.every_n_steps, and fit --resume",
    ModelPruning: "it puts other parameters in the place of the network's, which no checkpoint would fit; "
    "allowed: a network of your own that has masks",
    StochasticWeightAveraging: _AVERAGE,
    WeightAveraging: _AVERAGE,
}


def check_processes(trainer: Trainer) -> None:
    """Refuse processes whose results are lost, or that nobody starts; for any module.

    Raises:
        UserError: naming the key, its value and what is allowed.
    """
    strategy = trainer.strategy
    if isinstance(strategy.launcher, _MultiProcessingLauncher):
        raise UserError(
            f"trainer.strategy: {strategy.launcher._start_method} processes do not hand back what they "
            "reached; allowed: auto, ddp"
        )
    alone = isinstance(strategy, ParallelStrategy) and isinstance(
        strategy.cluster_environment, LightningEnvironment
    )
    missing = [name for name in ("MASTER_ADDR", "NODE_RANK") if name not in os.environ]
    if trainer.num_nodes > 1 and alone and missing:
        raise UserError(
            f"trainer.num_nodes: {trainer.num_nodes} would wait for processes on other machines, which "
            f"nobody starts; allowed: 1, or a start by srun or torchrun, or with {' and '.join(missing)} set "
            "in the environment of each"
        )


def keep_true_warnings(own_module: bool, datamodule: LightningDataModule | None) -> None:
    """Let Lightning warn of a module's or of data's own, of what it takes sgdlit's for.

    Of a user's own DataLoader it says that a run which is resumed within an epoch begins that epoch anew.

    Args:
        own_module: whether the module is sgdlit's.
        datamodule: of the run.
    """
    own_data = isinstance(datamodule, KeyedData | MembersData)
    for mine, message in (
        (own_data, "dataloader is not resumable"),  # sgdlit's need no state
        (True, "is smaller than the logging interval"),  # which spans epochs here
        (own_module, "sync_dist=True"),  # what they log is over all ranks already
    ):
        warnings.filterwarnings("ignore" if mine else "default", message=f".*{message}.*")


def warn_of_another_order(trainer: Trainer) -> None:
    """Say that a resumed run sees a user's own shuffled examples in another order: at its beginning.

    Lightning says so within an epoch only, and only that the epoch is begun anew.
    """
    for loader in tree_leaves(trainer.train_dataloader):
        plain = isinstance(loader, DataLoader) and not isinstance(loader, _Stateful)
        if plain and isinstance(loader.sampler, _DRAWING):
            warn(
                f"the DataLoader shuffles ({type(loader.sampler).__name__}) by a generator that no "
                "checkpoint keeps: this run goes on with another order than it would have had; the same "
                "order: data of sgdlit (data: Arrays), or torchdata's StatefulDataLoader"
            )


def check_lightnings_own(trainer: Trainer) -> None:
    """Refuse Lightning's callbacks and options that a :class:`Training` cannot go with.

    Raises:
        UserError: naming the key, its value and what is allowed.
    """
    if trainer.overfit_batches:
        raise UserError(
            f"trainer.overfit_batches: {trainer.overfit_batches} would see other batches in every epoch, "
            "since a batch follows from its step; allowed: 0, with fewer examples: data.train_size, or "
            "data.shard_size of a stream"
        )
    if not isinstance(trainer.strategy, SingleDeviceStrategy | DDPStrategy):
        raise UserError(
            f"trainer.strategy: {type(trainer.strategy).__name__} keeps no whole gradient on a device; "
            "allowed: auto, ddp"
        )
    for callback in trainer.callbacks:
        why = next((words for kind, words in _REFUSED.items() if isinstance(callback, kind)), None)
        if why is not None:
            raise UserError(f"trainer.callbacks: {type(callback).__name__} is not possible: {why}")
        needs_psutil = isinstance(callback, DeviceStatsMonitor) and trainer.strategy.root_device.type == "cpu"
        if needs_psutil and importlib.util.find_spec("psutil") is None:
            raise UserError(
                "trainer.callbacks: DeviceStatsMonitor needs the package psutil on a CPU; install it "
                "with: pip install psutil"
            )


def check_monitors(trainer: Trainer, splits: Iterable[str], waiting: Mapping[str, str]) -> None:
    """Refuse what waits for a metric which is never logged, as far as that is known before.

    Callbacks of other packages may log what they like, and then nothing is known.

    Args:
        trainer: of the run.
        splits: the evaluation sets.
        waiting: by the key of what waits, beside Lightning's callbacks, the name of its metric.

    Raises:
        UserError: naming the metric and those that there are.
    """
    if any(type(each).__module__.split(".")[0] not in ("lightning", "sgdlit") for each in trainer.callbacks):
        return
    known = ["train/loss", "train/accuracy", *(name for split in splits for name in BestSoFar.names(split))]
    monitors = dict(waiting)
    for callback in trainer.callbacks:
        waits = isinstance(callback, ModelCheckpoint) or (
            isinstance(callback, EarlyStopping) and callback.strict
        )
        if waits and callback.monitor is not None:
            monitors[f"trainer.callbacks: {type(callback).__name__}.monitor"] = callback.monitor
    for key, monitor in monitors.items():
        if monitor not in known:
            problem = f"{key}: {monitor!r} is never logged{did_you_mean(monitor, known)}"
            raise UserError(with_allowed(problem, known))
