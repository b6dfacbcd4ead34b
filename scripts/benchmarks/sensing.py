"""Matrix sensing through ``fit`` against scripts that do the same: one run, whole processes, ensembles."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor, nn

from benchmarks.common import (
    DEVICE,
    WARM_UP,
    Row,
    StandIn,
    Stopwatch,
    medians,
    relative_to_first,
    seconds_in_fit,
    synchronize,
)
from benchmarks.limits import limit_of_sensing
from sgdlit.algorithms import EngineGroup
from sgdlit.data.batches import Block
from sgdlit.data.members import MembersData
from sgdlit.data.sensing import MatrixSensing
from sgdlit.foundations import native
from sgdlit.measures.relative_error import RelativeError
from sgdlit.measures.relative_squared_error import UnseenError
from sgdlit.measures.sensing_risk import SensingRisk
from sgdlit.measures.singular_values import SensingSpectrum
from sgdlit.models import DeepLinear
from sgdlit.models.sensing import BilinearForm, NormalizedStack
from sgdlit.training.measuring import Measures
from sgdlit.training.module import Training

ROOT = Path(__file__).parent.parent.parent
PAGE, REPORT_EVERY = 1024, 100


Update = Callable[[Tensor, Tensor, Tensor], None]


def script(d: int, steps: int, lr: float, rule: Callable[[Tensor, Tensor, float], Update]) -> float:
    """Seconds per step of a short script: samples a page at a time, the error now and then."""
    torch.manual_seed(0)
    w1, w2 = (torch.randn(d, d, device=DEVICE) / d**0.5 for _ in range(2))
    target = 100 * torch.randn(d, 2, device=DEVICE) @ torch.randn(2, d, device=DEVICE)
    update = rule(w1, w2, lr)
    synchronize()
    start = time.perf_counter()
    for step in range(steps):
        if step % PAGE == 0:
            a, b = (torch.randn(PAGE, d, device=DEVICE) for _ in range(2))
            y = ((a @ target) * b).sum(1)
        update(a[step % PAGE], b[step % PAGE], y[step % PAGE])
        if step % REPORT_EVERY == 0:
            ((w1.detach() @ w2.detach() - target).norm() / target.norm()).item()
    synchronize()
    return (time.perf_counter() - start) / steps


def by_autograd(w1: Tensor, w2: Tensor, lr: float) -> Update:
    """The plain PyTorch loop."""
    optimizer = torch.optim.SGD([w1.requires_grad_(), w2.requires_grad_()], lr)

    def update(a: Tensor, b: Tensor, y: Tensor) -> None:
        optimizer.zero_grad()
        (0.5 * (a @ w1 @ (w2 @ b) - y) ** 2).backward()
        optimizer.step()

    return update


def by_hand(w1: Tensor, w2: Tensor, lr: float) -> Update:
    """The rank-one updates."""

    def update(a: Tensor, b: Tensor, y: Tensor) -> None:
        u, v = w2 @ b, a @ w1
        scale = lr * (torch.dot(u, v) - y)
        w1.addr_(a, u * -scale)
        w2.addr_(v * -scale, b)

    return update


def member(
    d: int, steps: int, lr: float, seed: int = 0, engine: str = "auto"
) -> tuple[Training, MatrixSensing]:
    """A run of configs/matrix_sensing/simple.yaml at another size."""
    torch.manual_seed(seed)
    run = Training(
        BilinearForm(DeepLinear([d, d, d])),
        loss="half_squared_error",
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=lr),
        engine=engine,
    )
    return run, MatrixSensing(d=d, r=2, gamma=100.0, batch_size=1, steps=steps, test_size=1, seed=seed)


def fitted(d: int, steps: int, lr: float, engine: str = "auto") -> float:
    return seconds_in_fit(*member(d, steps, lr, engine=engine), steps, 1024, (report(REPORT_EVERY),), 8192)


class Cuts(Callback):
    """Ends a call of many steps at every report, and does nothing there."""

    every_n_steps = REPORT_EVERY


def in_lightnings_loop(d: int, steps: int, lr: float, callback: Callback) -> float:
    """Seconds per step of a Trainer with one callback beside, that writes nothing."""
    run, data = member(d, steps, lr)
    watch = Stopwatch(steps - 1)
    trainer = Trainer(
        max_steps=steps,
        callbacks=[callback, watch],
        logger=False,
        log_every_n_steps=steps,
        enable_model_summary=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        limit_val_batches=0,
        accelerator="gpu" if DEVICE.type == "cuda" else "cpu",
        devices=1,
    )
    data.check(trainer)
    trainer.fit(run, datamodule=data)
    return watch.seconds


def without_a_compiler(measured: Callable[[], float]) -> float:
    """What is measured where no library of C can be built: data and steps in tensor operations."""
    with mock.patch.object(native, "library", side_effect=native.NotBuilt("left out for this row")):
        return measured()


def engine_alone(d: int, steps: int, lr: float) -> float:
    """Seconds per step without fit, data included, in calls of as many steps as between reports."""
    run, data = member(d, steps, lr)
    data.setup()
    batches, engines = data.batches(DEVICE), EngineGroup(run.members)
    engines.run(Block(0, REPORT_EVERY, [batches]))
    synchronize()
    start = time.perf_counter()
    for first in range(REPORT_EVERY, steps - REPORT_EVERY, REPORT_EVERY):
        engines.run(Block(first, REPORT_EVERY, [batches]))
    synchronize()
    return (time.perf_counter() - start) / (steps - 2 * REPORT_EVERY)


def report(every: int) -> Measures:
    """What the configs of matrix sensing measure."""
    return Measures([RelativeError(), SensingRisk(), SensingSpectrum(every_n_steps=1000)], every)


def one_run(rounds: int, compiled: bool) -> list[Row]:
    """configs/matrix_sensing/simple.yaml, with TensorBoard, table, checkpoints, progress bar and report."""
    d, steps, lr = 256, 8192, 2e-8
    work = {
        "script, autograd": lambda: script(d, 2048, lr, by_autograd),
        "script, rank-one updates by hand": lambda: script(d, steps, lr, by_hand),
        "fit": lambda: fitted(d, steps, lr),
        "its steps and data alone": lambda: engine_alone(d, steps, lr),
        "those in Lightning's loop": lambda: in_lightnings_loop(d, steps, lr, Cuts()),
        "those with the error alone": lambda: in_lightnings_loop(
            d, steps, lr, Measures([RelativeError()], REPORT_EVERY)
        ),
        "fit without a compiler": lambda: without_a_compiler(lambda: fitted(d, steps, lr)),
        "fit, autograd recorded": lambda: fitted(d, 2048, lr, "stacked"),
    }
    return relative_to_first(medians(work, rounds), f"sensing d={d}, a step", limit_of_sensing(d))


SCRIPT = """
import torch
torch.manual_seed(0)
d, lr = 256, 2e-8
w1, w2 = (torch.randn(d, d).div(d**0.5).requires_grad_() for _ in range(2))
optimizer = torch.optim.SGD([w1, w2], lr)
target = 100 * torch.randn(d, 2) @ torch.randn(2, d)
for page in range(32):
    a, b = torch.randn(1024, d), torch.randn(1024, d)
    y = ((a @ target) * b).sum(1)
    for i in range(1024):
        optimizer.zero_grad()
        (0.5 * (a[i] @ w1 @ (w2 @ b[i]) - y[i]) ** 2).backward()
        optimizer.step()
        if i % 100 == 0:
            ((w1 @ w2 - target).norm() / target.norm()).item()
