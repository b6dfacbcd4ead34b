"""What sgdlit costs, as ratios against a plain PyTorch loop that does the same work in the same run.

    python scripts/bench.py                  # everything, some minutes on two cores
    python scripts/bench.py --only fit data  # some groups: start, data, penalty, fit

Each figure is the best of several interleaved rounds, so that a slow moment of the machine falls on both sides
of a ratio. It runs on the GPU where there is one.
"""

import argparse
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import nn
from torch.nn import functional as F

from sgdlit.data.modules import Shapes
from sgdlit.models import MLP, WideResNet
from sgdlit.objectives import CompiledPenalty, ExactPenalty, FiniteDifferencePenalty, loss_by_name
from sgdlit.training.checkpoints import Checkpoints
from sgdlit.training.divergence import DivergenceGuard
from sgdlit.training.memory import keep_freed_memory
from sgdlit.training.metrics_file import MetricsFile
from sgdlit.training.progress import StepProgress
from sgdlit.training.single_run import SingleRun

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
BATCH_SIZE, STRENGTH, LR, LOG_EVERY = 32, 2.0**-6, 2.0**-5, 50
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "WRN-10-1": lambda: WideResNet(10, 1),
    "MLP 3072-256-10": lambda: MLP([3072, 256, 10]),
}
Row = tuple[str, str, float, float | None]


def synchronize() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def best_of(work: dict[str, Callable[[], object]], rounds: int, calls: int) -> dict[str, float]:
    """Seconds per call of each piece of work: the best of ``rounds`` interleaved rounds of ``calls``."""
    best = dict.fromkeys(work, float("inf"))
    for _ in range(rounds + 1):  # the first round warms up, and counts as any other
        for name, call in work.items():
            synchronize()
            start = time.perf_counter()
            for _ in range(calls):
                call()
            synchronize()
            best[name] = min(best[name], (time.perf_counter() - start) / calls)
    return best


def relative_to(base: str, seconds: dict[str, float], group: str) -> list[Row]:
    return [(group, name, value, value / seconds[base]) for name, value in seconds.items()]


class StandIn:
    """What a datamodule needs of a trainer, for batches outside of fit."""

    global_step, accumulate_grad_batches, world_size, global_rank = 0, 1, 1, 0

    def __init__(self) -> None:
        self.strategy = argparse.Namespace(root_device=DEVICE)


def make_data(examples: int = 4096) -> Shapes:
    data = Shapes(train_size=examples, test_size=64, batch_size=BATCH_SIZE)
    data.setup()
    return data


def step_batch(data: Shapes) -> Callable[[int], tuple[torch.Tensor, torch.Tensor]]:
    data.trainer = StandIn()
    loader = data.train_dataloader()
    return lambda step: loader.batch(step, slice(0, BATCH_SIZE))


def plain_step(network: nn.Module, optimizer: torch.optim.Optimizer, batch: tuple) -> torch.Tensor:
    optimizer.zero_grad()
    loss = F.cross_entropy(network(batch[0]), batch[1])
    loss.backward()
    optimizer.step()
    return loss


def start_up(rounds: int) -> list[Row]:
    commands = {
        "python -c 'import lightning.pytorch'": ["-c", "import lightning.pytorch"],
        "sgdlit --help": ["-m", "sgdlit", "--help"],
        "sgdlit fit --help": ["-m", "sgdlit", "fit", "--help"],
    }
    work = {
        name: lambda c=command: subprocess.run([sys.executable, *c], capture_output=True, check=True)
        for name, command in commands.items()
    }
    return relative_to(next(iter(commands)), best_of(work, min(rounds, 3), 1), "start-up")


def data_path(rounds: int) -> list[Row]:
    batch = step_batch(make_data())
    network = WideResNet(10, 1).to(DEVICE)
    optimizer = torch.optim.SGD(network.parameters(), lr=LR)
    fixed, steps = batch(0), iter(range(10**9))
    work = {
        "plain step of WRN-10-1 on a ready batch": lambda: plain_step(network, optimizer, fixed),
        "gather, crop, flip, standardise 32 images": lambda: batch(next(steps)),
    }
    return relative_to(next(iter(work)), best_of(work, rounds, 40), "data path")


