"""What measures find of the members of a run at a step, and how each is looked at."""

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from sgdlit.algorithms import Member
from sgdlit.data.batches import Batch, Batches
from sgdlit.data.keyed_data import KeyedData
from sgdlit.data.members import AsOneProcess
from sgdlit.foundations.side_by_side import SideBySide
from sgdlit.measures.measure import OF_EXAMPLES, OF_PARAMETERS, Examples, Measure, RunAtStep
from sgdlit.measures.micro_batches import gradient_of_batch
from sgdlit.measures.undisturbed import Mode, is_finite, undisturbed
from sgdlit.objectives.step_shown import StepGradient
from sgdlit.training.arrays_of_run import NamedArrays
from sgdlit.training.looked_back import LookedBack
from sgdlit.training.measure_choice import MeasureChoice, needs_of
from sgdlit.training.measure_views import View
from sgdlit.training.module import Training
from sgdlit.training.own_module import OwnModule
from sgdlit.training.rows import Row
from sgdlit.training.shared_sums import can_share, compute_what_is_asked, shared_sums

_OF_LOSSES = OF_EXAMPLES | {"step_batch"}


class Taking:
    """Takes measures of members, with whole sets of data whatever the number of ranks.

    Args:
        choice: the measures of the run.
        trainer: of the run.
        data: by member.
        chosen: indices of the examples that measures look at, by member.
        looked_back: parameters of earlier steps.
    """

    def __init__(
        self,
        choice: MeasureChoice,
        trainer: Trainer | AsOneProcess,
        data: Sequence[KeyedData],
        chosen: Sequence[Tensor],
        looked_back: LookedBack,
    ) -> None:
        self.choice, self.chosen, self.looked_back = choice, chosen, looked_back
        self._seen: dict[int, Batches] = {}  # by steps, of members whose measures look at these
        self._agree: dict[Mode, bool] = {}  # whether gradients of steps are those that measures would find
        self.data = [copy.copy(own) for own in data]
        for own in self.data:
            own.trainer = AsOneProcess(trainer)

    def found(
        self,
        trainer: Trainer | AsOneProcess,
        module: Training | OwnModule,
        members: Sequence[int],
        due: Sequence[Measure],
    ) -> dict[int, tuple[Row, NamedArrays]]:
        """What some measures find of some members at the trainer's step: a row and arrays of each.

        Where ranks share the examples of one run, the others are in ``help`` meanwhile.
        """
        groups = self._groups(due)

        def one(k: int) -> tuple[Row, NamedArrays]:
            row: Row = {}
            arrays: NamedArrays = {}
            for view, those, needs in groups:
                run = self._run_at_step(trainer, module, k, needs, view)
                with _looking_at(run, those, view.mode), self._sharing(trainer, module, run, view):
                    for measure in _able(run, those):
                        row |= measure.take(run, k)
                        if measure.arrays:
                            taken = measure.take_arrays(run, k)
                            arrays |= {name: array.cpu().numpy() for name, array in taken.items()}
            return row, arrays

        with torch.inference_mode(False):
            # In mode train a network may draw, from generators that threads share.
            drawing = any(view.mode == "train" for view, _, _ in groups)
            found = SideBySide(len(members), module.device).map(one, members, not drawing)
        return dict(zip(members, found, strict=True))

    def help(self, trainer: Trainer, module: Training, due: Sequence[Measure]) -> None:
        """Compute this rank's part of what the first rank finds of the one run that all of them train."""
        with torch.inference_mode(False):
            for view, those, needs in self._groups(due):
                run = self._run_at_step(trainer, module, 0, needs, view)
                if _ranks_share(trainer, module, run, view):
                    with _looking_at(run, those, view.mode):
                        compute_what_is_asked(run.network, run.loss, run.examples)

    def of_gradient(
        self,
        trainer: Trainer,
        module: Training,
        step: int,
        shown: StepGradient,
        due: Sequence[Measure],
    ) -> Row:
        """What some measures find in the gradient of a step that the only run takes after so many updates.

        In a step in which the network draws, its gradient is another one than that of a measure, and measures
        find their own. So they do where the first gradient differs in a bit from one that is found apart, as
        in mixed precision.
        """
        row: Row = {}
        with torch.inference_mode(False):
            for view, those, needs in self._groups(due):
                run = self._run_at_step(trainer, module, 0, needs, view, (step, shown.batch))
                with _looking_at(run, those, view.mode):
                    able = _able(run, those)
                    same = bool(able) and not shown.drawn and self._agrees(run, view.mode, shown.gradient)
                    for measure in able:
                        row |= measure.take_of_gradient(run, shown.gradient) if same else measure.take(run, 0)
        return row

    def _agrees(self, run: RunAtStep, mode: Mode, gradient: Mapping[str, Tensor]) -> bool:
        """Whether the first gradient that a step has shown has the bits of one that is found apart."""
        if mode not in self._agree:
            apart = gradient_of_batch(run.network, run.loss, run.step_batch)
            pairs = ((apart[name], g) for name, g in gradient.items())
            self._agree[mode] = all(own.dtype == g.dtype and torch.equal(own, g) for own, g in pairs)
        return self._agree[mode]

    def _groups(self, due: Sequence[Measure]) -> list[tuple[View, list[Measure], set[str]]]:
        """Measures that are taken together, and what they need."""
        return [(view, those, needs_of(those)) for view, those in self.choice.by_view(due)]

    @contextmanager
    def _sharing(
        self, trainer: Trainer | AsOneProcess, module: Training | OwnModule, run: RunAtStep, view: View
    ) -> Iterator[None]:
        """Inside, ranks share the examples, where they can."""
        if not _ranks_share(trainer, module, run, view):
            yield
            return
        with shared_sums(run.network, run.loss, run.examples) as sums:
            run.use(sums)
            yield

    def _run_at_step(
        self,
        trainer: Trainer | AsOneProcess,
        module: Training | OwnModule,
        k: int,
        needs: set[str],
        view: View,
        seen: tuple[int, Batch] | None = None,
    ) -> RunAtStep:
        """Member k as it is, with whole sets of data whatever the number of ranks.

        Inside of a call the number of updates and the next step's batch are those ``seen`` there.
        """
        member, device, data = module.members[k], module.device, self.data[k]
        step = trainer.global_step if seen is None else seen[0]

        def batches(split: str, batch_size: int | None) -> Any:
            loader = data.evaluation_loader(split, batch_size)
            return (as_trained(batch, trainer, member) for batch in loader)

        examples = None
        if not OF_EXAMPLES.isdisjoint(needs):
            indices = self.chosen[k][: view.count(data.training_size)]

            def chosen(part: slice) -> Batch:
                return as_trained(data.chosen(indices[part], device), trainer, member)

            population = math.inf if data.training_size is None else data.training_size
            examples = Examples(chosen, len(indices), view.chunk_size, population)

        def of_step() -> Batch:
            if seen is not None:
                return seen[1]
            batches = self._seen.setdefault(k, data.batches(device))
            return as_trained(batches.batch(step, slice(0, batches.size(step))), trainer, member)

        initial = self.looked_back.initial
        return RunAtStep(
            step,
            member.network,
            member.loss,
            data,
            batches,
            examples,
            member.optimizer,
            needs,
            initial[k] if initial else None,
            self.looked_back.before(step, k, device),
            member.gradient_factor(data.batch_size),
            of_step if "step_batch" in needs else None,
        )