print(float((w1 @ w2 - target).norm() / target.norm()))
"""


FIT = ["-m", "sgdlit", "fit", "--config", str(ROOT / "configs" / "matrix_sensing" / "simple.yaml")]


def process_seconds(arguments: list[str]) -> float:
    """Wall time of a process of Python with nothing compiled before."""
    with tempfile.TemporaryDirectory() as scratch:
        start = time.perf_counter()
        environment = os.environ | {"SGDLIT_CACHE": f"{scratch}/cache"}
        command = [sys.executable, *arguments]
        subprocess.run(command, capture_output=True, check=True, cwd=scratch, env=environment)
        return time.perf_counter() - start


def whole_process(rounds: int, compiled: bool) -> list[Row]:
    """All 32 768 steps from the shell: imports, and for fit a cold cache of compiled code, included."""

    work = {
        "script, autograd": lambda: process_seconds(["-c", SCRIPT]),
        "fit": lambda: process_seconds(FIT),
    }
    return relative_to_first(medians(work, min(rounds, 2)), "sensing d=256, the whole process")


def wide_networks(rounds: int, compiled: bool) -> list[Row]:
    """configs/matrix_sensing/cnn.yaml: ten layers of width 1024, B = 256."""
    d, steps, momentum, lr = 1024, WARM_UP + 21, 0.9, 2.5e-8

    def parts() -> tuple[nn.Module, MatrixSensing]:
        torch.manual_seed(0)
        network = BilinearForm(NormalizedStack(d, 10)).to(DEVICE)
        return network, MatrixSensing(d=d, r=5, gamma=0.04, batch_size=256, steps=steps, test_size=1)

    def bare() -> float:
        network, data = parts()
        data.trainer = StandIn()
        batches, optimizer = data.batches(DEVICE), torch.optim.SGD(network.parameters(), lr, momentum)
        for step in range(steps):
            if step == WARM_UP:
                synchronize()
                start = time.perf_counter()
            inputs, targets = batches.batch(step, slice(0, 256))
            optimizer.zero_grad()
            (0.5 * (network(inputs).squeeze(1) - targets).square().sum()).backward()
            optimizer.step()
        synchronize()
        return (time.perf_counter() - start) / (steps - WARM_UP)

    def fit() -> float:
        network, data = parts()
        run = Training(
            network,
            loss="half_squared_error",
            reduction="sum",
            optimizer=lambda parameters: torch.optim.SGD(parameters, lr, momentum),
        )
        return seconds_in_fit(run, data, steps, 16, (Measures([UnseenError()], 16),))

    return relative_to_first(
        medians({"bare loop": bare, "fit": fit}, min(rounds, 3)), f"sensing d={d}, B=256"
    )


def together(d: int, members: int, steps: int, lr: float, engine: str = "auto") -> float:
    """Seconds for a step of an ensemble in fit."""
    runs, data = zip(*(member(d, steps, lr, seed, engine) for seed in range(members)), strict=True)
    ensemble = Training.joined(runs, [{"seed_everything": seed} for seed in range(members)])
    return seconds_in_fit(ensemble, MembersData(data), steps, 1024)


def ensembles(rounds: int, compiled: bool) -> list[Row]:
    """A step of all members, against their steps one after another."""
    rows: list[Row] = []
    for d, members, steps in ((32, 32, 2048), (128, 8, 2048)):
        lr = 0.131 / (100 * d**2)
        work = {
            "scripts in turn, autograd": lambda d=d, k=members, lr=lr: k * script(d, 1024, lr, by_autograd),
            "scripts in turn, rank-one by hand": lambda d=d, k=members, lr=lr: (
                k * script(d, 2048, lr, by_hand)
            ),
            "fits in turn": lambda d=d, k=members, n=steps, lr=lr: k * fitted(d, n, lr),
            "ensemble": lambda d=d, k=members, n=steps, lr=lr: together(d, k, n, lr),
            "ensemble without a compiler": lambda d=d, k=members, n=steps, lr=lr: without_a_compiler(
                lambda: together(d, k, n, lr)
            ),
        }
        rows += relative_to_first(
            medians(work, rounds),
            f"sensing d={d}, {members} members, a step of all",
            limit_of_sensing(d, members),
        )
    return rows
