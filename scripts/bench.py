"""What sgdlit costs, as ratios against a plain PyTorch loop that does the same work in the same run.

    python scripts/bench.py                  # everything, some minutes on two cores
    python scripts/bench.py --only fit data  # some groups: start, data, streams, penalty, fit

Each figure is the best of several interleaved rounds, so that a slow moment of the machine falls on both
sides of a ratio. It runs on the GPU where there is one.
"""

import argparse
import logging
import platform
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import lightning
import torch
from lightning.pytorch import Callback, LightningDataModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp
from torch.nn import functional as F

from sgdlit.console import track
from sgdlit.data.modules import ImageShards
from sgdlit.data.sensing import MatrixSensing
from sgdlit.data.shards import PerChannel, PerImage, Shard, Subset, whole
from sgdlit.models import MLP, DeepLinear, WideResNet
from sgdlit.models.sensing import BilinearForm
from sgdlit.objectives import (
    CompiledPenalty,
    ExactPenalty,
    FiniteDifferencePenalty,
    Objective,
    convolution,
    loss_by_name,
)
from sgdlit.training.checkpoints import Checkpoints
from sgdlit.training.divergence import DivergenceGuard
from sgdlit.training.memory import keep_freed_memory
from sgdlit.training.metrics_file import MetricsFile
from sgdlit.training.progress import StepProgress
from sgdlit.training.single_run import SingleRun

DEVICE = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
STRENGTH, LR, LOG_EVERY, SKIPPED = 2.0**-6, 2.0**-8, 50, 10
SENSING_STEPS, SENSING_LR = 4096, 2e-8
LOSS = loss_by_name("cross_entropy")


class Case(NamedTuple):
    """A network and its batches, as in the configs of the paper."""

    name: str
    make: Callable[[], nn.Module]
    image: tuple[int, int, int]
    batch_size: int
    channels_last: bool
    fit_steps: int


CASES = (
    Case("WRN-10-1, B=32", lambda: WideResNet(10, 1), (3, 32, 32), 32, True, 260),
    Case("MLP 784-4096x3-10, B=16", lambda: MLP([784, 4096, 4096, 4096, 10]), (1, 28, 28), 16, False, 60),
)


class Row(NamedTuple):
    group: str
    work: str
    seconds: float
    ratio: float


class RandomImages(ImageShards):
    """Bytes without meaning, so that nothing is drawn or read."""

    def __init__(self, image: tuple[int, int, int], batch_size: int) -> None:
        super().__init__(batch_size=batch_size, augment=image[0] == 3)
        self.image = image

    def read_splits(self) -> dict[str, Subset]:
        sizes = {"train": 4800, "val": 0, "test": 48}
        return {name: whole(self._shard(size)) for name, size in sizes.items()}

    def _shard(self, size: int) -> Shard:
        images = torch.randint(0, 256, (size, *self.image), dtype=torch.uint8)
        return Shard(images, torch.randint(0, 10, (size,)))

    @cached_property
    def standardise(self) -> PerChannel | PerImage:
        return PerChannel((0.5,) * 3, (0.25,) * 3) if self.image[0] == 3 else PerImage()


class StandIn:
    """What a datamodule needs of a trainer, for batches outside of fit."""

    global_step, accumulate_grad_batches, world_size, global_rank = 0, 1, 1, 0

    def __init__(self) -> None:
        self.strategy = argparse.Namespace(root_device=DEVICE)


def synchronize() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def best_of(work: dict[str, Callable[[], object]], rounds: int, calls: int) -> dict[str, float]:
    """Seconds per call of each piece of work: the best of ``rounds`` interleaved rounds, after a warm-up."""
    best = dict.fromkeys(work, float("inf"))
    for call in work.values():
        call()
    for _ in track(range(rounds), "timing"):
        for name, call in work.items():
            synchronize()
            start = time.perf_counter()
            for _ in range(calls):
                call()
            synchronize()
            best[name] = min(best[name], (time.perf_counter() - start) / calls)
    return best


def relative_to_first(seconds: dict[str, float], group: str) -> list[Row]:
    base = next(iter(seconds.values()))
    return [Row(group, name, value, value / base) for name, value in seconds.items()]