def penalty(rounds: int) -> list[Row]:
    rows: list[Row] = []
    batch, loss = step_batch(make_data())(0), loss_by_name("cross_entropy")
    for label, make in NETWORKS.items():
        network = make().to(DEVICE)
        optimizer = torch.optim.SGD(network.parameters(), lr=1e-4)
        objectives = {
            "exact": ExactPenalty(),
            "exact, compiled": CompiledPenalty(),
            "finite difference": FiniteDifferencePenalty(),
        }

        def penalized_step(objective, network=network, optimizer=optimizer):
            optimizer.zero_grad()
            objective(network, loss, *batch, STRENGTH).loss.backward()
            optimizer.step()

        work = {"plain step": lambda n=network, o=optimizer: plain_step(n, o, batch)}
        work |= {name: lambda o=objective, s=penalized_step: s(o) for name, objective in objectives.items()}
        rows += relative_to("plain step", best_of(work, rounds, 20), f"penalty, {label}")
    return rows


class Stopwatch(Callback):
    """Seconds per step of a fit, the first steps left out."""

    def __init__(self, skip: int) -> None:
        self.skip, self.start, self.seconds = skip, 0.0, 0.0

    def on_train_batch_start(self, trainer: Trainer, *_: object) -> None:
        if trainer.global_step == self.skip:
            synchronize()
            self.start = time.perf_counter()

    def on_train_end(self, trainer: Trainer, *_: object) -> None:
        synchronize()
        self.seconds = (time.perf_counter() - self.start) / (trainer.global_step - self.skip)


def fit_step(make: Callable[[], nn.Module], data: Shapes, strength: float, steps: int) -> float:
    """Seconds per step of SingleRun under the Trainer that the command line makes."""
    watch, keeper = Stopwatch(skip=10), Checkpoints()
    with tempfile.TemporaryDirectory() as folder:
        keeper.folder = Path(folder)
        trainer = Trainer(
            max_steps=steps,
            callbacks=[DivergenceGuard(), StepProgress(), keeper, watch],
            logger=[TensorBoardLogger(folder, "", ""), MetricsFile(Path(folder))],
            log_every_n_steps=LOG_EVERY,
            enable_model_summary=False,
            enable_checkpointing=False,
            limit_val_batches=0,
            accelerator="gpu" if DEVICE.type == "cuda" else "cpu",
            devices=1,
        )
        model = SingleRun(make(), reg_strength=strength, optimizer=lambda p: torch.optim.SGD(p, lr=LR))
        trainer.fit(model, datamodule=data)
    return watch.seconds


def bare_step(make: Callable[[], nn.Module], data: Shapes, strength: float, steps: int) -> float:
    """Seconds per step of the same in a plain loop over the same batches, reading the loss as often."""
    network, batch, objective = make().to(DEVICE), step_batch(data), ExactPenalty()
    optimizer, loss_function = torch.optim.SGD(network.parameters(), lr=LR), loss_by_name("cross_entropy")
    start = 0.0
    for step in range(steps):
        if step == 10:
            synchronize()
            start = time.perf_counter()
        if strength:
            optimizer.zero_grad()
            loss = objective(network, loss_function, *batch(step), strength).loss
            loss.backward()
            optimizer.step()
        else:
            loss = plain_step(network, optimizer, batch(step))
        if step % LOG_EVERY == 0:
            loss.item()
    synchronize()
    return (time.perf_counter() - start) / (steps - 10)


def through_fit(rounds: int) -> list[Row]:
    rows: list[Row] = []
    data = make_data()
    for label, make in NETWORKS.items():
        for strength, name in ((0.0, "plain"), (STRENGTH, "exact penalty")):
            steps = 160 if label.startswith("WRN") else 1000
            pairs = [
                (bare_step(make, data, strength, steps), fit_step(make, data, strength, steps))
                for _ in range(rounds)
            ]
            seconds = dict(
                zip((f"bare loop, {name}", f"fit, {name}"), map(min, zip(*pairs, strict=True)), strict=True)
            )
            rows += relative_to(f"bare loop, {name}", seconds, f"fit, {label}")
    return rows


GROUPS = {"start": start_up, "data": data_path, "penalty": penalty, "fit": through_fit}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=GROUPS, default=list(GROUPS))
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds of which the best counts")
    parser.add_argument(
        "--malloc", choices=("kept", "default"), default="kept", help="freed memory, as fit keeps it"
    )
    arguments = parser.parse_args()
    if arguments.malloc == "kept":
        keep_freed_memory()
    name = torch.cuda.get_device_name() if DEVICE.type == "cuda" else f"{platform.machine()} CPU"
    print(
        f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}, python {platform.python_version()}"
    )
    print(f"{'group':26}{'work':44}{'time':>12}{'ratio':>8}")
    for group in arguments.only:
        for label, work, seconds, ratio in GROUPS[group](arguments.rounds):
            unit = f"{seconds * 1e3:.3f} ms" if seconds < 1 else f"{seconds:.2f} s"
            print(f"{label:26}{work:44}{unit:>12}{ratio:>7.2f}x", flush=True)


if __name__ == "__main__":
    main()
