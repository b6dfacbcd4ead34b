"""One run: a network trained on C + λ/4·‖∇Ĉ‖², step by step through Lightning or many steps per call.

Step by step, Lightning is handed one scalar whose gradient is that of the modified loss, so any optimizer,
scheduler, clipping, accumulation, precision and DDP work as they do elsewhere. Many steps per call are taken
by an engine (``sgdlit.algorithms.engines``) and counted one by one by the Trainer. Nothing waits for the
device except at the steps that are logged.
"""

from collections.abc import Iterable
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn

from sgdlit.algorithms.engines import Crew, EngineName, Member, Observation, check_engine
from sgdlit.data.keyed_data import OnDeviceData
from sgdlit.data.loaders import Block
from sgdlit.foundations.errors import UserError
from sgdlit.objectives import (
    ConstantStrength,
    ExactPenalty,
    Objective,
    Strength,
    frozen_statistics,
    loss_by_name,
)
from sgdlit.objectives.objective import allowed_sizes
from sgdlit.training.blocks import BlockPlan, StepsPerCall, check_steps_per_call, single_steps_because
from sgdlit.training.evaluation import EvaluationMeans, Records, evaluate
from sgdlit.training.fit_loop import advance_clock, share_clock
from sgdlit.training.rows import Stopwatch, training_row

LossName = Literal["cross_entropy", "half_squared_error", "logistic", "network_output"]