def batches(case: Case) -> Callable[[int], tuple[Tensor, Tensor]]:
    """step -> the batch that fit would see at it."""
    data = RandomImages(case.image, case.batch_size)
    data.setup()
    data.trainer = StandIn()
    loader = data.train_dataloader()

    def batch(step: int) -> tuple[Tensor, Tensor]:
        images, labels = loader.batches.batch(step, slice(0, case.batch_size))
        return (
            images.contiguous(memory_format=torch.channels_last) if case.channels_last else images
        ), labels

    return batch


def build(case: Case) -> tuple[nn.Module, torch.optim.Optimizer]:
    network = case.make().to(DEVICE)
    if case.channels_last:
        network = network.to(memory_format=torch.channels_last)
    return network, torch.optim.SGD(network.parameters(), lr=LR)


def plain_step(network: nn.Module, optimizer: torch.optim.Optimizer, batch: tuple[Tensor, Tensor]) -> Tensor:
    optimizer.zero_grad()
    loss = F.cross_entropy(network(batch[0]), batch[1])
    loss.backward()
    optimizer.step()
    return loss


def objective_step(
    objective: Objective, network: nn.Module, optimizer: torch.optim.Optimizer, batch: tuple[Tensor, Tensor]
) -> Tensor:
    optimizer.zero_grad()
    loss = objective(network, LOSS, *batch, STRENGTH).loss
    loss.backward()
    optimizer.step()
    return loss


def scalar_double_backward(network: nn.Module, optimizer: torch.optim.Optimizer, batch: tuple) -> None:
    """The penalty as most code writes it: build λ/4·‖g‖² and differentiate it."""
    optimizer.zero_grad()
    cost = F.cross_entropy(network(batch[0]), batch[1])
    gradient = torch.autograd.grad(cost, list(network.parameters()), create_graph=True)
    (cost + STRENGTH / 4 * sum(g.square().sum() for g in gradient)).backward()
    optimizer.step()


def gradient_of_jvp(network: nn.Module, optimizer: torch.optim.Optimizer, batch: tuple) -> None:
    """g by one gradient, then H g as the gradient of the directional derivative along g."""
    parameters = {name: p.detach() for name, p in network.named_parameters()}

    def cost(p):
        return F.cross_entropy(functional_call(network, p, (batch[0],)), batch[1])

    direction = grad(cost)(parameters)
    curved = grad(lambda p: jvp(cost, (p,), (direction,))[1])(parameters)
    for name, p in network.named_parameters():
        p.grad = direction[name] + STRENGTH / 2 * curved[name]
    optimizer.step()


def start_up(rounds: int, compiled: bool) -> list[Row]:
    commands = {
        "python -c 'import lightning.pytorch'": ["-c", "import lightning.pytorch"],
        "sgdlit --help": ["-m", "sgdlit", "--help"],
        "sgdlit fit --help": ["-m", "sgdlit", "fit", "--help"],
    }
    work = {
        name: lambda c=command: subprocess.run([sys.executable, *c], capture_output=True, check=True)
        for name, command in commands.items()
    }
    return relative_to_first(best_of(work, rounds, 1), "start-up")


def data_path(rounds: int, compiled: bool) -> list[Row]:
    rows: list[Row] = []
    for case in CASES:
        batch, (network, optimizer) = batches(case), build(case)
        ready, steps = batch(0), iter(range(10**9))
        work = {
            "plain step on a ready batch": lambda n=network, o=optimizer, b=ready: plain_step(n, o, b),
            "gather, augment, standardise a batch": lambda b=batch, s=steps: b(next(s)),
        }
        rows += relative_to_first(best_of(work, rounds, 20), f"data, {case.name}")
    return rows


