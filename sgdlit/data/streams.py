"""Streams: data that never ends, each example seen once, made on the training device from (seed, step).

A :class:`StreamData` is a distribution from which example i of a split is drawn as a pure function of
(seed, split, i). Minibatch k of the stream is the examples kB … (k+1)B − 1 of the training split, so what a
step sees depends on nothing but the seed and the step. The same distribution has a finite form: with
``shard_size: n`` training visits the first n examples of the stream in epochs, in a chosen order, and the
validation and test sets stay what they are.
"""

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any, Literal

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from sgdlit.data.keyed_data import KeyedData
from sgdlit.data.loaders import Batch, Batches, EvaluationLoader, check_loaders
from sgdlit.data.orders import Itinerary, LastBatch, Order, RandomReshuffling
from sgdlit.foundations.errors import UserError
from sgdlit.foundations.philox import Key, derive_key, normal

Split = Literal["train", "val", "test"]

_NUMBERS = {"cpu": 2**18}  # random numbers made at a time: temporaries that fit the cache
_NUMBERS_ELSEWHERE = 2**22  # few launches, some hundred MB of temporaries
_PAGE_MINIBATCHES = 1024
_FIRST = 64  # examples among which one is looked for to try a network on


class StreamData(KeyedData):
    """A distribution of examples as an endless stream, or as a finite shard of it.

    Args:
        steps: length of a run; the training loader's one epoch, so that ``trainer.max_epochs: 1`` makes
            this many steps.
        batch_size: B, examples per step over all ranks and accumulated micro-batches.
        shard_size: None for the stream; n to visit its first n examples in epochs.
        order: of the visits to a shard (default: random reshuffling).
        repeats: n, steps taken on each minibatch (n-step SGD).
        last_batch: where B does not divide ``shard_size``: "error", "short" or "drop".
        val_size: number of validation examples; 0 for none.
        test_size: number of test examples.
        seed: decides the examples and the order; None takes the run's ``seed_everything``.
        data_seed: a seed for the examples (with teacher and noise) alone: runs with other seeds then visit
            the same shard in other orders.
        order_seed: a seed for the order of a shard alone.
        eval_batch_size: examples per rank in one evaluation batch.
        evaluate_train: whether the shard is evaluated beside the other sets, as ``train_set``.
        page_minibatches: minibatches made together; None chooses by the device. It decides the speed, never
            the numbers.
        dtype: of inputs and real targets.

    Raises:
        UserError: a size or length that is not possible.
    """

    key_name: str

    def __init__(
        self,
        steps: int,
        batch_size: int = 1,
        shard_size: int | None = None,
        order: Order | None = None,
        repeats: int = 1,
        last_batch: LastBatch = "error",
        val_size: int = 0,
        test_size: int = 1000,
        seed: int | None = None,
        data_seed: int | None = None,
        order_seed: int | None = None,
        eval_batch_size: int = 1000,
        evaluate_train: bool = False,
        page_minibatches: int | None = None,
        dtype: Literal["float32", "float64"] = "float32",
    ) -> None:
        super().__init__()
        at_least_one = {"steps": steps, "batch_size": batch_size, "repeats": repeats, "test_size": test_size}
        at_least_one |= {"eval_batch_size": eval_batch_size}
        for name, optional in (("shard_size", shard_size), ("page_minibatches", page_minibatches)):
            if optional is not None:
                at_least_one[name] = optional
        for name, value in at_least_one.items():
            require(value >= 1, name, value, "1 or more")
        require(val_size >= 0, "val_size", val_size, "0 or more")
        if shard_size is None and order is not None:
            raise UserError(
                f"data.order: {type(order).__name__} has nothing to order in a stream, where each example is "
                "seen once; allowed: none, or data.shard_size with it"
            )
        self.steps, self.batch_size, self.shard_size, self.repeats = steps, batch_size, shard_size, repeats
        self.order, self.last_batch = order or RandomReshuffling(), last_batch
        if evaluate_train and shard_size is None:
            raise UserError(
                "data.evaluate_train: true is not possible for a stream, whose training set never ends; "
                "allowed: false, or data.shard_size with it"
            )
        self.sizes, self.evaluate_train = {"val": val_size, "test": test_size}, evaluate_train
        self.seed = 0 if seed is None else seed
        self.data_seed = self.seed if data_seed is None else data_seed
        self.order_seed = self.seed if order_seed is None else order_seed
        self.eval_batch_size, self.page_minibatches = eval_batch_size, page_minibatches
        self.dtype = getattr(torch, dtype)
        self.itinerary: Itinerary | None = None
        if shard_size is not None:
            self.itinerary = Itinerary(
                self.order, shard_size, batch_size, repeats, last_batch, self.order_seed
            )
        self._held: dict[tuple[str, int, torch.device], Batch] = {}

    # What a distribution says about itself

    @abstractmethod
    def draw(self, split: Split, index: Tensor) -> Batch:
        """Inputs ``[n, ...]`` and targets ``[n, ...]`` of a split's examples ``index``, int64 ``[n]``, on its
        device. Example i must not depend, to the last bit, on what else is asked for."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What decides the distribution, in plain types: a checkpoint is only resumed on the same."""

    @property
    def is_finite(self) -> bool:
        return self.shard_size is not None

    @property
    @abstractmethod
    def numbers(self) -> int:
        """Random numbers per example, roughly: how many examples make a page."""

    def prepare(self, inputs: Tensor) -> Tensor:
        """From what is stored to the network's input."""
        return inputs

    def prepare_training(self, inputs: Tensor, minibatches: Iterable[int], part: slice) -> Tensor:
        """The same for examples that are trained on, where that is something else (augmentation).

        Args:
            inputs: of the examples ``part`` of some minibatches, one after another.
            minibatches: their numbers; equal numbers are augmented equally.
            part: of each.
        """
        return self.prepare(inputs)

    def key(self, split: Split) -> Key:
        """The key of a split's examples."""
        return derive_key(self.data_seed, f"{self.key_name} {split}")

    # What Lightning and the command line ask

    @property
    def evaluation_splits(self) -> list[str]:
        return ["val"] * (self.sizes["val"] > 0) + ["test"] + ["train_set"] * self.evaluate_train

    @property
    def steps_per_epoch(self) -> int:
        return self.steps

    @property
    def step_sizes(self) -> list[int]:
        short = set() if self.itinerary is None else {self.itinerary.smallest}
        return sorted({self.batch_size} | short, reverse=True)

    def check(self, trainer: Trainer) -> None:
        """Everything that can be wrong about the data of a run, before the run leaves a trace.

        Raises:
            UserError: naming the key, its value and what is allowed.
        """
        evaluated = {name: self._size(name) for name in self.evaluation_splits}
        check_loaders(self.step_sizes, self.steps_per_epoch, evaluated, trainer)

    def example(self) -> Batch:
        """Of the highest class among the first examples."""
        inputs, targets = self.draw("train", torch.arange(_FIRST))
        row = 0 if targets.is_floating_point() else int(targets.argmax())
        return self.prepare(inputs[row : row + 1]), targets[row : row + 1]

    @property
    def source(self) -> dict[str, Any]:
        return {"sizes": self.sizes, "seed": self.data_seed, "dtype": str(self.dtype), **self.describe()}

    def take_over(self, other: KeyedData) -> None:
        self._held = other._held

    def batches(self, device: torch.device) -> Batches:
        if self.itinerary is None:
            return StreamBatches(self, device)
        return ShardBatches(self, self.itinerary, device)

    def state_dict(self) -> dict[str, Any]:
        return {
            "class": type(self).__name__,
            "batch_size": self.batch_size,
            "shard_size": self.shard_size,
            "order": self.order.description,
            "repeats": self.repeats,
            "last_batch": self.last_batch,
            "dtype": str(self.dtype),
            "seeds": [self.data_seed, self.order_seed],
            **self.describe(),
        }

    # How batches are made

    def at_a_time(self, device: torch.device) -> int:
        """How many examples to make in one call."""
        return max(1, _NUMBERS.get(device.type, _NUMBERS_ELSEWHERE) // self.numbers)

    def _size(self, split: str) -> int:
        return self.shard_size if split == "train_set" else self.sizes[split]

    def evaluation_loader(self, split: str, batch_size: int | None = None) -> EvaluationLoader:
        drawn = "train" if split == "train_set" else split
        inputs, targets = self.finite(drawn, self._size(split), self.trainer.strategy.root_device)

        def batch(part: slice) -> Batch:
            return self.prepare(inputs[part]), targets[part]

        return EvaluationLoader(batch, len(targets), batch_size or self.eval_batch_size, self.trainer)

    def finite(self, split: Split, size: int, device: torch.device) -> Batch:
        """The first ``size`` examples of a split, drawn once and kept on the device."""
        if (split, size, device) not in self._held:
            chunks = torch.arange(size, device=device).split(self.at_a_time(device))
            inputs, targets = zip(*(self.draw(split, chunk) for chunk in chunks), strict=True)
            self._held[split, size, device] = torch.cat(inputs), torch.cat(targets)
        return self._held[split, size, device]


class StreamBatches(Batches):
    """The minibatches of a stream, made a page of consecutive ones at a time and kept until the next.

    Args:
        data: the distribution.
        device: where examples are made.
    """

    def __init__(self, data: StreamData, device: torch.device) -> None:
        super().__init__(data.batch_size, data.steps_per_epoch, data)
        self.data, self.device, self.repeats = data, device, data.repeats
        chosen = min(_PAGE_MINIBATCHES, max(1, data.at_a_time(device) // data.batch_size))
        self.length = data.page_minibatches or chosen
        self._pages: dict[tuple[int, int], tuple[int, Batch]] = {}

    def batch(self, step: int, part: slice) -> Batch:
        page, place = divmod(step // self.repeats, self.length)
        inputs, targets = self.page(page, part)
        return self.data.prepare_training(inputs[place], [step // self.repeats], part), targets[place]

    def stack(self, first: int, count: int) -> Batch:
        page, place = divmod(first // self.repeats, self.length)
        inputs, targets = self.page(page, slice(0, self.batch_size))
        count = min(count, (page + 1) * self.length * self.repeats - first)
        if self.repeats == 1:
            inputs, targets = inputs[place : place + count], targets[place : place + count]
        else:
            steps = torch.arange(first, first + count, device=self.device)
            places = steps // self.repeats - page * self.length
            inputs, targets = inputs.index_select(0, places), targets.index_select(0, places)
        minibatches = (step // self.repeats for step in range(first, first + count))
        prepared = self.data.prepare_training(inputs.flatten(0, 1), minibatches, slice(0, self.batch_size))
        return prepared.unflatten(0, (count, -1)), targets

    def page(self, page: int, part: slice) -> Batch:
        """The examples ``part`` of a page's minibatches: inputs and targets ``[length, b, ...]``."""
        held, examples = self._pages.get((part.start, part.stop), (-1, None))
        if held != page:
            examples = self._make(page, part)
            self._pages[part.start, part.stop] = page, examples
        return examples

    def _make(self, page: int, part: slice) -> Batch:
        minibatches = torch.arange(page * self.length, (page + 1) * self.length, device=self.device)
        within = torch.arange(part.start, part.stop, device=self.device)
        index = (minibatches.unsqueeze(1) * self.batch_size + within).flatten()
        inputs, targets = self.data.draw("train", index)
        shape = (self.length, len(within))
        return inputs.unflatten(0, shape), targets.unflatten(0, shape)


class ShardBatches(Batches):
    """The minibatches of the finite form of a stream.

    Args:
        data: the distribution, whose first examples are visited.
        itinerary: the order of the visits.
        device: where the examples lie.
    """

    def __init__(self, data: StreamData, itinerary: Itinerary, device: torch.device) -> None:
        super().__init__(data.batch_size, data.steps_per_epoch, data)
        self.data, self.itinerary, self.device = data, itinerary, device
        self.inputs, self.targets = data.finite("train", itinerary.examples, device)
        self._most = max(1, data.at_a_time(device) // data.batch_size)

    def size(self, step: int) -> int:
        return self.itinerary.size(step)

    def batch(self, step: int, part: slice) -> Batch:
        return self.take(self.itinerary.rows(step, self.device)[part], [step], part)

    def stack(self, first: int, count: int) -> Batch:
        rows = self.itinerary.stack(first, min(count, self._most), self.device)
        steps, whole = range(first, first + len(rows)), slice(0, self.size(first))
        inputs, targets = self.take(rows.flatten(), steps, whole)
        return inputs.unflatten(0, rows.shape), targets.unflatten(0, rows.shape)

    def take(self, rows: Tensor, steps: Iterable[int], part: slice) -> Batch:
        """The examples in the given rows, ``part`` of what each of some steps sees: ``[b, ...]`` each."""
        minibatches = (self.itinerary.minibatch(step) for step in steps)
        inputs = self.data.prepare_training(self.inputs.index_select(0, rows), minibatches, part)
        return inputs, self.targets.index_select(0, rows)


class TeacherStream(StreamData):
    """A stream whose targets come from a teacher, drawn once from a seed of its own, and normal noise.

    Args:
        label_noise: σ, standard deviation of the noise added to every target, in every split.
        teacher_seed: a seed for the teacher alone; None takes ``data_seed``.
        label_noise_seed: a seed for the noise alone; None takes ``data_seed``.
    """

    def __init__(
        self,
        label_noise: float = 0.0,
        teacher_seed: int | None = None,
        label_noise_seed: int | None = None,
        **stream: Any,
    ) -> None:
        super().__init__(**stream)
        require(0 <= label_noise < float("inf"), "label_noise", label_noise, "a number from 0 upwards")
        self.label_noise = label_noise
        self.teacher_seed = self.data_seed if teacher_seed is None else teacher_seed
        self.label_noise_seed = self.data_seed if label_noise_seed is None else label_noise_seed
        self.teacher_key = derive_key(self.teacher_seed, f"{self.key_name} teacher")

    def noisy(self, split: Split, index: Tensor, targets: Tensor) -> Tensor:
        """Targets ``[n]`` or ``[n, k]`` with the noise of the examples ``index``."""
        if self.label_noise == 0:
            return targets
        key = derive_key(self.label_noise_seed, f"{self.key_name} {split} label noise")
        noise = normal(key, index, targets[0].numel(), dtype=targets.dtype)
        return targets + self.label_noise * noise.view_as(targets)

    @property
    def source(self) -> dict[str, Any]:
        return super().source | self._teacher_facts()

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | self._teacher_facts()

    def _teacher_facts(self) -> dict[str, Any]:
        return {
            "label_noise": self.label_noise,
            "teacher_seeds": [self.teacher_seed, self.label_noise_seed],
        }


def require(holds: bool, name: str, value: object, allowed: str) -> None:
    """Raise a UserError about ``data.<name>`` unless ``holds``."""
    if not holds:
        raise UserError(f"data.{name}: {value} is not possible; allowed: {allowed}")
