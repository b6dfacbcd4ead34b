"""The data of several runs that are trained together: each sees its own batches, and shares what is equal."""

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any

from lightning.pytorch import Trainer

from sgdlit.data.batches import Batch
from sgdlit.data.keyed_data import KeyedData, OnDeviceData
from sgdlit.data.loaders import BlockLoader, EvaluationLoader
from sgdlit.foundations.errors import UserError


class AsOneProcess:
    """A trainer as a member sees it, whose batches are not shared out: that of a run in a single process."""

    world_size, global_rank = 1, 0

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._trainer, name)


class MembersEvaluation:
    """Every example of an evaluation set once, for all members.

    Yields batch i of each set that differs from the others: a list of (members, (inputs, targets)).

    Args:
        loaders: of those sets, with the members that are evaluated on each.
    """

    def __init__(self, loaders: Sequence[tuple[list[int], EvaluationLoader]]) -> None:
        self.loaders = loaders

    def __len__(self) -> int:
        return max((len(loader) for _, loader in self.loaders), default=0)

    def __iter__(self) -> Iterator[list[tuple[list[int], Batch]]]:
        members = [members for members, _ in self.loaders]
        for batches in zip_longest(*(loader for _, loader in self.loaders)):
            pairs = zip(members, batches, strict=True)
            yield [(who, batch) for who, batch in pairs if batch is not None]


class MembersData(OnDeviceData):
    """The data modules of the members of an ensemble.

    Members whose examples are the same hold them once. Under several ranks each rank makes the batches of its
    own members only, and evaluates those on whole sets.

    Args:
        members: one for each run.

    Raises:
        UserError: data that has no batches by step.
    """

    def __init__(self, members: Sequence[KeyedData]) -> None:
        super().__init__()
        for member in members:
            if not isinstance(member, KeyedData):
                raise UserError(
                    f"data: {type(member).__name__} cannot serve an ensemble; allowed: data that is made "
                    "from seed and step, such as that of sgdlit.data"
                )
        self.members = list(members)
        self.owned = slice(0, len(members))

    @property
    def first(self) -> KeyedData:
        return self.members[0]

    def setup(self, stage: str | None = None) -> None:
        held: list[KeyedData] = []
        for member in self.members:
            same = next((h for h in held if type(h) is type(member) and h.source == member.source), None)
            if same is not None:
                member.take_over(same)
            else:
                held.append(member)
            member.setup(stage)

    def check(self, trainer: Trainer) -> None:
        """Everything that can be wrong about the data of the members.

        Raises:
            UserError: naming the key, its value and what is allowed.
        """
        self.setup()
        for member in self.members:
            member.check(AsOneProcess(trainer))
        sizes = [member.step_sizes for member in self.members]
        if any(size != sizes[0] for size in sizes):
            raise UserError(
                f"ensemble: the members have different batches: {_distinct(sizes)}; train those in ensembles "
                "of their own"
            )
        self._check_epochs(trainer)

    def _check_epochs(self, trainer: Trainer) -> None:
        epochs = [member.steps_per_epoch for member in self.members]
        if len(set(epochs)) == 1:
            return
        over_epochs = trainer.check_val_every_n_epoch is None and isinstance(trainer.val_check_interval, int)
        if trainer.max_steps < 0 or not over_epochs:
            raise UserError(
                f"ensemble: the members have epochs of {_distinct(epochs)} steps; allowed with "
                "trainer.max_steps, trainer.val_check_interval in steps and "
                "trainer.check_val_every_n_epoch: null, which count steps"
            )
        if len(self.first.step_sizes) > 1:
            raise UserError(
                f"ensemble: the members have epochs of {_distinct(epochs)} steps, and meet the short last "
                "minibatch at different ones; allowed: data.last_batch: drop"
            )

    def example(self) -> Batch:
        return self.first.example()

    @property
    def evaluation_splits(self) -> list[str]:
        """Those that any member has."""
        return list(dict.fromkeys(name for member in self.members for name in member.evaluation_splits))

    @property
    def step_sizes(self) -> list[int]:
        return self.first.step_sizes

    def train_dataloader(self) -> BlockLoader:
        assert self.block_length is not None, "members take blocks of steps"
        device = self.trainer.strategy.root_device
        owned = [member.batches(device) for member in self.members[self.owned]]
        return BlockLoader(owned, self.trainer, self.block_length)

    def evaluation_loader(self, split: str) -> MembersEvaluation:
        groups: list[tuple[list[int], KeyedData]] = []
        for k, member in list(enumerate(self.members))[self.owned]:
            if split not in member.evaluation_splits:
                continue
            same = next((g for g, h in groups if type(h) is type(member) and h.source == member.source), None)
            if same is not None:
                same.append(k)
            else:
                groups.append(([k], member))
        for _, member in groups:
            member.trainer = AsOneProcess(self.trainer)
        return MembersEvaluation([(ks, member.evaluation_loader(split)) for ks, member in groups])

    def state_dict(self) -> dict[str, Any]:
        return {"members": [member.state_dict() for member in self.members]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        there = state_dict["members"]
        if len(there) != len(self.members):
            raise UserError(
                f"ensemble: {len(self.members)} members here, {len(there)} in the checkpoint; a resumed "
                "ensemble goes on with the members that it had"
            )
        for member, state in zip(self.members, there, strict=True):
            member.load_state_dict(state)


def _distinct(values: Sequence[Any]) -> str:
    return ", ".join(dict.fromkeys(map(str, values)))


def data_of(data: Any) -> list[KeyedData]:
    """What each of the runs sees that train on a data module.

    Raises:
        UserError: data that has no batches by step.
    """
    if isinstance(data, MembersData):
        return data.members
    if not isinstance(data, KeyedData):
        raise UserError(
            f"data: {type(data).__name__} cannot be measured; allowed: data that is made from seed and step, "
            "such as that of sgdlit.data"
        )
    return [data]
