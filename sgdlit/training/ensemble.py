"""Several runs of equal shape, trained together as one: each with its own seeds, rates, data and divergence.

The members are ordinary runs, each built as it would be alone, and each could go on alone. What trains them
together is the engine that takes their steps (``sgdlit.algorithms.engines``); the numbers of a member do not
depend, beyond rounding, on which others there are.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from sgdlit.algorithms.engines import Crew, Member, check_engine
from sgdlit.data.loaders import Batch, Block
from sgdlit.data.members import AsOneProcess, EnsembleData
from sgdlit.foundations.console import say
from sgdlit.foundations.errors import UserError
from sgdlit.foundations.side_by_side import SideBySide
from sgdlit.training.blocks import BlockPlan, check_steps_per_call, single_steps_because
from sgdlit.training.divergence import DivergenceGuard
from sgdlit.training.evaluation import MEANS, Records, evaluate
from sgdlit.training.fit_loop import advance_clock, share_clock
from sgdlit.training.rows import Row, Stopwatch, log_members, over_ranks, training_row
from sgdlit.training.single_run import SingleRun

Point = Mapping[str, Any]
Evaluated = list[tuple[list[int], Batch]]  # batches, with the members that are evaluated on each


class Ensemble(LightningModule):
    """Trains runs together, logs what each does, and evaluates each.

    Logged at step t as of :class:`SingleRun`, for each member: a row of its own in ``metrics.csv`` with its
    number as ``member``; elsewhere the mean over the members and the standard deviation, ``..._spread``. A
    member whose loss is not finite is logged no further, and the others go on.

    Args:
        members: runs with networks of equal shape.
        points: what distinguishes each of them from the config, by key.
        curves: whether TensorBoard gets each member's curves too.

    Raises:
        UserError: networks of different shapes, or that draw random numbers when they are trained.
    """

    def __init__(self, members: Sequence[SingleRun], points: Sequence[Point], curves: bool = False) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.points, self.curves = [dict(point) for point in points], curves
        self.automatic_optimization = False
        self.owned = slice(0, len(members))
        self.crew: Crew | None = None
        self.records = [Records() for _ in members]
        self.improved = False
        self._crew_before: dict[str, Any] | None = None
        self._threads: SideBySide | None = None
        self._sums: dict[str, Tensor] = {}
        self._finite = [True] * len(members)
        self._evaluated: dict[int, Row] = {}
        self._stopwatch = Stopwatch(0)
        self._check_shapes()
        self._check_randomness()

    @property
    def first(self) -> SingleRun:
        return self.members[0]

    def _check_shapes(self) -> None:
        shapes = [{n: tuple(p.shape) for n, p in m.network.named_parameters()} for m in self.members]
        for k, own in enumerate(shapes):
            if own != shapes[0]:
                name = next(n for n in {**own, **shapes[0]} if own.get(n) != shapes[0].get(n))
                raise UserError(
                    f"ensemble: the networks differ in {name}: {shapes[0].get(name, 'none')} of member 0, "
                    f"{own.get(name, 'none')} of member {k} ({_words(self.points[k])}); allowed: networks of "
                    "equal shape, others in ensembles of their own"
                )

    def _check_randomness(self) -> None:
        drawing = (m for m in self.first.network.modules() if isinstance(m, _DropoutNd) and m.p > 0)
        found = next(drawing, None)
        if found is not None:
            raise UserError(
                f"model.network: {type(found).__name__} draws from one generator for all members, whose "
                "numbers would then depend on each other; allowed: networks without it, or single runs"
            )

    def check(self, trainer: Trainer, datamodule: EnsembleData) -> None:
        """Refuse what cannot work, before a run leaves a trace.

        Raises:
            UserError: naming the key, its value and what is allowed.
        """
        for k, (member, data) in enumerate(zip(self.members, datamodule.members, strict=True)):
            try:
                member.check(AsOneProcess(trainer), data)
            except UserError as error:
                raise UserError(f"{error}\n(member {k} of the ensemble: {_words(self.points[k])})") from error
        schedules = {type(member._optimizers()[1]).__name__ for member in self.members}
        if len(schedules) > 1 and "NoneType" in schedules:
            raise UserError("model.scheduler: some members have one and others do not; allowed: all or none")
        self._plan(trainer, datamodule)

    def _plan(self, trainer: Trainer, datamodule: EnsembleData) -> None:
        """Which members this rank trains, and how many steps a call takes."""
        reason = single_steps_because(trainer, self, Ensemble, datamodule)
        if reason is not None:
            raise UserError(f"{reason} is not possible with an ensemble, which takes many steps per call")
        check_steps_per_call(self.first.steps_per_call, self.first.engine, None)
        check_engine(self.first.engine, [Member(member, *member._optimizers()) for member in self.members])
        members, ranks, rank = len(self.members), trainer.world_size, trainer.global_rank
        if ranks > members:
            raise UserError(
                f"trainer.devices: {ranks} processes for {members} members; allowed: at most one for each"
            )
        self.owned = datamodule.owned = slice(members * rank // ranks, members * (rank + 1) // ranks)
        datamodule.block_length = BlockPlan(trainer, self.first.steps_per_call)

    def setup(self, stage: str) -> None:
        datamodule = self.trainer.datamodule
        self.splits = datamodule.evaluation_splits if stage in ("fit", "validate") else ["test"]
        self._plan(self.trainer, datamodule)

    def configure_optimizers(self) -> tuple[list[Any], list[Any]]:
        built = [member._optimizers() for member in self.members]
        return [o for o, _ in built], [s for _, s in built if s is not None]

    # Training

    def on_train_start(self) -> None:
        self.crew = None
        self._stopwatch = Stopwatch(self.global_step)

    def training_step(self, block: Block, batch_idx: int) -> dict[str, Tensor]:
        assert block.start == self.global_step, "blocks are made one after another, none ahead of its time"
        if self.crew is None:
            self.crew = self._make_crew(block)
        if self.global_step % self.trainer.log_every_n_steps == 0:
            self._log_training(block)
        losses = self.crew.run(block)
        advance_clock(self.trainer, len(block) - 1)
        return {"losses": self._of_all(losses.loss), "cost": self._of_all(losses.cost)}

    def _make_crew(self, block: Block) -> Crew:
        schedules = [config.scheduler for config in self.trainer.lr_scheduler_configs]
        schedules = schedules or [None] * len(self.members)
        everyone = map(Member, self.members, self.trainer.optimizers, schedules)
        owned = list(everyone)[self.owned]
        crew = Crew(owned, self.first.engine, self.trainer, block, self._crew_before)
        if crew.note is not None and self.trainer.is_global_zero:
            say(crew.note)
        return crew

    def _of_all(self, owned: Tensor) -> Tensor:
        """Losses ``[steps, members]``, with zeros for the members of other ranks."""
        if owned.shape[1] == len(self.members):
            return owned
        everyone = owned.new_zeros(len(owned), len(self.members))
        everyone[:, self.owned] = owned
        return everyone

    def diverged_at(self) -> list[int | None]:
        """For each member, the step at which its loss stopped being finite."""
        guards = [c for c in self.trainer.callbacks if isinstance(c, DivergenceGuard)]
        return guards[0].steps if guards else [None] * len(self.members)

    def living(self) -> list[int]:
        """The members of this rank whose losses are finite so far."""
        steps = self.diverged_at()
        return [k for k in range(len(self.members))[self.owned] if steps[k] is None]

    # What is logged

    def _log_training(self, block: Block) -> None:
        seen = [None if v is None else v.tolist() for v in self.crew.observe(block)]
        rows = {}
        for k in self.living():
            lr = float(self.trainer.optimizers[k].param_groups[0]["lr"])
            own = [None if v is None else v[k - self.owned.start] for v in seen]
            rows[k] = training_row(*own, lr, self.members[k].strength(self.global_step, lr))
        self.log_rows(rows, ["train/loss", "train/accuracy"], self._stopwatch.row(self.global_step))

    def log_rows(
        self, rows: Mapping[int, Row], monitored: Sequence[str] = (), common: Row | None = None
    ) -> None:
        """Log the rows of this rank's members, by number; the mean of some of it also for callbacks."""
        rows = over_ranks(rows, len(self.members), self.trainer)
        mean = log_members(self.loggers, self.global_step, rows, self.curves, common)
        if mean:
            self.log_dict({name: mean[name] for name in monitored if name in mean}, logger=False)

    # What is evaluated

    def validation_step(self, batch: Evaluated, batch_idx: int, dataloader_idx: int = 0) -> None:
        for members, seen in batch:
            self._evaluate(self.splits[dataloader_idx], members, *seen)

    def test_step(self, batch: Evaluated, batch_idx: int) -> None:
        for members, seen in batch:
            self._evaluate("test", members, *seen)

    def _evaluate(self, split: str, members: list[int], inputs: Tensor, targets: Tensor) -> None:
        """Add up what is averaged, and count the examples, of some members on a batch."""
        context = self.trainer.precision_plugin.forward_context

        def one(k: int) -> Tensor:
            member = self.members[k]
            with context():
                outputs = member(inputs)
            found = evaluate(member.loss, outputs, targets)
            missing = outputs.new_full((), torch.nan, dtype=torch.float64)
            return torch.stack([found[n].double().sum() if n in found else missing for n in MEANS])

        self._threads = self._threads or SideBySide(
            len(self.members), self.trainer.strategy.root_device, context
        )
        found = torch.stack(self._threads.map(one, members))
        counted = torch.cat((found, torch.full_like(found[:, :1], len(targets))), 1)
        if split not in self._sums:
            self._sums[split] = found.new_zeros(len(self.members), len(MEANS) + 1)
        self._sums[split][members] += counted

    def _results(self) -> dict[int, Row]:
        """The means of every evaluation set for each member of this rank, and a clean slate."""
        rows: dict[int, Row] = {k: {} for k in range(len(self.members))[self.owned]}
        for split, sums in self._sums.items():
            for k, (*totals, count) in enumerate(sums.tolist()):
                if k in rows and count:
                    means = {f"{split}/{n}": v / count for n, v in zip(MEANS, totals, strict=True)}
                    rows[k] |= {n: v for n, v in means.items() if n.endswith("/loss") or not math.isnan(v)}
        self._sums = {}
        return rows

    def on_validation_start(self) -> None:
        self._stopwatch.pause()

    def on_validation_end(self) -> None:
        self._stopwatch.go_on()

    def on_validation_epoch_end(self) -> None:
        rows = self._results()
        if self.trainer.sanity_checking:
            return
        fitting = self.trainer.state.fn == TrainerFn.FITTING
        everyone = over_ranks(rows, len(self.members), self.trainer)
        self._finite = [all(abs(v) < float("inf") for v in everyone[k].values()) for k in everyone]
        if fitting:
            for k, row in everyone.items():
                self.records[k].update(row, self.splits)
            rows = {k: rows[k] | self.records[k].best for k in self.living()}
        self._evaluated = everyone
        self.log_rows(rows, [name for row in rows.values() for name in row])

    def evaluations_are_finite(self) -> list[bool]:
        """For each member, whether its last evaluation was finite; asked by the guard of divergence."""
        return self._finite

    def on_test_epoch_end(self) -> None:
        self._evaluated = over_ranks(self._results(), len(self.members), self.trainer)
        names = dict.fromkeys(name for row in self._evaluated.values() for name in row)
        for name in names:
            values = [row[name] for row in self._evaluated.values() if name in row]
            self.log(name, sum(values) / len(values))

    def evaluated(self) -> list[Row]:
        """Each member's last evaluation."""
        return [self._evaluated.get(k, {}) for k in range(len(self.members))]

    def reached(self) -> list[Row]:
        """What each member reached so far."""
        return [dict(records.best) for records in self.records]

    # Checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["sgdlit_best"] = self.reached()
        checkpoint["sgdlit_crew"] = self.crew.description() if self.crew else self._crew_before
        if self.trainer.world_size > 1:
            self._collect(checkpoint)

    def _collect(self, checkpoint: dict[str, Any]) -> None:
        """Put what other ranks know of their members into the checkpoint of the first."""
        prefixes = tuple(f"members.{k}." for k in range(len(self.members))[self.owned])
        own = {
            "state_dict": {n: v.cpu() for n, v in checkpoint["state_dict"].items() if n.startswith(prefixes)},
            "optimizer_states": checkpoint["optimizer_states"][self.owned],
            "lr_schedulers": checkpoint["lr_schedulers"][self.owned],
        }
        parts: list[Any] = [None] * self.trainer.world_size
        torch.distributed.all_gather_object(parts, own)
        for part in parts:
            checkpoint["state_dict"] |= part["state_dict"]
        for name in ("optimizer_states", "lr_schedulers"):
            checkpoint[name] = [state for part in parts for state in part[name]]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.records = [Records(best) for best in checkpoint["sgdlit_best"]]
        self._crew_before = checkpoint["sgdlit_crew"]
        share_clock(checkpoint)


def _words(point: Point) -> str:
    return ", ".join(f"{key}: {value}" for key, value in point.items())
