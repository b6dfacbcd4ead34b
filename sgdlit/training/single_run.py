"""One run: a network trained on C + λ/4·‖∇Ĉ‖² by Lightning's automatic optimization.

The step hands Lightning one scalar whose gradient is that of the modified loss, so any optimizer, scheduler,
clipping, accumulation, precision and DDP work as they do elsewhere. Nothing waits for the device except at
the steps that are logged.
"""

import math
import time
from collections.abc import Iterable
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torchmetrics import MeanMetric

from sgdlit.errors import UserError
from sgdlit.objectives import ConstantStrength, ExactPenalty, Objective, Strength, loss_by_name
from sgdlit.objectives.objective import allowed_sizes

LossName = Literal["cross_entropy", "half_squared_error", "logistic", "network_output"]


class EvaluationMeans(nn.Module):
    """Loss and accuracy over a whole set: sums over examples and ranks, then one division."""

    def __init__(self) -> None:
        super().__init__()
        # torchmetrics would leave a NaN out of the mean, and so hide that a run has diverged.
        self.loss, self.accuracy = (MeanMetric(nan_strategy="disable") for _ in range(2))

    def add(self, losses: Tensor, correct: Tensor | None) -> None:
        """The losses of some examples, and whether each is classified correctly (None where nothing is)."""
        self.loss.update(losses.float())
        if correct is not None:
            self.accuracy.update(correct.float())

    def result(self, name: str) -> dict[str, float]:
        """Means under ``name/``, and a clean slate."""
        parts = {"loss": self.loss, "accuracy": self.accuracy}
        means = {f"{name}/{part}": float(m.compute()) for part, m in parts.items() if m.update_called}
        for metric in parts.values():
            metric.reset()
        return means