class SingleRun(LightningModule):
    """Trains one network, logs what happens, and evaluates it.

    Logged every ``trainer.log_every_n_steps`` steps at step t, about the parameters after t updates: the
    minibatch's ``train/loss``, ``train/modified_loss``, ``train/C_reg``, ``train/accuracy``,
    ``train/gradient_norm`` (of what the optimizer receives, before clipping), ``train/lr``,
    ``train/reg_strength`` and ``train/steps_per_second``. At each evaluation: loss, accuracy and soft error
    1 − p_y of every evaluation set (sums over all examples and ranks), ``test/highest_accuracy`` so far (the
    metric of Smith et al. 2021) and, apart from it, ``test/accuracy_at_best_val``, that of the parameters
    which validation chose.

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
        steps_per_call: steps that one call of ``training_step`` takes. ``auto`` takes so many that a call
            lasts about a tenth of a second, and one where something in the run acts inside each step
            (clipping, accumulation, several ranks, unknown callbacks). No number depends on it.
        engine: what takes them, see ``sgdlit.algorithms.engines``; ``auto`` chooses.
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
        reduction: Literal["mean", "sum"] = "mean",
        steps_per_call: StepsPerCall = "auto",
        engine: EngineName = "auto",
    ) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last) if channels_last else network
        self.channels_last = channels_last
        self.loss = loss_by_name(loss)
        self.reduction = reduction
        self.steps_per_call, self.engine = steps_per_call, engine
        self.crew: Crew | None = None
        self._crew_before: dict[str, Any] | None = None
        self.single_steps: str | None = None
        self._factor = 1
        self.objective = objective or ExactPenalty()
        self.strength = reg_strength if isinstance(reg_strength, Strength) else ConstantStrength(reg_strength)
        self.make_optimizer, self.make_scheduler = optimizer, scheduler
        self.evaluations = nn.ModuleDict()
        self.records = Records()
        self.improved = False
        self._pending: dict[str, Tensor] = {}
        self._stopwatch = Stopwatch(0)

    def check(self, trainer: Trainer, datamodule: Any) -> None:
        """Refuse what cannot work, before a run leaves a trace.

        Raises:
            UserError: naming the key, its value and what is allowed.
        """
        self._check_optimizer()
        self._choose_call(trainer, datamodule)
        check_engine(self.engine, [Member(self, *self._optimizers())])
        if isinstance(datamodule, OnDeviceData):
            self._check_example(*datamodule.example())
        limit, micro = trainer.limit_train_batches, trainer.accumulate_grad_batches
        if isinstance(limit, int) and limit % micro:
            raise UserError(
                f"trainer.limit_train_batches: {limit} ends in the middle of a step; allowed with "
                f"trainer.accumulate_grad_batches: {micro}: multiples of {micro}"
            )
        if self.strength == ConstantStrength(0.0):
            return
        if trainer.precision in ("16-mixed", "16-true"):
            raise UserError(
                f"trainer.precision: {trainer.precision} loses small gradients before they are squared; "
                "allowed with model.reg_strength above 0: 32-true, 64-true, bf16-mixed"
            )
        known = isinstance(datamodule, OnDeviceData)
        self._check_penalty_batch(trainer, datamodule.step_sizes if known else [])
        self.objective.accept(self.network)

    def _check_penalty_batch(self, trainer: Trainer, step_sizes: list[int]) -> None:
        size, micro, ranks = (
            self.objective.penalty_batch_size,
            trainer.accumulate_grad_batches,
            trainer.world_size,
        )
        if micro > 1 and size is None:
            raise UserError(
                f"trainer.accumulate_grad_batches: {micro} never shows the whole batch, so its gradient norm "
                "cannot be penalised; allowed: 1, or model.objective.penalty_batch_size up to a micro-batch"
            )
        for batch in step_sizes:
            local = batch // micro // ranks
            allowed = allowed_sizes(local, ranks if self.objective.may_span_ranks else 1)
            if (local * ranks if size is None else size) not in allowed:
                raise UserError(
                    f"model.objective.penalty_batch_size: {size} does not fit a batch of {batch} examples; "
                    f"allowed: {', '.join(map(str, allowed))}"
                )

    def _check_optimizer(self) -> None:
        try:
            self.configure_optimizers()
        except (ValueError, TypeError) as error:
            cause = error
            while cause.__cause__ is not None:
                cause = cause.__cause__
            raise UserError(f"model.optimizer, model.scheduler: {cause}") from error

    def _check_example(self, inputs: Tensor, targets: Tensor) -> None:
        """One example through network and loss."""
        dtype = next((p.dtype for p in self.network.parameters()), inputs.dtype)
        training = self.network.training
        try:
            with torch.no_grad(), torch.compiler.set_stance("force_eager"):
                outputs = self.network.eval()(self.in_memory_format(inputs.to(dtype)))
        except (UserError, RuntimeError, ValueError) as error:
            shape = tuple(inputs.shape[1:])
            raise UserError(f"model.network: does not take inputs of shape {shape}: {error}") from error
        finally:
            self.network.train(training)
        try:
            self.loss.check_targets(outputs, targets)
        except UserError as error:
            raise UserError(f"model.loss, model.network: {error}") from error

    def setup(self, stage: str) -> None:
        datamodule = getattr(self.trainer, "datamodule", None)
        declared = getattr(datamodule, "evaluation_splits", ["val"])
        self.splits = list(declared) if stage in ("fit", "validate") else ["test"]
        self.evaluations = nn.ModuleDict({name: EvaluationMeans() for name in self.splits})
        if stage == "fit":
            self._choose_call(self.trainer, datamodule)

    def _choose_call(self, trainer: Trainer, datamodule: Any) -> None:
        """Whether a call takes one step through Lightning's own optimization, or a block of them."""
        reason = single_steps_because(trainer, self, SingleRun, datamodule)
        if trainer.world_size > 1:
            reason = f"trainer.devices: {trainer.world_size} ranks, which exchange gradients at every step"
        if hasattr(self._optimizers()[1], "monitor"):
            reason = f"model.scheduler: {type(self._optimizers()[1]).__name__}, which waits for evaluations"
        check_steps_per_call(self.steps_per_call, self.engine, reason)
        if self.steps_per_call == 1 and self.engine == "auto":
            reason = "model.steps_per_call: 1"
        self.single_steps = reason
        self.automatic_optimization = self.single_steps is not None
        if isinstance(datamodule, OnDeviceData):
            plan = BlockPlan(trainer, self.steps_per_call)
            datamodule.block_length = None if self.automatic_optimization else plan

    # What is optimized

    def _optimizers(self) -> tuple[torch.optim.Optimizer, Any]:
        optimizer = self.make_optimizer(self.network.parameters())
        return optimizer, self.make_scheduler(optimizer) if self.make_scheduler is not None else None

    def configure_optimizers(self) -> Any:
        optimizer, scheduler = self._optimizers()
        if scheduler is None:
            return optimizer
        if not self.automatic_optimization:
            return [optimizer], [scheduler]
        plan = {"scheduler": scheduler, "interval": "step"}
        if hasattr(scheduler, "monitor"):  # ReduceLROnPlateau looks at an evaluation, not at a step
            plan |= {"interval": "epoch", "monitor": scheduler.monitor}
        return {"optimizer": optimizer, "lr_scheduler": plan}

    def forward(self, x: Tensor) -> Tensor:
        return self.network(self.in_memory_format(x))

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        if isinstance(batch, Block):
            return self._take(batch)
        inputs, targets = self.in_memory_format(batch[0]), batch[1]
        strength = self.strength(self.global_step, self._rate())
        found = self.objective(self.network, self.loss, inputs, targets, strength)
        if self._is_due():
            squared_norm = found.squared_norm
            if squared_norm is None and self.objective.penalty_batch_size is not None:
                squared_norm = self.objective.measure(self.network, self.loss, inputs, targets)
            self._gather(found.cost, squared_norm, self.loss.correct(found.outputs, targets))
        shares = self.trainer.accumulate_grad_batches * self.trainer.world_size
        self._factor = self.factor(shares * len(inputs))
        return {"loss": self._factor * found.loss, "cost": found.cost}

    def _take(self, block: Block) -> dict[str, Tensor]:
        """The steps of a block; the losses before each of them, ``[steps, 1]``."""
        assert block.start == self.global_step, "blocks are made one after another, none ahead of its time"
        if self.crew is None:
            schedules = [config.scheduler for config in self.trainer.lr_scheduler_configs] or [None]
            member = Member(self, self.trainer.optimizers[0], schedules[0])
            self.crew = Crew([member], self.engine, self.trainer, block, self._crew_before)
        if self._is_due():
            self._write_training(*(None if v is None else float(v) for v in self.crew.observe(block)))
        losses = self.crew.run(block)
        advance_clock(self.trainer, len(block) - 1)
        return {"losses": losses.loss, "cost": losses.cost}

    def observe(self, inputs: Tensor, targets: Tensor, strength: float) -> Observation:
        """What a batch says about the run as it is, ``[]`` each; nothing is changed."""
        inputs = self.in_memory_format(inputs)
        trainable = [p for p in self.network.parameters() if p.requires_grad]
        with frozen_statistics(self.network), torch.enable_grad():
            found = self.objective(self.network, self.loss, inputs, targets, strength)
            gradient = torch.autograd.grad(found.loss, trainable, materialize_grads=True)
        norm, squared_norm = _norm(gradient), found.squared_norm
        if squared_norm is None:
            own = self.objective.penalty_batch_size is not None
            measure = self.objective.measure
            squared_norm = measure(self.network, self.loss, inputs, targets) if own else norm.square()
        correct = self.loss.correct(found.outputs, targets)
        accuracy = None if correct is None else correct.float().mean()
        return Observation(found.cost, squared_norm, self.factor(len(inputs)) * norm, accuracy)

    def factor(self, examples: int) -> int:
        """On the mean over a batch of so many examples, that makes it what the optimizer receives."""
        return examples if self.reduction == "sum" else 1

    def in_memory_format(self, inputs: Tensor) -> Tensor:
        return inputs.contiguous(memory_format=torch.channels_last) if self.channels_last else inputs

    def _rate(self) -> float:
        return self.trainer.optimizers[0].param_groups[0]["lr"]

    # What is logged

    def on_train_start(self) -> None:
        self.crew = None
        self._stopwatch = Stopwatch(self.global_step)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        if not self._is_due() or not self.automatic_optimization:
            return
        norm, means = float(_norm(_gradients(optimizer))), self._means_over_ranks()
        squared_norm = means.get("squared_norm", (norm / self._factor) ** 2)
        self._write_training(means["loss"], squared_norm, norm, means.get("accuracy"))

    def _write_training(
        self, cost: float, squared_norm: float, gradient_norm: float, accuracy: float | None
    ) -> None:
        lr = self._rate()
        strength = self.strength(self.global_step, lr)
        row = training_row(cost, squared_norm, gradient_norm, accuracy, lr, strength)
        row |= self._stopwatch.row(self.global_step)
        self._write(row, monitored=[name for name in ("train/loss", "train/accuracy") if name in row])

    def _is_due(self) -> bool:
        return self.global_step % self.trainer.log_every_n_steps == 0

    def _gather(self, cost: Tensor, squared_norm: Tensor | None, correct: Tensor | None) -> None:
        """Add up what the micro-batches of a logged step show."""
        values = {"loss": cost}
        if squared_norm is not None:
            values["squared_norm"] = squared_norm
        if correct is not None:
            values["accuracy"] = correct.float().mean()
        self._pending = {name: self._pending.get(name, 0) + value for name, value in values.items()}

    def _means_over_ranks(self) -> dict[str, float]:
        names = list(self._pending)
        sums = torch.stack([value.double() for value in self._pending.values()])
        self._pending = {}
        means = self.trainer.strategy.reduce(sums, reduce_op="mean") / self.trainer.accumulate_grad_batches
        return dict(zip(names, means.tolist(), strict=True))

    def _write(self, row: dict[str, float], monitored: Iterable[str]) -> None:
        """One row to every logger, at the number of updates made; some of it also for callbacks.

        Lightning's way to callbacks takes ten times as long per number as a logger does.
        """
        self.log_dict({name: row[name] for name in monitored}, logger=False)
        for logger in self.loggers:
            logger.log_metrics(row, step=self.global_step)

    # What is evaluated

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        self._evaluate(self.splits[dataloader_idx], batch)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._evaluate("test", batch)

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Label, predicted class and its probability: float64 ``[b, 3]``."""
        x, y = batch
        guess, probability = self.loss.classify(self(x))
        return torch.stack((y.double(), guess.double(), probability), -1).cpu()

    def on_validation_epoch_end(self) -> None:
        row = self._evaluated()
        if self.trainer.sanity_checking:
            return
        self.improved = False
        if self.trainer.state.fn == TrainerFn.FITTING:
            self.improved = self.records.update(row, self.splits)
            row |= self.records.best
        self._write(row, monitored=row)

    def on_validation_start(self) -> None:
        self._stopwatch.pause()

    def on_validation_end(self) -> None:
        self._stopwatch.go_on()

    def on_test_epoch_end(self) -> None:
        self.log_dict(self._evaluated())

    def _evaluate(self, split: str, batch: tuple[Tensor, Tensor]) -> None:
        x, y = batch
        outputs = self(x)
        self.evaluations[split].add(evaluate(self.loss, outputs, y))

    def _evaluated(self) -> dict[str, float]:
        row: dict[str, float] = {}
        for name, evaluation in self.evaluations.items():
            row |= evaluation.result(name)
        return row

    def reached(self) -> dict[str, float]:
        """What the run reached so far, for its closing line."""
        return dict(self.records.best)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["sgdlit_best"] = dict(self.records.best)
        checkpoint["sgdlit_crew"] = self.crew.description() if self.crew else self._crew_before

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.records = Records(checkpoint.get("sgdlit_best"))
        self._crew_before = checkpoint.get("sgdlit_crew")
        share_clock(checkpoint)


def _gradients(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """What the optimizer is about to use."""
    return [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]


def _norm(tensors: Iterable[Tensor]) -> Tensor:
    """Euclidean norm over all of them."""
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(list(tensors))))
