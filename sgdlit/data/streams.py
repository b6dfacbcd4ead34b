"""Streams: data that never ends, each example seen once, made on the training device from (seed, step).

A :class:`StreamData` is a distribution from which example i of a split is drawn as a pure function of
(seed, split, i). Minibatch k of the stream is the examples kB … (k+1)B − 1 of the training split, so what a
step sees depends on nothing but the seed and the step. The same distribution has a finite form: with
``shard_size: n`` training visits the first n examples of the stream in epochs, in a chosen order, and the
validation and test sets stay what they are.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from sgdlit.data.batches import Batch, Batches, aligned
from sgdlit.data.keyed_batches import KeyedBatches
from sgdlit.data.keyed_data import KeyedData, require
from sgdlit.data.orders import Order
from sgdlit.data.shards import Shard
from sgdlit.foundations.errors import UserError
from sgdlit.foundations.philox import Key, derive_key, normal
from sgdlit.foundations.side_by_side import SideBySide

Split = Literal["train", "val", "test"]
_DRAWN: dict[str, Split] = {"train_set": "train", "val": "val", "test": "test"}  # for each set

_DRAWS = {"cpu": 2**18}  # random numbers made at a time: temporaries that fit the cache
_DRAWS_ELSEWHERE = 2**22  # few launches, some hundred MB of temporaries
_PAGE_MINIBATCHES = 1024
_DTYPES = {"float32": torch.float32, "float64": torch.float64}
_FIRST = 64  # examples among which one is looked for to try a network on


class StreamData(KeyedData):
    """A distribution of examples as an endless stream, or as a finite shard of it.

    Args:
        steps: length of a run; the training loader's one epoch, so that ``trainer.max_epochs: 1`` makes
            this many steps.
        batch_size: B, examples per step over all ranks and accumulated micro-batches.
        shard_size: None for the stream; n to visit its first n examples in epochs.
        order: of the visits to a shard (default: random reshuffling).
        test_size: number of test examples.
        data_seed: a seed for the examples (with teacher and noise) alone: runs with other seeds then visit
            the same shard in other orders.
        evaluate_train: whether the shard is evaluated beside the other sets, as ``train_set``.
        page_minibatches: minibatches made together; None chooses by the device. It decides the speed, never
            the numbers.
        dtype: of inputs and real targets.
        keyed: see :class:`KeyedData`.

    Raises:
        UserError: a size or length that is not possible.
    """

    key_name: ClassVar[str]

    def __init__(
        self,
        steps: int,
        batch_size: int = 1,
        shard_size: int | None = None,
        order: Order | None = None,
        test_size: int = 1000,
        data_seed: int | None = None,
        evaluate_train: bool = False,
        page_minibatches: int | None = None,
        dtype: Literal["float32", "float64"] = "float32",
        **keyed: Any,
    ) -> None:
        super().__init__(batch_size=batch_size, order=order, evaluate_train=evaluate_train, **keyed)
        given = {"steps": steps, "test_size": test_size, "shard_size": shard_size}
        for name, value in (given | {"page_minibatches": page_minibatches}).items():
            require(value is None or value >= 1, name, value, "1 or more")
        if shard_size is None and order is not None:
            raise UserError(
                f"data.order: {type(order).__name__} has nothing to order in a stream, where each example is "
                "seen once; allowed: none, or data.shard_size with it"
            )
        if shard_size is None and evaluate_train:
            raise UserError(
                "data.evaluate_train: true is not possible for a stream, whose training set never ends; "
                "allowed: false, or data.shard_size with it"
            )
        self.steps, self.shard_size, self.page_minibatches = steps, shard_size, page_minibatches
        self.sizes, self.dtype = {"val": self.val_size, "test": test_size}, _DTYPES[dtype]
        self.data_seed = self.seed if data_seed is None else data_seed
        if shard_size is not None:
            self.itinerary = self.make_itinerary(shard_size)
        self._held: dict[tuple[str, int, torch.device], Shard] = {}

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
    def draws_per_example(self) -> int:
        """Random numbers per example, roughly: how many examples make a page."""

    def drawn(self, split: Split, index: Tensor) -> Batch:
        """What :meth:`draw` makes, with the corrupted inputs and the wrong labels that are to be."""
        return self.disturbed(split, index, *self.draw(split, index), self.data_seed)

    def prepare(self, inputs: Tensor) -> Tensor:
        return inputs

    def key(self, split: Split) -> Key:
        """The key of a split's examples."""
        return derive_key(self.data_seed, f"{self.key_name} {split}")

    # What Lightning and the command line ask

    @property
    def steps_per_epoch(self) -> int:
        return self.steps

    def example(self) -> Batch:
        """Of the highest class among the first examples."""
        inputs, targets = self.drawn("train", torch.arange(_FIRST))
        place = 0 if targets.is_floating_point() else int(targets.argmax())
        return self.prepare(inputs[place : place + 1]), targets[place : place + 1]

    @property
    def source(self) -> dict[str, Any]:
        own = {"sizes": self.sizes, "seed": self.data_seed, "dtype": str(self.dtype)}
        return own | self.disturbances | self.describe()

    def take_over(self, other: KeyedData) -> None:
        self._held = other._held

    def batches(self, device: torch.device) -> Batches:
        return StreamBatches(self, device) if self.itinerary is None else super().batches(device)

    def state_dict(self) -> dict[str, Any]:
        own = {"shard_size": self.shard_size, "dtype": str(self.dtype)}
        seeds = {"seeds": [self.data_seed, self.order_seed]}
        return super().state_dict() | own | seeds | self.describe()

    # How examples are made

    def at_a_time(self, device: torch.device) -> int:
        return max(1, _DRAWS.get(device.type, _DRAWS_ELSEWHERE) // self.draws_per_example)

    def size(self, split: str) -> int:
        if split != "train_set":
            return self.sizes[split]
        if self.shard_size is None:
            raise RuntimeError(f"{type(self).__name__}: the training set of a stream has no size")
        return self.shard_size

    def examples(self, split: str, device: torch.device) -> Shard:
        held = split, self.size(split), device
        if held not in self._held:
            chunks = torch.arange(self.size(split), device=device).split(self.at_a_time(device))
            drawn = (self.drawn(_DRAWN[split], chunk) for chunk in chunks)
            inputs, targets = zip(*drawn, strict=True)
            self._held[held] = Shard(torch.cat(inputs), torch.cat(targets))
        return self._held[held]

    def chosen(self, indices: Tensor, device: torch.device) -> Batch:
        if self.is_finite:
            return super().chosen(indices, device)
        inputs, targets = self.drawn("train", indices.to(device))
        return self.prepare(inputs), targets


class StreamBatches(KeyedBatches):
    """The minibatches of a stream, made a page of consecutive ones at a time and kept until the next.

    Args:
        data: the distribution.
        device: where examples are made.
    """

    def __init__(self, data: StreamData, device: torch.device) -> None:
        super().__init__(data, device)
        self.draw, self.repeats = data.drawn, data.repeats
        chosen = min(_PAGE_MINIBATCHES, max(1, data.at_a_time(device) // data.batch_size))
        self.length = data.page_minibatches or chosen
        self._pages: dict[tuple[int, int], tuple[int, Batch]] = {}
        self._of_all: tuple[int, list[StreamBatches], Batch] | None = None
        self._threads: SideBySide | None = None

    def minibatch(self, step: int) -> int:
        return step // self.repeats

    def batch(self, step: int, part: slice) -> Batch:
        page, place = divmod(self.minibatch(step), self.length)
        inputs, targets = self.page(page, part)
        return self.finish(inputs[place], [(self, step)], part), targets[place]

    def stack(self, first: int, count: int) -> Batch:
        page, place = divmod(self.minibatch(first), self.length)
        whole = slice(0, self.batch_size)
        inputs, targets = self.page(page, whole)
        count = min(count, (page + 1) * self.length * self.repeats - first)
        if self.repeats == 1:
            inputs, targets = inputs[place : place + count], targets[place : place + count]
        else:
            steps = torch.arange(first, first + count, device=self.device)
            places = steps // self.repeats - page * self.length
            inputs, targets = inputs.index_select(0, places), targets.index_select(0, places)
        seen = ((self, step) for step in range(first, first + count))
        return self.finish(inputs.flatten(0, 1), seen, whole).unflatten(0, (count, -1)), targets

    def page(self, page: int, part: slice) -> Batch:
        """The examples ``part`` of a page's minibatches: inputs and targets ``[length, b, ...]``."""
        held = self._pages.get((part.start, part.stop))
        if held is None or held[0] != page:
            held = self._pages[part.start, part.stop] = page, self._make(page, part)
        return held[1]

    @staticmethod
    def across(members: Sequence[Batches], step: int, ahead: bool = False) -> Batch:
        streams = [member for member in members if isinstance(member, StreamBatches)]
        together = 1 < len(members) == len(streams)
        if together and all(streams[0].alike(other) for other in streams):
            page, place = divmod(streams[0].minibatch(step), streams[0].length)
            if ahead or streams[0].holds(streams, page):
                inputs, targets = streams[0].page_of_all(streams, page)
                return aligned(inputs[place]), targets[place]
        return Batches.across(members, step)

    def alike(self, other: "StreamBatches") -> bool:
        """Whether the pages of both have the same minibatches, which the network takes as they are."""
        ready = other.augmentation is None and type(other.data).prepare is StreamData.prepare
        own = self.length, self.repeats, self.batch_size
        return ready and (other.length, other.repeats, other.batch_size) == own

    def holds(self, streams: "list[StreamBatches]", page: int) -> bool:
        """Whether a page of these runs is here."""
        return self._of_all is not None and self._of_all[0] == page and self._of_all[1] == streams

    def page_of_all(self, streams: "list[StreamBatches]", page: int) -> Batch:
        """A page of some runs, the first of which keeps it: inputs and targets ``[length, K, B, ...]``."""
        if not self.holds(streams, page):
            self._of_all = None
            self._of_all = page, streams, self._join(streams, page)
        assert self._of_all is not None
        return self._of_all[2]

    def _join(self, streams: "list[StreamBatches]", page: int) -> Batch:
        """A page of some runs from that of each, which is not needed any more."""
        whole = slice(0, self.batch_size)
        own = self.page(page, whole)
        inputs, targets = (t.new_empty(len(t), len(streams), *t.shape[1:]) for t in own)

        def write(k: int) -> None:
            inputs[:, k], targets[:, k] = streams[k].page(page, whole)
            streams[k]._pages.clear()

        self._threads = self._threads or SideBySide(len(streams), self.device)
        self._threads.map(write, range(len(streams)))
        return inputs, targets

    def _make(self, page: int, part: slice) -> Batch:
        minibatches = torch.arange(page * self.length, (page + 1) * self.length, device=self.device)
        within = torch.arange(part.start, part.stop, device=self.device)
        index = (minibatches.unsqueeze(1) * self.batch_size + within).flatten()
        inputs, targets = self.draw("train", index)
        shape = (self.length, len(within))
        return inputs.unflatten(0, shape), targets.unflatten(0, shape)


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
