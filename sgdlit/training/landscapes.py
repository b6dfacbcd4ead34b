"""The cost between and around networks that runs have stored: lines with their barriers, and planes."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from sgdlit.data.batches import Batch
from sgdlit.data.members import AsOneProcess, data_of
from sgdlit.foundations.errors import UserError, with_allowed
from sgdlit.measures.landscape import Line, line, plane
from sgdlit.measures.measure import Parameters
from sgdlit.measures.undisturbed import Mode, has_batchnorm, moved, undisturbed
from sgdlit.runs.checkpoint_files import network_state
from sgdlit.training.afterwards import StoredSteps
from sgdlit.training.measure_views import Count, View
from sgdlit.training.module import Training
from sgdlit.training.taking import as_trained

Set = Literal["train", "val", "test"]


class StoredNetwork(NamedTuple):
    """What a run has stored of one of its members at a step.

    Attributes:
        folder: of the run.
        step: updates made.
        member: its number; None of a run that was trained alone.
        state: parameters and buffers, by name.
    """

    folder: Path
    step: int
    member: int | None
    state: dict[str, Tensor]

    @property
    def name(self) -> str:
        """In words, as short as they may be."""
        whose = "" if self.member is None else f", member {self.member}"
        return f"{self.folder.parent.name}/{self.folder.name}{whose}, step {self.step}"


def stored_network(stored: StoredSteps, at: str, member: int | None) -> StoredNetwork:
    """The network of a step, or of the ``last`` one that is stored.

    Raises:
        UserError: nothing is stored of it, or it stands for several.
    """
    steps = stored.chosen(at)
    if len(steps) != 1:
        raise UserError(f"--at: {at!r} stands for {len(steps)} steps; allowed: last, or a single step")
    return StoredNetwork(
        stored.folder, steps[0], member, network_state(stored.content(steps[0]), member or 0)
    )


class Surroundings:
    """The cost as a function of parameters, of a run that is built anew.

    Args:
        module: built from the config of a run.
        datamodule: alike.
        trainer: alike, in a single process.
        member: whose network, loss and data.
        part: whose examples: the training set's, of which some are chosen, or all of an evaluation set.
        examples: n, of the training set: those that measures look at.
        mode: of the network.
        chunk_size: training examples that are looked at together.

    Raises:
        UserError: a module of another kind, or examples that there are not.
    """

    def __init__(
        self,
        module: LightningModule,
        datamodule: Any,
        trainer: Trainer,
        member: int,
        part: Set = "train",
        examples: Count = "auto",
        mode: Mode = "eval",
        chunk_size: int = 200,
    ) -> None:
        if not isinstance(module, Training):
            raise UserError(
                f"--run: {type(module).__name__} cannot be built again; allowed: runs of "
                "sgdlit.training.module.Training"
            )
        self.device, self.mode = trainer.strategy.root_device, mode
        module.to(self.device)
        self._member, self._trainer = module.members[member], trainer
        self._data = data_of(datamodule)[member]
        self._data.trainer = AsOneProcess(trainer)
        if part == "train":
            self.batches = self._chosen(View(None, None, examples, mode, chunk_size))
        else:
            self.batches = self._all_of(part)

    @property
    def examples(self) -> int:
        """How many there are."""
        return sum(len(targets) for _, targets in self.batches)

    @property
    def parameters(self) -> list[str]:
        """Their names."""
        return [name for name, _ in self._member.network.named_parameters()]

    def _chosen(self, view: View) -> list[Batch]:
        """Those that measures look at."""
        try:
            indices = self._data.choose(view.count(self._data.training_size), "measures")
        except UserError as error:
            raise UserError(f"--examples: {error}") from None
        found = [self._data.chosen(part, self.device) for part in indices.split(view.chunk_size)]
        return [as_trained(batch, self._trainer, self._member) for batch in found]

    def _all_of(self, part: str) -> list[Batch]:
        if part not in self._data.evaluation_splits:
            sets = ["train", *(name for name in self._data.evaluation_splits if name != "train_set")]
            raise UserError(with_allowed(f"--set: the run has no set {part!r}", sets))
        loader = self._data.evaluation_loader(part)
        return [as_trained(batch, self._trainer, self._member) for batch in loader]

    def lines(self, one: StoredNetwork, other: StoredNetwork, points: int) -> list[Line]:
        """The cost along the straight path between two networks; with BatchNorm a second time, with the
        statistics that the examples have at each point.

        Raises:
            UserError: networks of different kinds.
        """
        network, loss = self._member.network, self._member.loss
        with undisturbed(network, self.mode, self._data.seed):
            return [
                line(network, loss, self.batches, self._own(one), self._own(other), points, again)
                for again in ((False, True) if has_batchnorm(network) else (False,))
            ]

    def weights(self, stored: StoredNetwork) -> dict[str, Tensor]:
        """The parameters of a network, without its buffers."""
        own = self._own(stored)
        return {name: own[name] for name in self.parameters if name in own}

    @contextmanager
    def around(self, origin: StoredNetwork) -> Iterator[Any]:
        """Inside, the network is that one, and is given, to draw directions for it."""
        network = self._member.network
        with undisturbed(network, self.mode, self._data.seed), moved(network, self._own(origin)):
            yield network

    def row(self, u: Parameters, v: Parameters, alpha: float, betas: Sequence[float]) -> Tensor:
        """C(θ + αu + βv) for some β, float64 ``[len(betas)]``, inside ``around``."""
        return plane(self._member.network, self._member.loss, self.batches, u, v, [alpha], betas)[0]

    def _own(self, stored: StoredNetwork) -> dict[str, Tensor]:
        """The state of a network under the names that parameters and buffers of this one have.

        Raises:
            UserError: it is of another kind.
        """
        network = self._member.network
        mine = dict(network.named_parameters()) | dict(network.named_buffers())
        known = set(network.state_dict())
        for name in set(stored.state) ^ known:
            raise UserError(f"{stored.name}: {name} is of one network alone; allowed: runs of one network")
        found = {name: value for name, value in stored.state.items() if name in mine}
        for name, value in found.items():
            if value.shape != mine[name].shape:
                shapes = f"{tuple(value.shape)} and {tuple(mine[name].shape)}"
                raise UserError(f"{stored.name}: {name} has shapes {shapes}; allowed: runs of one network")
        return {name: value.to(self.device) for name, value in found.items()}
