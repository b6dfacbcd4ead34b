"""Every callback and every Trainer option of Lightning 2.6: how a run goes with it, and what shows that.

A row says ``many`` (many steps per call, and the same numbers as with one), ``one`` (calls of one step,
through Lightning's own optimization), ``refused`` (in a sentence, before a folder is made), or ``elsewhere``
(a base class, or what a machine without its hardware, package or cluster cannot try).
"""

import contextlib
import io
import os
from dataclasses import dataclass

from fit_runs import Runs, differences
from lightning.pytorch.callbacks import LambdaCallback

_LEFT_BY_DDP = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE")
CALLBACK = "--trainer.callbacks=lightning.pytorch.callbacks."


@dataclass(frozen=True)
class Row:
    """One option.

    Args:
        name: of the class or the option.
        way: ``many``, ``one``, ``refused`` or ``elsewhere``.
        arguments: what it is tried with.
        says: of what is refused, a part of the sentence; of others, a checkpoint that has to be there.
    """

    name: str
    way: str
    arguments: tuple[str, ...] = ()
    says: str = ""


def callback(name: str, way: str, *options: str, says: str = "") -> Row:
    return Row(name, way, (f"{CALLBACK}{name}", *(f"--trainer.callbacks.{o}" for o in options)), says)


def option(name: str, way: str, value: str = "", *more: str, says: str = "") -> Row:
    return Row(name, way, (f"--trainer.{name}={value}", *more) if value else more, says)


CALLBACKS = (
    callback("BackboneFinetuning", "refused", says="no part named backbone"),
    Row("BaseFinetuning", "elsewhere"),
    Row("BasePredictionWriter", "elsewhere"),
    callback("BatchSizeFinder", "refused", says="a sweep over data.batch_size"),
    Row("Callback", "elsewhere"),
    Row("Checkpoint", "elsewhere"),
    Row("DeviceStatsMonitor", "elsewhere"),
    callback("EarlyStopping", "many", "monitor=val/loss", "patience=1"),
    callback("GradientAccumulationScheduler", "refused", "scheduling={0: 1, 1: 2}", says="accumulate_grad"),
    Row("LambdaCallback", "one", ("--trainer.callbacks=lightning_rows.Lambda",)),
    callback("LearningRateFinder", "refused", says="a sweep over model.optimizer.lr"),
    callback("LearningRateMonitor", "many"),
    callback("ModelCheckpoint", "many", "every_n_train_steps=4", "save_top_k=-1"),
    callback("ModelPruning", "refused", "pruning_fn=l1_unstructured", says="no checkpoint would fit"),
    callback("ModelSummary", "many"),
    callback("OnExceptionCheckpoint", "refused", "dirpath=unused", says="fit --resume"),
    Row("ProgressBar", "elsewhere"),
    callback("RichModelSummary", "many"),
    Row("RichProgressBar", "many", (f"{CALLBACK}RichProgressBar", "--trainer.enable_progress_bar=true")),
    callback(
        "StochasticWeightAveraging", "refused", "swa_lrs=0.01", says="sgdlit.training.iterate_average.Iterate"
    ),
    callback("SpikeDetection", "one"),
    callback("ThroughputMonitor", "one", "batch_size_fn=builtins.len"),
    callback("Timer", "many", "duration={hours: 1}"),
    Row("TQDMProgressBar", "many", (f"{CALLBACK}TQDMProgressBar", "--trainer.enable_progress_bar=true")),
    callback("EMAWeightAveraging", "refused", says="sgdlit.training.iterate_average.IterateAverage"),
    callback("WeightAveraging", "refused", says="sgdlit.training.iterate_average.IterateAverage"),
)