def streams(rounds: int, compiled: bool) -> list[Row]:
    """Matrix sensing as in configs/matrix_sensing/simple.yaml: making examples, and one step per call."""
    data = sensing_data()
    data.trainer = StandIn()
    loader, network = data.train_dataloader(), sensing_network()
    optimizer = torch.optim.SGD(network.parameters(), lr=SENSING_LR)
    ready, steps = loader.batches.batch(0, slice(0, 1)), iter(range(10**9))
    work = {
        "plain step on a ready example": lambda: sensing_step(network, optimizer, ready),
        "make an example": lambda: loader.batches.batch(next(steps), slice(0, 1)),
    }
    rows = relative_to_first(best_of(work, rounds, 1024), "stream, sensing d=256, B=1")
    bare = fit = float("inf")
    for _ in track(range(rounds), "fitting"):
        bare, fit = min(bare, bare_sensing()), min(fit, fit_sensing())
    return rows + relative_to_first(
        {"bare loop": bare, "fit, one step per call": fit}, "fit, sensing d=256, B=1"
    )


def sensing_network() -> nn.Module:
    return BilinearForm(DeepLinear([256, 256, 256])).to(DEVICE)


def sensing_step(network: nn.Module, optimizer: torch.optim.Optimizer, batch: tuple[Tensor, Tensor]) -> None:
    optimizer.zero_grad()
    (0.5 * (network(batch[0]) - batch[1]).square().mean()).backward()
    optimizer.step()


def sensing_data() -> MatrixSensing:
    return MatrixSensing(d=256, r=2, gamma=100.0, batch_size=1, steps=SENSING_STEPS, test_size=1)


def bare_sensing() -> float:
    data = sensing_data()
    data.trainer = StandIn()
    loader, network = data.train_dataloader(), sensing_network()
    optimizer = torch.optim.SGD(network.parameters(), lr=SENSING_LR)
    start = 0.0
    for step in range(SENSING_STEPS):
        if step == SKIPPED:
            synchronize()
            start = time.perf_counter()
        sensing_step(network, optimizer, loader.batches.batch(step, slice(0, 1)))
    synchronize()
    return (time.perf_counter() - start) / (SENSING_STEPS - SKIPPED)


def fit_sensing() -> float:
    model = SingleRun(
        sensing_network(),
        loss="half_squared_error",
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=SENSING_LR),
    )
    return seconds_in_fit(model, sensing_data(), SENSING_STEPS, log_every=1024)


def penalty(rounds: int, compiled: bool) -> list[Row]:
    rows: list[Row] = []
    for case in CASES:
        (network, optimizer), batch = build(case), batches(case)(0)
        objectives: dict[str, Objective] = {"exact (the default)": ExactPenalty()}
        objectives["finite difference"] = FiniteDifferencePenalty()
        if compiled:
            objectives["exact, compiled"] = CompiledPenalty()
        if compiled and DEVICE.type == "cuda":
            objectives["exact, CUDA graph"] = CompiledPenalty(mode="reduce-overhead")
        given = (network, optimizer, batch)
        work = {"plain step": lambda g=given: plain_step(*g)}
        work |= {name: lambda o=o, g=given: objective_step(o, *g) for name, o in objectives.items()}
        work["scalar double backward"] = lambda g=given: scalar_double_backward(*g)
        work["gradient of jvp"] = lambda g=given: gradient_of_jvp(*g)
        rows += relative_to_first(best_of(work, rounds, 8), f"penalty, {case.name}")
    return rows + without_our_convolution(rounds)


def without_our_convolution(rounds: int) -> list[Row]:
    """The exact penalty with PyTorch's own second derivative of convolutions."""
    case = CASES[0]
    (network, optimizer), batch = build(case), batches(case)(0)
    convolution.register()._destroy()
    work = {
        "plain step": lambda: plain_step(network, optimizer, batch),
        "exact, torch's derivative of conv": lambda: objective_step(
            ExactPenalty(), network, optimizer, batch
        ),
    }
    rows = relative_to_first(best_of(work, rounds, 8), f"penalty, {case.name}")[1:]
    convolution.register.cache_clear()
    convolution.register()
    return rows


