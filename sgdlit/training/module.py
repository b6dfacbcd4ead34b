"""The one LightningModule: it trains K ≥ 1 runs, one step per call through Lightning or many by engines.

Step by step, for one run, Lightning is handed one scalar whose gradient is that of the modified loss, so any
optimizer, scheduler, clipping, accumulation, precision and DDP work as they do elsewhere. Many steps per
call, for one run or for several of equal shape, are taken by engines (``sgdlit.algorithms``) and counted one
by one by the Trainer. The numbers of a run do not depend, beyond rounding, on which others train with it.
Nothing waits for the device except at the steps that are logged.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.plugins.precision import MixedPrecision
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torchmetrics import Metric

from sgdlit.algorithms import EngineGroup, EngineName, Look, Machine, Member
from sgdlit.algorithms.member import Reduction
from sgdlit.algorithms.mixing import Mixing, consensus
from sgdlit.algorithms.network_draws import draws_of_step
from sgdlit.algorithms.parameter_groups import ParameterGroup
from sgdlit.algorithms.transforms import GradientTransform
from sgdlit.data.batches import Block
from sgdlit.data.keyed_data import KeyedData, OnDeviceData
from sgdlit.data.members import MembersData, data_of
from sgdlit.data.orders import LearnedOrder
from sgdlit.foundations.console import say
from sgdlit.objectives import ConstantStrength, ExactPenalty, Objective, Strength, loss_by_name
from sgdlit.objectives.penalty import length
from sgdlit.objectives.step_shown import Shown
from sgdlit.training import checks, due_steps, rows
from sgdlit.training.blocks import BlockPlan, StepsPerCall, check_steps_per_call, single_steps_because
from sgdlit.training.clock import advance_clock, share_clock
from sgdlit.training.evaluation import BestSoFar, EvaluationSums
from sgdlit.training.lightnings_own import check_lightnings_own, check_monitors
from sgdlit.training.own_metrics import MetricsOfMember, forget_later_matrices, keep_matrices
from sgdlit.training.phases import length_in_flight, run_length, tell_length
from sgdlit.training.rebuilt import trained_module
from sgdlit.training.rows import Row, StepMeans, Stopwatch, training_row
from sgdlit.training.schedules import monitor_of, monitors_of, step_at_evaluation
from sgdlit.training.seeds import network_seeds

LossName = Literal["cross_entropy", "half_squared_error", "hinge", "logistic", "network_output", "next_token"]

_MONITORED = ("train/loss", "train/accuracy")
_NEVER = 2**62  # epochs between two steps of a schedule that Lightning is not to step


class _Losses(NamedTuple):
    """Modified loss and C of each step of a call and each member, before its update, ``[steps, members]``."""

    losses: Tensor
    cost: Tensor


class Training(LightningModule):
    """Trains runs, logs what each does, and evaluates each.

    Logged every ``trainer.log_every_n_steps`` steps at step t, about the parameters after t updates: the
    minibatch's ``train/loss``, ``train/modified_loss``, ``train/C_reg``, ``train/accuracy``,
    ``train/gradient_norm`` (of what the optimizer receives, before clipping), ``train/lr``,
    ``train/reg_strength`` and ``train/steps_per_second``. At each evaluation: loss, accuracy and soft error
    1 − p_y of every evaluation set (sums over all examples and ranks), ``test/highest_accuracy`` so far (the
    metric of Smith et al. 2021) and, apart from it, ``test/accuracy_at_best_val``, that of the parameters
    which validation chose. Of several runs, each has lines of its own in ``metrics.csv``, with its number as
    ``member``; elsewhere there are the mean over the members and the standard deviation, ``..._spread``. A
    member whose loss is not finite is logged no further, and the others go on. Of members that mix there is
    ``train/consensus`` too, the mean of ‖w_j − w̄‖² over them.

    Args:
        network: the network to train.
        loss: the cost of one example.
        reg_strength: λ of the explicit regularizer: a number, or a :class:`Strength` of step and rate; 0 is
            plain SGD.
        objective: how the regularizer is computed, and over which batch its norm is taken (default:
            :class:`ExactPenalty` over the step's whole global batch).
        optimizer: torch's plain SGD, or any optimizer by class path.
        scheduler: a learning-rate schedule that is advanced once per step; None keeps the rate.
        channels_last: keep images and convolutions in channels-last memory format.
        reduction: what the optimizer receives of a step's batch: the gradient of the ``mean`` over its
            examples, or B times that, of their ``sum``. What is logged about losses and C_reg is of the mean.
        transform: what becomes of the gradient before the optimizer sees it, see
            ``sgdlit.algorithms.transforms``; None for nothing.
        steps_per_call: steps that one call of ``training_step`` takes. ``auto`` takes so many that a call
            lasts about a tenth of a second, and one where something in the run acts inside each step
            (clipping, accumulation, several ranks, unknown callbacks). No number depends on it, but for
            rounding where it is 1 and Lightning's own loop takes the steps.
        engine: what takes them, see ``sgdlit.algorithms.engines``; ``auto`` chooses.
        groups: by a name of yours, parameters with a rate or a decay of their own, or frozen, see
            :class:`ParameterGroup`.
        metrics: by a name of yours, metrics of torchmetrics that each evaluation takes, see
            ``sgdlit.training.own_metrics``.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: LossName = "cross_entropy",
        reg_strength: float | Strength = 0.0,
        objective: Objective | None = None,
        optimizer: OptimizerCallable = torch.optim.SGD,
        scheduler: LRSchedulerCallable | None = None,
        channels_last: bool = False,
        reduction: Reduction = "mean",
        transform: GradientTransform | None = None,
        steps_per_call: StepsPerCall = "auto",
        engine: EngineName = "auto",
        groups: dict[str, ParameterGroup] | None = None,
        metrics: dict[str, Metric] | None = None,
    ) -> None:
        super().__init__()
        strength = reg_strength if isinstance(reg_strength, Strength) else ConstantStrength(reg_strength)
        member = Member(
            network,
            loss_by_name(loss),
            optimizer,
            scheduler,
            objective or ExactPenalty(),
            strength,
            reduction,
            channels_last,
            transform,
            groups=groups or {},
        )
        self.steps_per_call, self.engine = steps_per_call, engine
        self.single_steps: str | None = None
        self.curves = False
        self.several = False  # whether runs train together, so that tables say whose line each is
        self.mixing: Mixing | None = None
        self.splits: list[str] = []
        self.improved = False
        self._engines: EngineGroup | None = None
        self._engines_before: dict[str, Any] | None = None
        self._noted = False
        self._factor = 1
        self._shown = StepMeans()
        self._stopwatch = Stopwatch(0)
        self._latest: dict[int, Row] = {}
        self.metrics = [metrics or {}]  # of each run
        self._hold([member])

    @classmethod
    def joined(
        cls,
        parts: Sequence["Training"],
        points: Sequence[Mapping[str, Any]],
        curves: bool = False,
        mixing: Mixing | None = None,
    ) -> "Training":
        """One module for the runs of several, each built as it would be alone.

        Args:
            parts: modules of one run each; the first becomes the module of all.
            points: what distinguishes each run from the config, by key.
            curves: whether TensorBoard gets each member's curves too.
            mixing: what the runs exchange; None where they do not touch each other.

        Raises:
            UserError: networks of different shapes.
        """
        members = [member for part in parts for member in part.members]
        for member, point in zip(members, points, strict=True):
            member.point = dict(point)
        checks.check_shapes(members)
        first = parts[0]
        first.curves, first.several, first.mixing = curves, True, mixing
        first.metrics = [metrics for part in parts for metrics in part.metrics]
        first._hold(members)
        return first

    def _hold(self, members: list[Member]) -> None:
        """Take over the runs that are trained."""
        self.members = members
        self.networks = nn.ModuleList([member.network for member in members])
        self.owned = slice(0, len(members))
        self.diverged_at: list[int | None] = [None] * len(members)
        self.records = [BestSoFar() for _ in members]
        pairs = zip(self.metrics, members, strict=True) if any(self.metrics) else ()
        own = [MetricsOfMember(metrics, member.loss, self.several) for metrics, member in pairs]
        self.evaluations = EvaluationSums(members, own)

    def here(self) -> list[int]:
        """The members that this process trains and whose losses are finite so far."""
        return [k for k in range(len(self.members))[self.owned] if self.diverged_at[k] is None]

    # What is refused, and how steps are taken

    def check(self, trainer: Trainer, datamodule: Any) -> None:
        """Refuse what cannot work, before a run leaves a trace.

        Raises:
            UserError: naming the key, its value and what is allowed.
        """
        check_lightnings_own(trainer)
        checks.check_optimizers(self.members)
        tell_length((member.scheduler for member in self.members), run_length(trainer, datamodule))
        if self.mixing is not None:
            checks.check_mixing(self.mixing, self.members, trainer)
        self._plan(trainer, datamodule)
        checks.check_members(self, trainer, datamodule)
        checks.check_schedules_last(self.members, trainer, datamodule)
        self.check_awaited(trainer, datamodule, monitors_of(self.members))

    def check_awaited(self, trainer: Trainer, datamodule: Any, waiting: Mapping[str, str]) -> None:
        """Refuse what waits for a metric that is never logged: by its key the name of its metric."""
        if type(self) is Training and not any(self.metrics) and isinstance(datamodule, OnDeviceData):
            check_monitors(trainer, datamodule.evaluation_splits, waiting)

    def setup(self, stage: str) -> None:
        datamodule = self.trainer.datamodule
        declared = datamodule.evaluation_splits if isinstance(datamodule, OnDeviceData) else ["val"]
        self.splits = list(declared) if stage in ("fit", "validate") else ["test"]
        if self.several or stage == "fit":
            self._plan(self.trainer, datamodule)
        if stage == "fit":
            self._begin_transforms(datamodule)

    def _begin_transforms(self, datamodule: Any) -> None:
        """Transforms as before the first step, and orders that learn told of every step."""
        several = isinstance(datamodule, KeyedData | MembersData)
        own: Sequence[KeyedData | None] = data_of(datamodule) if several else [None] * len(self.members)
        for member, data in zip(self.members, own, strict=True):
            if member.transformed is not None:
                member.transformed.begin_again()
            learns = data is not None and isinstance(data.order, LearnedOrder)
            member.learn = data.visits.learn if data is not None and learns else None

    def _plan(self, trainer: Trainer, datamodule: Any) -> None:
        """Whether a call takes one step through Lightning's own optimization, or a block of them, and which
        members this rank trains."""
        self.single_steps = self._single_steps_because(trainer, datamodule)
        if self.several:
            checks.refuse_single_steps(self.single_steps)
            self.owned = checks.share(len(self.members), trainer)
        check_steps_per_call(self.steps_per_call, self.engine, self.single_steps)
        if not self.several and self.steps_per_call == 1 and self.engine == "auto":
            self.single_steps = "model.steps_per_call: 1"
        self.automatic_optimization = self.single_steps is not None
        if isinstance(datamodule, MembersData):
            datamodule.owned = self.owned
        if isinstance(datamodule, OnDeviceData):
            self._block_plan = BlockPlan(trainer, self.steps_per_call)
            datamodule.block_length = None if self.automatic_optimization else self._block_plan

    def _single_steps_because(self, trainer: Trainer, datamodule: Any) -> str | None:
        reason = single_steps_because(trainer, self, Training, datamodule)
        if not self.several and trainer.world_size > 1:
            reason = f"trainer.devices: {trainer.world_size} ranks, which exchange gradients at every step"
        if any(isinstance(member.scheduler, ReduceLROnPlateau) for member in self.members):
            reason = "model.scheduler: ReduceLROnPlateau, which waits for evaluations"
        return reason

    # What is optimized

    def begin_again(self, trainer: Trainer, datamodule: Any) -> tuple[list[Optimizer], list[Any]]:
        """Optimizers and schedulers, made anew for the parameters as they are and the length of the run."""
        for member in self.members:
            member.begin_again()  # parameters have their device and precision only now
        schedulers = [member.scheduler for member in self.members if member.scheduler is not None]
        tell_length(schedulers, length_in_flight(trainer, datamodule, schedulers))
        return [member.optimizer for member in self.members], schedulers

    def configure_optimizers(self) -> Any:
        optimizers, schedulers = self.begin_again(self.trainer, self.trainer.datamodule)
        if not self.automatic_optimization or not schedulers:
            return optimizers, schedulers
        plan = {"scheduler": schedulers[0], "interval": "step"}
        if isinstance(schedulers[0], ReduceLROnPlateau):  # this module steps it, at each evaluation
            plan |= {"interval": "epoch", "frequency": _NEVER, "monitor": monitor_of(schedulers[0])}
        return {"optimizer": optimizers[0], "lr_scheduler": plan}

    def forward(self, x: Tensor) -> Tensor:
        """The outputs of the first network for inputs ``[B, ...]``."""
        return self.members[0].outputs(x)

    def on_train_start(self) -> None:
        seeds = network_seeds(self.trainer.datamodule, len(self.members))
        for member, seed in zip(self.members, seeds, strict=True):
            member.seed = seed
        self._engines, self._noted = None, False
        if any(self.metrics):
            forget_later_matrices(self.trainer)
        self._stopwatch = Stopwatch(self.global_step)

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        if isinstance(batch, Block):
            return self._take(batch)
        member = self.members[0]
        inputs, targets = member.in_memory_format(batch[0]), batch[1]
        with draws_of_step(member, self.global_step, self._part(batch_idx)):
            found = member.evaluate(inputs, targets, self.global_step, measure=self._is_due())
        if self._is_due():
            squared_norm = found.squared_norm
            if squared_norm is None and member.objective.penalty_batch_size is not None:
                with draws_of_step(member, self.global_step, self._part(batch_idx)):
                    squared_norm = member.objective.measure(member.network, member.loss, inputs, targets)
            self._shown.add(found.cost, squared_norm, member.loss.correct(found.outputs, targets))
        shares = self.trainer.accumulate_grad_batches * self.trainer.world_size
        self._factor = member.gradient_factor(shares * len(inputs))
        return {"loss": self._factor * found.loss, "cost": found.cost}

    def _part(self, batch_idx: int) -> str:
        """This rank's micro-batch among all parts of the step."""
        own = batch_idx % self.trainer.accumulate_grad_batches
        return (
            ""
            if own == self.trainer.global_rank == 0
            else f"micro-batch {own} of rank {self.trainer.global_rank}"
        )

    def _take(self, block: Block) -> dict[str, Tensor]:
        """The steps of a block; the losses before each of them, ``[steps, members]``."""
        assert block.start == self.global_step, "blocks are made one after another, none ahead of its time"
        engines = self._engines = self._engines or self._make_engines()
        if self._is_due():
            self._log_observation(engines, block)
        inside, found = due_steps.inside_calls(self.trainer.callbacks), []
        for callback in inside:
            callback.before_call(self, lambda: engines.shows(block))
        for part in block.cut(due_steps.due_in(block, inside)):
            found.append(self._take_part(engines, part, inside, part.end == block.end))
        losses = _Losses(*(torch.cat(own) for own in zip(*found, strict=True)))
        if engines.note is not None and not self._noted and self.trainer.is_global_zero:
            say(engines.note)
        self._noted = True
        return losses._asdict()

    def _take_part(
        self,
        engines: EngineGroup,
        part: Block,
        inside: Sequence[due_steps.ActsInsideCalls],
        ends_call: bool,
    ) -> _Losses:
        """The steps of a part of a block, and what callbacks do after them."""
        looks = {callback: callback.looks_at(part) for callback in inside}
        shown = {callback: callback.shown_steps(part) for callback in inside}

        def look(step: int) -> None:
            for callback in (c for c, steps in looks.items() if step in steps):
                callback.look(step, self)

        def see(step: int, found: Shown) -> None:
            for callback in (c for c, steps in shown.items() if step in steps):
                callback.see_step(step, self, found)

        steps, shown_steps = ({s for each in c.values() for s in each} for c in (looks, shown))
        found = engines.run(part, Look(steps, look, shown_steps, see))
        losses = _Losses(self._of_all(found.loss), self._of_all(found.cost))
        advance_clock(self.trainer, len(part), ends_call)
        with self._block_plan.left_out():
            for callback in inside:
                callback.after_steps(self.trainer, self, losses.cost, part, ends_call)
        return losses

    def _make_engines(self) -> EngineGroup:
        precision = self.trainer.precision_plugin
        machine = Machine(
            self.trainer.strategy.root_device,
            precision,
            isinstance(precision, MixedPrecision),
        )
        return EngineGroup(self.members[self.owned], self.engine, machine, self._engines_before, self.mixing)

    def _of_all(self, owned: Tensor) -> Tensor:
        """Losses ``[steps, members]``, with zeros for the members of other ranks."""
        if owned.shape[1] == len(self.members):
            return owned
        everyone = owned.new_zeros(len(owned), len(self.members))
        everyone[:, self.owned] = owned
        return everyone

    # What is logged about training

    def _is_due(self) -> bool:
        return self.global_step % self.trainer.log_every_n_steps == 0

    def _log_observation(self, engines: EngineGroup, block: Block) -> None:
        """What the members are like before a block."""
        seen = [None if v is None else v.tolist() for v in engines.observe(block)]
        found = {}
        for k in self.here():
            own: list[Any] = [None if v is None else v[k - self.owned.start] for v in seen]
            member = self.members[k]
            found[k] = training_row(
                own[0], own[1], own[2], own[3], member.lr, member.reg_strength(self.global_step)
            )
        self._log_training(found)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        if not self._is_due() or not self.automatic_optimization:
            return
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"]]
        norm = float(length([g for g in gradients if g is not None]))
        means, member = self._shown.of_step(self.trainer), self.members[0]
        squared_norm = means.get("squared_norm", (norm / self._factor) ** 2)
        strength = member.reg_strength(self.global_step)
        found = training_row(means["loss"], squared_norm, norm, means.get("accuracy"), member.lr, strength)
        self._log_training({0: found})

    def _log_training(self, found: dict[int, Row]) -> None:
        common = self._stopwatch.row(self.global_step)
        if self.mixing is not None:
            common |= {"train/consensus": consensus([member.network for member in self.members])}
        self.log_rows(found, _MONITORED, common)

    def log_rows(
        self,
        found: Mapping[int, Row],
        monitored: Iterable[str] = (),
        common: Row | None = None,
        step: int | None = None,
    ) -> None:
        """Write a row about each of some members to every logger; some of it also for callbacks.

        Lightning's way to callbacks takes much longer per number than a logger does.

        Args:
            found: what there is to say, by the member's number; of this rank's members.
            monitored: names of numbers that callbacks may ask for; of several members their mean.
            common: numbers of the run as a whole.
            step: which the row is about; None for the present one.
        """
        step = self.global_step if step is None else step
        everyone = rows.over_ranks(found, self.trainer) if self.several else found
        shown = rows.write(self.loggers, step, everyone, self.several, self.curves, common)
        asked_for = {name: shown[name] for name in monitored if name in shown}
        if asked_for:
            self.log_dict(asked_for, logger=False)

    # What is evaluated

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self._evaluate(self.splits[dataloader_idx], batch)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self._evaluate("test", batch)

    def _evaluate(self, split: str, batch: Any) -> None:
        seen = batch if self.several else [([0], batch)]
        for members, (inputs, targets) in seen:
            self.evaluations.add(split, members, inputs, targets, self.trainer)

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Label, predicted class and its probability: float64 ``[b, 3]``."""
        x, y = batch
        guess, probability = self.members[0].loss.classify(self(x))
        return torch.stack((y.double(), guess.double(), probability), -1).cpu()

    def on_validation_start(self) -> None:
        self._stopwatch.pause()

    def on_validation_end(self) -> None:
        self._stopwatch.go_on()

    def on_validation_epoch_end(self) -> None:
        found = self.evaluations.results(self.splits, self.trainer)
        if self.trainer.sanity_checking:
            return
        self._latest, self.improved = found, False
        if self.trainer.state.fn == TrainerFn.FITTING:
            better = [self.records[k].update(row, self.splits) for k, row in found.items()]
            self.improved = better[0] and not self.several
            found = {k: row | self.records[k].best for k, row in found.items()}
            step_at_evaluation(self.members, found, self.trainer.callback_metrics)
        found = {k: found[k] for k in self.here() if k in found}
        self.log_rows(found, list(dict.fromkeys(name for row in found.values() for name in row)))
        self._keep_matrices()

    def _keep_matrices(self) -> None:
        """What evaluations found that is no number."""
        if any(self.metrics):
            own = {k: self.evaluations.matrices.get(k, {}) for k in self.here()}
            everyone = rows.over_ranks(own, self.trainer) if self.several else own
            drawn = self.curves or not self.several
            keep_matrices(everyone, self.metrics[0], self.trainer, self.several, drawn)

    def on_test_epoch_end(self) -> None:
        self._latest = self.evaluations.results(self.splits, self.trainer)
        finite = [k for k, fine in enumerate(self.evaluations_are_finite()) if fine] or list(self._latest)
        shown = [self._latest[k] for k in finite if k in self._latest]
        for name in dict.fromkeys(name for row in shown for name in row):
            values = [row[name] for row in shown if name in row]
            self.log(name, sum(values) / len(values))

    def evaluated(self) -> list[Row]:
        """Each member's last evaluation, with its records."""
        return [self._latest.get(k, {}) | self.records[k].best for k in range(len(self.members))]

    def evaluations_are_finite(self) -> list[bool]:
        """For each member, whether its last evaluation was finite."""
        rows_ = [self._latest.get(k, {}) for k in range(len(self.members))]
        return [all(abs(value) < float("inf") for value in row.values()) for row in rows_]

    def reached(self) -> list[Row]:
        """What each member reached so far."""
        return [dict(records.best) for records in self.records]

    # Checkpoints

    @classmethod
    def load_from_checkpoint(
        cls, checkpoint_path: str | Path, map_location: Any = None, **arguments: Any
    ) -> "Training":
        """The module of a run with its trained weights, also of an ensemble.

        Args:
            checkpoint_path: a checkpoint in the folder of a run, whose config says what is built; or that
                folder, whose best checkpoint counts, or else its last.
            map_location: device to which the module goes.
            arguments: of the class, where the file lies in no folder of a run, and other ones of Lightning's
                method.

        Raises:
            UserError: there is no such file or run, it is damaged, or is that of another module.
        """
        if "network" in arguments:
            return super().load_from_checkpoint(checkpoint_path, map_location, **arguments)
        module: Training = trained_module(Path(checkpoint_path), cls)
        return module if map_location is None else module.to(map_location)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        engines = self._engines.description() if self._engines else self._engines_before
        checkpoint["sgdlit_best"], checkpoint["sgdlit_engines"] = self.reached(), engines
        checkpoint["sgdlit_optimizers"] = [member.settings for member in self.members]
        if self.mixing is not None:
            checkpoint["sgdlit_mixing"] = self.mixing.state()
        checkpoint["sgdlit_transforms"] = [
            {} if member.transformed is None else member.transformed.state_dict() for member in self.members
        ]
        if self.several and self.trainer.world_size > 1:
            rows.collect(checkpoint, self.owned, self.trainer.world_size)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.records = [BestSoFar(best) for best in checkpoint["sgdlit_best"]]
        self._engines_before = checkpoint["sgdlit_engines"]
        if self.mixing is not None:
            self.mixing.load_state(checkpoint["sgdlit_mixing"])
        for member, state in zip(self.members, checkpoint["sgdlit_transforms"], strict=True):
            if member.transformed is not None:
                member.transformed.load_state_dict(state)
        share_clock(checkpoint)


def networks_of(module: LightningModule) -> Sequence[nn.Module]:
    """The networks of the runs that a module trains; a module of another kind is one run."""
    return list(module.networks) if isinstance(module, Training) else [module]
