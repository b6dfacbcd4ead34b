"""Two ranks of one thread that share a batch, against one process of two threads: ``fit`` from the shell."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from lightning.pytorch import Trainer

from benchmarks.common import Row, Stopwatch, medians, relative_to_first
from benchmarks.networks import STRENGTH

_STEPS = 160
_AT_MOST = 1.05
_FIT = (
    "-m sgdlit fit --model.network WideResNet --model.network.depth 10 --model.network.width 1 "
    "--data benchmarks.networks.RandomImages --data.image [3,32,32] --data.batch_size 64 "
    f"--model.optimizer torch.optim.SGD --model.optimizer.lr 0.004 --trainer.max_steps {_STEPS} "
    "--trainer.accelerator cpu --trainer.limit_val_batches 0 --trainer.log_every_n_steps 50 "
    f"--checkpoints.every_n_steps {_STEPS} --trainer.callbacks+ benchmarks.ranks.WrittenStopwatch "
    "--trainer.callbacks.file seconds"
)


class WrittenStopwatch(Stopwatch):
    """Writes the seconds per step into a file, from the first rank.

    Args:
        file: its name.
    """

    def __init__(self, file: str) -> None:
        super().__init__(_STEPS - 1)
        self.file = Path(file)

    def on_train_batch_start(self, trainer: Trainer, *given: object) -> None:
        super().on_train_batch_start(trainer, *given)
        if trainer.is_global_zero and self.seconds:
            self.file.write_text(str(self.seconds))


def seconds_on(ranks: int, strength: float) -> float:
    """Seconds per step of so many processes that share two cores."""
    own = ["--trainer.devices", str(ranks), "--model.reg_strength", str(strength)]
    own += ["--trainer.strategy", "ddp"] if ranks > 1 else []
    scripts = Path(__file__).parent.parent
    paths = os.pathsep.join([str(scripts), str(scripts.parent), os.environ.get("PYTHONPATH", "")])
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, *_FIT.split(), *own]
        subprocess.run(
            command, check=True, capture_output=True, cwd=folder, env=os.environ | {"PYTHONPATH": paths}
        )
        return float(Path(folder, "seconds").read_text())


def shared_batch(rounds: int, compiled: bool) -> list[Row]:
    """A step of WRN-10-1 at B = 64, plain and with the regularizer."""
    rows: list[Row] = []
    for strength, name in ((0.0, "plain"), (STRENGTH, "exact penalty")):
        works = {
            "one process": lambda s=strength: seconds_on(1, s),
            "two ranks": lambda s=strength: seconds_on(2, s),
        }
        found = medians(works, min(rounds, 3))
        rows += relative_to_first(found, f"ranks, WRN-10-1, B=64, {name}", targets={"two ranks": _AT_MOST})
    return rows