class SingleRun(LightningModule):
    """Trains one network, logs what happens, and evaluates it.

    Logged every ``trainer.log_every_n_steps`` steps at step t, about the parameters after t updates: the
    minibatch's ``train/loss``, ``train/modified_loss``, ``train/C_reg``, ``train/accuracy``,
    ``train/gradient_norm`` (of what the optimizer receives, before clipping), ``train/lr``,
    ``train/reg_strength`` and ``train/steps_per_second``. At each evaluation: loss and accuracy of every
    evaluation set (sums over all examples and ranks), ``test/highest_accuracy`` so far (the metric of Smith
    et al. 2021) and, apart from it, ``test/accuracy_at_best_val``, that of the parameters which validation
    chose.

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
    ) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last) if channels_last else network
        self.channels_last = channels_last
        self.loss = loss_by_name(loss)
        self.reduction = reduction
        self.outputs = torch.empty(0)  # of the latest (micro-)batch of this rank, for callbacks
        self._factor = 1  # on the mean over a step's batch, that makes it what the optimizer receives
        self.objective = objective or ExactPenalty()
        self.strength = reg_strength if isinstance(reg_strength, Strength) else ConstantStrength(reg_strength)
        self.make_optimizer, self.make_scheduler = optimizer, scheduler
        self.evaluations = nn.ModuleDict()
        self.best: dict[str, float] = {}
        self.improved = False
        self._pending: dict[str, Tensor] = {}
        self._clock = (0, 0.0)

    def check(self, trainer: Trainer, datamodule: Any) -> None:
        """Refuse what cannot work, before a run leaves a trace.

        Raises:
            UserError: naming the key, its value and what is allowed.
        """
        self._check_optimizer()
        if hasattr(datamodule, "example"):
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
        self._check_penalty_batch(trainer, getattr(datamodule, "step_sizes", []))
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
                outputs = self.network.eval()(self._in_memory_format(inputs.to(dtype)))
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

    # What is optimized

    def configure_optimizers(self) -> Any:
        optimizer = self.make_optimizer(self.network.parameters())
        if self.make_scheduler is None:
            return optimizer
        scheduler = self.make_scheduler(optimizer)
        plan = {"scheduler": scheduler, "interval": "step"}
        if hasattr(scheduler, "monitor"):  # ReduceLROnPlateau looks at an evaluation, not at a step
            plan |= {"interval": "epoch", "monitor": scheduler.monitor}
        return {"optimizer": optimizer, "lr_scheduler": plan}

    def forward(self, x: Tensor) -> Tensor:
        return self.network(self._in_memory_format(x))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        inputs, targets = self._in_memory_format(batch[0]), batch[1]
        strength = self.strength(self.global_step, self._rate())
        found = self.objective(self.network, self.loss, inputs, targets, strength)
        self.outputs = found.outputs
        if self._is_due():
            squared_norm = found.squared_norm
            if squared_norm is None and self._norm_needs_its_own_batch():
                squared_norm = self.objective.measure(self.network, self.loss, inputs, targets)
            self._gather(found.cost, squared_norm, self.loss.correct(found.outputs, targets))
        if self.reduction == "mean":
            return found.loss
        self._factor = len(inputs) * self.trainer.accumulate_grad_batches * self.trainer.world_size
        return self._factor * found.loss

    def _rate(self) -> float:
        return self.trainer.optimizers[0].param_groups[0]["lr"]

    def _in_memory_format(self, inputs: Tensor) -> Tensor:
        return inputs.contiguous(memory_format=torch.channels_last) if self.channels_last else inputs

    def _norm_needs_its_own_batch(self) -> bool:
        """Whether C_reg is taken over another batch than the gradient that the optimizer receives anyway."""
        return self.objective.penalty_batch_size is not None

    # What is logged

    def on_train_start(self) -> None:
        self._clock = (self.global_step, time.monotonic())

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        if not self._is_due():
            return
        lr = self._rate()
        strength = self.strength(self.global_step, lr)
        norm = gradient_norm(optimizer)
        row = self._means_over_ranks()
        squared_norm = row.pop("squared_norm", (norm / self._factor) ** 2)
        row["modified_loss"] = row["loss"] + strength / 4 * squared_norm
        row |= {"C_reg": squared_norm / 4, "gradient_norm": norm}
        row |= {"lr": lr, "reg_strength": strength, **self._speed()}
        row = {f"train/{name}": value for name, value in row.items()}
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

    def _speed(self) -> dict[str, float]:
        """Steps per second of training since the last logged step, none at the first."""
        (step, then), now = self._clock, time.monotonic()
        self._clock = (self.global_step, now)
        taken = self.global_step - step
        return {"steps_per_second": taken / (now - then)} if taken else {}

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
        if self.trainer.state.fn == TrainerFn.FITTING and all(map(math.isfinite, row.values())):
            row |= self._records(row)
        self._write(row, monitored=row)

    def on_validation_start(self) -> None:
        self._paused = time.monotonic()

    def on_validation_end(self) -> None:
        step, then = self._clock
        self._clock = (step, then + time.monotonic() - self._paused)  # evaluation is not training time

    def on_test_epoch_end(self) -> None:
        self.log_dict(self._evaluated())

    def _evaluate(self, split: str, batch: tuple[Tensor, Tensor]) -> None:
        x, y = batch
        outputs = self(x)
        self.evaluations[split].add(self.loss.per_example(outputs, y), self.loss.correct(outputs, y))

    def _evaluated(self) -> dict[str, float]:
        row: dict[str, float] = {}
        for name, evaluation in self.evaluations.items():
            row |= evaluation.result(name)
        return row

    def _records(self, row: dict[str, float]) -> dict[str, float]:
        """The best so far, after this evaluation; ``improved`` says whether validation chose it."""
        classified = any(name.endswith("/accuracy") for name in row)
        figure, word, better = ("accuracy", "highest", max) if classified else ("loss", "lowest", min)
        best, before = self.best, self.best.get(f"val/{word}_{figure}")
        for split in self.splits:
            record = f"{split}/{word}_{figure}"
            best[record] = better(row[f"{split}/{figure}"], best.get(record, row[f"{split}/{figure}"]))
        self.improved = "val" in self.splits and best[f"val/{word}_{figure}"] != before
        if self.improved and "test" in self.splits:
            best[f"test/{figure}_at_best_val"] = row[f"test/{figure}"]
        return best

    def reached(self) -> dict[str, float]:
        """What the run reached so far, for its closing line."""
        return dict(self.best)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["sgdlit_best"] = dict(self.best)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.best = dict(checkpoint.get("sgdlit_best", {}))


def gradient_norm(optimizer: torch.optim.Optimizer) -> float:
    """Euclidean norm of what the optimizer is about to use, over all of its parameters."""
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    return float(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients))))
