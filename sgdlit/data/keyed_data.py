"""What finite sets and streams have in common: batches that are made on the device, without a state."""

from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, NamedTuple

import torch
from lightning.pytorch import LightningDataModule, Trainer
from torch import Tensor

from sgdlit.data.augmentation import CropAndFlip
from sgdlit.data.batches import Batch, Batches
from sgdlit.data.corruptions import Corruption
from sgdlit.data.keyed_batches import ShardBatches
from sgdlit.data.label_errors import LabelErrors
from sgdlit.data.loaders import (
    BlockLoader,
    EvaluationLoader,
    StepLoader,
    check_limits,
    check_loaders,
    check_same_data,
)
from sgdlit.data.orders import Itinerary, LastBatch, LearnedOrder, Order, RandomReshuffling
from sgdlit.data.poisson import Poisson, PoissonItinerary
from sgdlit.data.shards import Shard, Subset
from sgdlit.foundations.errors import UserError, did_you_mean, with_allowed
from sgdlit.foundations.philox import derive_key, permutation

_LEARNED = "learned order"  # its state in a checkpoint
_UNSEEN = 2**40  # the first example of a stream that no step sees


class Substitute(NamedTuple):
    """What runs instead of data whose files are missing."""

    class_path: str
    init_args: dict[str, Any]
    why: str