class Stopwatch(Callback):
    """Seconds per step of a fit, without the first steps and without the checkpoint at the end."""

    def __init__(self, last: int) -> None:
        self.last, self.start, self.seconds = last, 0.0, 0.0

    def next_due(self, step: int) -> int | None:
        return next((due for due in (SKIPPED, self.last) if due > step), None)

    def on_train_batch_start(self, trainer: Trainer, *_: object) -> None:
        if trainer.global_step == SKIPPED:
            synchronize()
            self.start = time.perf_counter()
        if trainer.global_step == self.last:
            synchronize()
            self.seconds = (time.perf_counter() - self.start) / (self.last - SKIPPED)


def fit_step(case: Case, strength: float) -> float:
    model = SingleRun(
        case.make(),
        reg_strength=strength,
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=LR),
        channels_last=case.channels_last,
    )
    return seconds_in_fit(model, RandomImages(case.image, case.batch_size), case.fit_steps, LOG_EVERY)


def seconds_in_fit(model: SingleRun, data: LightningDataModule, steps: int, log_every: int) -> float:
    """Seconds per step under the Trainer that the command line makes."""
    watch, keeper = Stopwatch(steps - 1), Checkpoints()
    with tempfile.TemporaryDirectory() as folder:
        keeper.folder = Path(folder)
        trainer = Trainer(
            max_steps=steps,
            callbacks=[DivergenceGuard(), StepProgress(), watch, keeper],
            logger=[TensorBoardLogger(folder, "", ""), MetricsFile(Path(folder))],
            log_every_n_steps=log_every,
            enable_model_summary=False,
            enable_checkpointing=False,
            limit_val_batches=0,
            accelerator="gpu" if DEVICE.type == "cuda" else "cpu",
            devices=1,
        )
        trainer.fit(model, datamodule=data)
    return watch.seconds


def bare_step(case: Case, strength: float) -> float:
    """Seconds per step of the same in a plain loop over the same batches, reading the loss as often."""
    (network, optimizer), batch, objective = build(case), batches(case), ExactPenalty()
    start = 0.0
    for step in range(case.fit_steps):
        if step == SKIPPED:
            synchronize()
            start = time.perf_counter()
        if strength:
            loss = objective_step(objective, network, optimizer, batch(step))
        else:
            loss = plain_step(network, optimizer, batch(step))
        if step % LOG_EVERY == 0:
            loss.item()
    synchronize()
    return (time.perf_counter() - start) / (case.fit_steps - SKIPPED)


def through_fit(rounds: int, compiled: bool) -> list[Row]:
    rows: list[Row] = []
    for case in CASES:
        for strength, name in ((0.0, "plain"), (STRENGTH, "exact penalty")):
            bare = fit = float("inf")
            for _ in track(range(rounds), "fitting"):
                bare, fit = min(bare, bare_step(case, strength)), min(fit, fit_step(case, strength))
            rows += relative_to_first({f"bare loop, {name}": bare, f"fit, {name}": fit}, f"fit, {case.name}")
    return rows


GROUPS = {"start": start_up, "data": data_path, "streams": streams, "penalty": penalty, "fit": through_fit}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=GROUPS, default=list(GROUPS), help="groups to run")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds of which the best counts")
    parser.add_argument(
        "--compiled", action="store_true", help="time the compiled forms too (compiling is slow)"
    )
    parser.add_argument(
        "--malloc", choices=("kept", "default"), default="kept", help="freed memory, as in fit"
    )
    arguments = parser.parse_args()
    if arguments.malloc == "kept":
        keep_freed_memory()
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    device = torch.cuda.get_device_name() if DEVICE.type == "cuda" else f"{platform.machine()} CPU"
    versions = (
        f"torch {torch.__version__}, lightning {lightning.__version__}, python {platform.python_version()}"
    )
    print(f"{device}, {torch.get_num_threads()} threads, {versions}")
    print(f"{'group':36}{'work':40}{'time':>11}{'per second':>12}{'ratio':>8}")
    for group in arguments.only:
        for row in GROUPS[group](arguments.rounds, arguments.compiled):
            label = f"{row.group:36}{row.work:40}"
            print(f"{label}{row.seconds * 1e3:>8.2f} ms{1 / row.seconds:>12.1f}{row.ratio:>8.3f}", flush=True)


if __name__ == "__main__":
    main()