OPTIONS = (
    option("accelerator", "many", "cpu"),
    option("strategy", "many", "ddp", "--trainer.devices=1"),
    option("devices", "many", "1"),
    option("num_nodes", "refused", "2", says="which nobody starts"),
    option("precision", "many", "64-true"),
    option("logger", "many", "false"),
    option("callbacks", "many", "null"),
    option("fast_dev_run", "many", "3"),
    option("max_epochs", "many", "2"),
    option("min_epochs", "many", "1"),
    option("max_steps", "many", "11"),
    option("min_steps", "many", "5"),
    option("max_time", "many", "00:01:00:00"),
    option("limit_train_batches", "many", "4"),
    option("limit_val_batches", "many", "1"),
    option("limit_test_batches", "many", "1"),
    option("limit_predict_batches", "many", "1"),
    option("overfit_batches", "refused", "1", says="other batches in every epoch"),
    option("val_check_interval", "many", "4", "--trainer.check_val_every_n_epoch=null"),
    option("check_val_every_n_epoch", "many", "2"),
    option("num_sanity_val_steps", "many", "2"),
    option("log_every_n_steps", "many", "4"),
    option("enable_checkpointing", "many", "false"),
    option("enable_progress_bar", "many", "true"),
    option("enable_model_summary", "many", "true"),
    option("accumulate_grad_batches", "one", "2"),
    option("gradient_clip_val", "one", "0.1"),
    option("gradient_clip_algorithm", "one", "value", "--trainer.gradient_clip_val=0.01"),
    option("deterministic", "many", "true"),
    option("benchmark", "many", "true"),
    option("inference_mode", "many", "false"),
    option("use_distributed_sampler", "many", "false"),
    option("profiler", "many", "simple"),
    option("detect_anomaly", "many", "true"),
    option("barebones", "refused", "true", says="barebones"),
    option("plugins", "many", "lightning.pytorch.plugins.environments.LightningEnvironment"),
    option("sync_batchnorm", "many", "true"),
    option("reload_dataloaders_every_n_epochs", "many", "1"),
    option("default_root_dir", "many", "unused"),
    option("enable_autolog_hparams", "many", "false"),
    option("model_registry", "many", "unused"),
)

MORE = (  # other values of the same options, which go another way
    option("strategy", "refused", "ddp_spawn", "--trainer.devices=2", says="do not hand back"),
    option("val_check_interval", "refused", "00:00:00:01", says="1 or more (batches)"),
    option("max_steps", "refused", "0", says="1 or more"),
    option("max_epochs", "refused", "0", says="1 or more"),
    option("limit_train_batches", "refused", "0", says="1 or more"),
    option("limit_train_batches", "refused", "0.0", says="1 or more"),
    option("check_val_every_n_epoch", "refused", "0", says="1 or more"),
    option("precision", "many", "bf16-mixed"),
    option("precision", "one", "16-true"),
    callback("ModelCheckpoint", "one", "train_time_interval=0:00:00.000001", says="epoch=*-step=*.ckpt"),
    callback("ModelCheckpoint", "one", "every_n_train_steps=6", "monitor=val/loss", says="epoch=*.ckpt"),
    callback("ModelCheckpoint", "many", "monitor=val/loss", "save_top_k=2", "save_last=true"),
    callback("EarlyStopping", "refused", "monitor=val/los", says="did you mean val/loss?"),
    callback("ModelCheckpoint", "refused", "monitor=val/los", says="did you mean val/loss?"),
    callback("Timer", "many"),
)


class Lambda(LambdaCallback):
    """Acts at every batch."""

    def __init__(self) -> None:
        super().__init__(on_train_batch_end=lambda *_: None)


def problems(runs: Runs, row: Row, name: str) -> list[str]:
    """Where a run does not go with an option as its row says; none where it does."""
    if row.way == "elsewhere":
        return []
    for variable in _LEFT_BY_DDP:
        os.environ.pop(variable, None)
    if row.way == "refused":
        return _refused(runs, row, name, row.says)
    if row.way == "one":
        found = _refused(runs, row, name, "is not possible with", "--model.steps_per_call=7")
        if found or _fit(runs, name, *row.arguments)[0]:
            return found or ["it fails"]
        there = not row.says or list((runs.path(name) / "checkpoints").glob(row.says))
        return [] if there else [f"no {row.says}"]
    names = [f"{name}_{k}" for k in (7, 1)]
    codes = [_fit(runs, each, *row.arguments, f"--model.steps_per_call={each[-1]}")[0] for each in names]
    if codes != [0, 0] or row.name == "fast_dev_run":
        return [] if codes == [0, 0] else [f"exit codes {codes}"]
    many, one = (runs.checkpoint(each) for each in names)
    found = differences(many["state_dict"], one["state_dict"], "state", 1e-2 if "bf16" in str(row) else 1e-5)
    steps = [[(line["step"], bool(line.get("val/loss"))) for line in runs.rows(each)] for each in names]
    found += differences(*steps, "steps of metrics.csv")
    folders = [runs.path(each) / "checkpoints" for each in names]
    return found + differences(*(sorted(path.name for path in each.iterdir()) for each in folders), "files")


def _refused(runs: Runs, row: Row, name: str, words: str, *more: str) -> list[str]:
    code, said = _fit(runs, name, *row.arguments, *more)
    found = [] if code == 2 else [f"exit code {code}, not 2"]
    found += [] if words in said.replace("\n", " ") else [f"{words!r} is not in {said!r}"]
    return found + (["a folder was made"] if runs.path(name).exists() else [])


def _fit(runs: Runs, name: str, *arguments: str) -> tuple[int, str]:
    """The exit code of ``fit``, and what it said."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        code = runs.fit(name, *arguments)
    return code, said.getvalue()