class OnDeviceData(LightningDataModule):
    """Data whose batches, or blocks of batches, are made where they are needed."""

    block_length: Callable[[int], int] | None = None
    """step -> steps that the module takes per call from there; None where a call takes one batch."""

    @property
    @abstractmethod
    def evaluation_splits(self) -> list[str]:
        """Names of the evaluation sets (val, test, train_set), in the order of ``val_dataloader()``."""

    @abstractmethod
    def evaluation_loader(self, split: str) -> Iterable[Any]:
        """Every example of an evaluation set once."""

    @property
    @abstractmethod
    def step_sizes(self) -> list[int]:
        """How many examples a step can see, over all ranks: B, and those of a short last minibatch."""

    @abstractmethod
    def example(self) -> Batch:
        """One training example on the host, with the highest label: input ``[1, ...]`` and target."""

    @abstractmethod
    def check(self, trainer: Trainer) -> None:
        """Everything that can be wrong about the data of a run, before the run leaves a trace.

        Raises:
            UserError: naming the key, its value and what is allowed.
        """

    def val_dataloader(self) -> list[Iterable[Any]]:
        return [self.evaluation_loader(split) for split in self.evaluation_splits]

    def test_dataloader(self) -> Iterable[Any]:
        return self.evaluation_loader("test")

    def predict_dataloader(self) -> Iterable[Any]:
        return self.evaluation_loader("test")

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Batches are made where they are needed."""
        return batch


class KeyedData(OnDeviceData):
    """Data of which every batch is a function of (seed, step).

    Args:
        batch_size: B, examples per step over all ranks and accumulated micro-batches.
        order: which examples an epoch visits, and in which order (default: random reshuffling).
        repeats: n, steps taken on each minibatch with the same augmentation (n-step SGD).
        last_batch: where B does not divide N: "error", "short" (a smaller last minibatch) or "drop".
        val_size: number of validation examples; 0 for none.
        seed: decides all that is random; None takes the run's ``seed_everything``.
        order_seed: a seed for the order alone.
        eval_batch_size: examples per rank in one evaluation batch.
        evaluate_train: whether the training set, as it is without augmentation, is evaluated beside the
            others, as ``train_set``.
        label_errors: wrong labels in the training set; the other sets keep theirs, unless it says otherwise.
        corruption: corrupted inputs, alike.

    Raises:
        UserError: a size that is not possible.
    """

    small: ClassVar[tuple[dict[str, Any], ...]] = ({},)
    """Arguments of some small ones, without those of this class: all of them are tested."""

    evaluate_test = True

    def __init__(
        self,
        batch_size: int,
        order: Order | None = None,
        repeats: int = 1,
        last_batch: LastBatch = "error",
        val_size: int = 0,
        seed: int | None = None,
        order_seed: int | None = None,
        eval_batch_size: int = 1000,
        evaluate_train: bool = False,
        label_errors: LabelErrors | None = None,
        corruption: Corruption | None = None,
    ) -> None:
        super().__init__()
        at_least_one = {"batch_size": batch_size, "repeats": repeats, "eval_batch_size": eval_batch_size}
        for name, value in at_least_one.items():
            require(value >= 1, name, value, "1 or more")
        require(val_size >= 0, "val_size", val_size, "0 or more")
        self.batch_size, self.repeats, self.last_batch = batch_size, repeats, last_batch
        self.order, self.val_size = order or RandomReshuffling(), val_size
        self.seed = 0 if seed is None else seed
        self.order_seed = self.seed if order_seed is None else order_seed
        self.eval_batch_size, self.evaluate_train = eval_batch_size, evaluate_train
        self.label_errors, self.corruption = label_errors, corruption
        self.itinerary: Itinerary | None = None

    def make_itinerary(self, examples: int) -> Itinerary:
        """Of the visits to a training set of so many examples."""
        own = self.order, examples, self.batch_size, self.repeats
        if isinstance(self.order, Poisson):
            return PoissonItinerary(*own, "drop", self.order_seed)
        return Itinerary(*own, self.last_batch, self.order_seed, self.training_labels)

    def training_labels(self) -> Tensor:
        """The targets of all training examples, on the host."""
        return self.examples("train_set", torch.device("cpu")).targets

    @property
    def visits(self) -> Itinerary:
        """The itinerary of a finite training set.

        Raises:
            RuntimeError: before ``setup``, and of a stream.
        """
        if self.itinerary is None:
            raise RuntimeError(f"{type(self).__name__} has no itinerary before setup(), and none as a stream")
        return self.itinerary

    # What each kind of data says about itself

    def setup(self, stage: str | None = None) -> None:
        """Read what has to be read, once."""

    def require_files(self) -> None:
        """Refuse files that are not there, before any is read.

        Raises:
            UserError: naming them, and how they are had.
        """

    @classmethod
    def substitute(cls, init_args: dict[str, Any]) -> Substitute | None:
        """What runs instead where files are missing and the config asks for a fall-back.

        Args:
            init_args: of the config.

        Returns:
            None where no fall-back is due.
        """
        return None

    @property
    @abstractmethod
    def source(self) -> dict[str, Any]:
        """What decides the distribution and the evaluation sets, whatever is visited and in which order."""

    @property
    def is_finite(self) -> bool:
        """Whether there is a training set, all of which can be seen."""
        return True

    @abstractmethod
    def take_over(self, other: "KeyedData") -> None:
        """Use the examples that ``other`` holds, which has the same class and ``source``."""

    @property
    @abstractmethod
    def steps_per_epoch(self) -> int:
        """Length of the training loader."""

    @abstractmethod
    def size(self, split: str) -> int:
        """Number of examples of the training set (``train_set``) or of an evaluation set."""

    @abstractmethod
    def examples(self, split: str, device: torch.device) -> Shard | Subset:
        """The training set (``train_set``) or an evaluation set, held once for the device that asks."""

    @abstractmethod
    def prepare(self, inputs: Tensor) -> Tensor:
        """From what is stored to the network's input."""

    @abstractmethod
    def at_a_time(self, device: torch.device) -> int:
        """How many examples to make in one call."""

    def augmentation(self) -> CropAndFlip | None:
        """What happens to inputs that are trained on before they are prepared."""
        return None

    # What measures look at

    @property
    def training_size(self) -> int | None:
        """N, the number of training examples; None where they never end."""
        return self.size("train_set") if self.is_finite else None

    def choose(self, count: int | None, purpose: str) -> Tensor:
        """Some training examples: the first of a permutation with the key (seed, purpose); int64 ``[n]``.

        Of a stream they are examples that no step sees.

        Args:
            count: n; None for all.
            purpose: what they are for.

        Raises:
            UserError: more than there are; all of a stream. It names no key.
        """
        if self.training_size is None:
            if count is None:
                raise UserError("null is not possible for a stream, which never ends; allowed: a number")
            return torch.arange(_UNSEEN, _UNSEEN + count)
        if count is not None and not 1 <= count <= self.training_size:
            raise UserError(
                f"{count} is not possible for a training set of {self.training_size} examples; allowed: 1 to "
                f"{self.training_size}, or null for all"
            )
        return permutation(derive_key(self.seed, purpose), self.training_size)[:count]

    def chosen(self, indices: Tensor, device: torch.device) -> Batch:
        """The training examples of some indices, not augmented, as the network is given them."""
        examples = self.examples("train_set", device)
        inputs, targets = examples.take(indices.to(examples.device))
        return self.prepare(inputs.to(device)), targets.to(device)

    def tensors(self, split: str = "test") -> Batch:
        """All of a set on the host, as the network is given it: inputs ``[n, ...]`` and targets ``[n, ...]``.

        Args:
            split: ``train_set``, ``val`` or ``test``.

        Raises:
            UserError: there is no such set, or it has no end.
        """
        if split not in (known := ("train_set", "val", "test")):
            raise UserError(
                with_allowed(f"split: {split!r} is not allowed{did_you_mean(split, known)}", known)
            )
        self.setup()
        if split == "train_set" and not self.is_finite:
            raise UserError("split: train_set never ends here; allowed: val, test")
        host = torch.device("cpu")
        examples = self.examples(split, host)
        inputs, targets = examples.take(torch.arange(len(examples), device=examples.device))
        return self.prepare(inputs.to(host)), targets.to(host)

    @property
    def disturbances(self) -> dict[str, Any]:
        """What is wrong with labels and inputs, in plain types; empty where nothing is."""
        own = {"label_errors": self.label_errors, "corruption": self.corruption}
        return {name: value.description for name, value in own.items() if value is not None}

    def disturbed(self, split: str, index: Tensor, inputs: Tensor, targets: Tensor, seed: int) -> Batch:
        """Examples with the corrupted inputs and the wrong labels that they are to have.

        Args:
            split: of which they are: ``train``, ``val`` or ``test``.
            index: their numbers, int64 ``[n]``.
            inputs: ``[n, ...]``, as they are stored.
            targets: ``[n, ...]``.
            seed: that decides, where the disturbances have none of their own.
        """
        if self.corruption is not None and self.corruption.concerns(split):
            inputs = self.corruption.apply(index, inputs, seed, split)
        if self.label_errors is not None and self.label_errors.concerns(split):
            targets = self.label_errors.apply(index, targets, seed, split)
        return inputs, targets

    # What follows from that

    @property
    def evaluation_splits(self) -> list[str]:
        asked = {"val": self.val_size > 0, "test": self.evaluate_test, "train_set": self.evaluate_train}
        return [split for split, is_evaluated in asked.items() if is_evaluated]

    @property
    def step_sizes(self) -> list[int]:
        short = set() if self.itinerary is None else {self.itinerary.smallest}
        return sorted({self.batch_size} | short, reverse=True)

    def check(self, trainer: Trainer) -> None:
        self.setup()
        if self.itinerary is not None:
            self.itinerary.check()
            shares = trainer.world_size * trainer.accumulate_grad_batches
            require(not self.itinerary.varies or shares == 1, "order", type(self.order).__name__,
                    "one process without accumulation, since steps see different numbers of "
                    "examples")  # fmt: skip
        evaluated = {name: self.size(name) for name in self.evaluation_splits}
        check_loaders(self.step_sizes, self.steps_per_epoch, evaluated, trainer)
        batches = {
            name: -(-(n // trainer.world_size) // self.eval_batch_size) for name, n in evaluated.items()
        }
        check_limits(self.steps_per_epoch, batches, trainer)

    def batches(self, device: torch.device) -> Batches:
        """What each step sees, made on the device."""
        return ShardBatches(self, self.examples("train_set", device), self.visits, device)

    def train_dataloader(self) -> StepLoader | BlockLoader:
        batches = self.batches(self.trainer.strategy.root_device)
        if self.block_length is None:
            return StepLoader(batches, self.trainer)
        return BlockLoader([batches], self.trainer, self.block_length)

    def evaluation_loader(self, split: str, batch_size: int | None = None) -> EvaluationLoader:
        """Every example of an evaluation set, or of the training set (``train_set``), once over all ranks.

        Args:
            split: which set.
            batch_size: examples per rank in one batch; None for the data's own.
        """
        device = self.trainer.strategy.root_device
        examples = self.examples(split, device)
        indices = torch.arange(len(examples), device=examples.device)

        def batch(part: slice) -> Batch:
            inputs, targets = examples.take(indices[part])
            return self.prepare(inputs.to(device)), targets.to(device)

        return EvaluationLoader(batch, len(examples), batch_size or self.eval_batch_size, self.trainer)

    def state_dict(self) -> dict[str, Any]:
        """What decides the data of a run, in plain types: a checkpoint is resumed on the same only."""
        learned = {_LEARNED: self.order.state_dict()} if isinstance(self.order, LearnedOrder) else {}
        return {
            "class": type(self).__name__,
            "batch_size": self.batch_size,
            "order": self.order.description,
            "repeats": self.repeats,
            "last_batch": self.last_batch,
            **self.disturbances,
            **learned,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        check_same_data({k: v for k, v in self.state_dict().items() if k != _LEARNED}, state_dict)
        if isinstance(self.order, LearnedOrder):
            self.order.load_state_dict(state_dict[_LEARNED])


def require(holds: bool, name: str, value: object, allowed: str) -> None:
    """Raise a UserError about ``data.<name>`` unless ``holds``."""
    if not holds:
        raise UserError(f"data.{name}: {value} is not possible; allowed: {allowed}")