def _ranks_share(
    trainer: Trainer | AsOneProcess, module: Training | OwnModule, run: RunAtStep, view: View
) -> bool:
    """Whether all ranks train one run, and share the examples of its measures."""
    alone = module.several or isinstance(module, OwnModule) or OF_EXAMPLES.isdisjoint(run.needs)
    return not alone and can_share(view.mode, run.examples.count, trainer.world_size)


def _able(run: RunAtStep, due: Sequence[Measure]) -> Sequence[Measure]:
    """Those that can be taken: of a network that has diverged, none that looks at examples."""
    if _OF_LOSSES.isdisjoint(run.needs) or is_finite(run.network):
        return due
    return [measure for measure in due if _OF_LOSSES.isdisjoint(measure.needs)]


def _looking_at(run: RunAtStep, those: Sequence[Measure], mode: Mode) -> AbstractContextManager[None]:
    """What the network is in while measures are taken: nothing, where none of them runs it."""
    if OF_PARAMETERS.issuperset(run.needs) and all(measure.needs for measure in those):
        return nullcontext()
    return undisturbed(run.network, mode, run.data.seed, run.step)


def as_trained(batch: Batch, trainer: Trainer | AsOneProcess, member: Member) -> Batch:
    """A batch in the precision and the memory format in which the run sees it."""
    inputs, targets = trainer.precision_plugin.convert_input(batch)
    return member.in_memory_format(inputs), targets
