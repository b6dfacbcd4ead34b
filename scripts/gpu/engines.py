"""Engines on a GPU: CUDA graphs, stacked members, groups by memory."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from benchmarks.common import DEVICE, StandIn, seconds_of
from benchmarks.networks import RandomImages
from torch import Tensor, nn

from sgdlit.algorithms import EngineGroup, Machine, Member
from sgdlit.algorithms.engines.captured import CapturedStep
from sgdlit.algorithms.engines.stacked import StackedEngine
from sgdlit.data.batches import Batches, Block
from sgdlit.data.keyed_data import KeyedData
from sgdlit.data.teachers import MLPTeacher
from sgdlit.models import MLP, WideResNet
from sgdlit.objectives import ConstantStrength, ExactPenalty, loss_by_name

Network = Callable[[], nn.Module]
MLP_ = (lambda: MLP([784, 256, 10]), (1, 28, 28))
WRN = (lambda: WideResNet(10, 1), (3, 32, 32))


def members(
    network: Network, count: int, strength: float = 0.0, dtype: torch.dtype = torch.float32
) -> list[Member]:
    """Runs with momentum and weight decay, drawn from seeds 0, 1, ..."""
    found = []
    for seed in range(count):
        torch.manual_seed(seed)
        found.append(
            Member(
                network().to(DEVICE, dtype),
                loss_by_name("cross_entropy"),
                lambda parameters: torch.optim.SGD(parameters, 0.01, momentum=0.9, weight_decay=1e-4),
                None,
                ExactPenalty(),
                ConstantStrength(strength),
            )
        )
    return found


def batches(data: KeyedData) -> Batches:
    """What each step sees, on the device."""
    data.trainer = StandIn()
    data.setup()
    return data.batches(DEVICE)


def images(shape: tuple[int, int, int], count: int) -> list[Batches]:
    """For each of some members an order of its own over random images, the same each time."""
    torch.manual_seed(0)
    found = []
    for seed in range(count):
        data = RandomImages(shape, 32)
        data.order_seed = data.augmentation_seed = seed
        found.append(batches(data))
    return found


def teacher(dtype: torch.dtype, count: int) -> list[Batches]:
    name = str(dtype).removeprefix("torch.")
    return [
        batches(MLPTeacher([12, 8, 3], labels="hard", steps=64, batch_size=8, seed=seed, dtype=name))
        for seed in range(count)
    ]


def parameters(runs: Sequence[Member]) -> Tensor:
    """Those of all runs, ``[members, count]``."""
    return torch.stack([torch.cat([p.detach().flatten() for p in r.network.parameters()]) for r in runs])


def graphs(small: bool) -> None:
    """A step as a CUDA graph ends with the bits of the same step called operation by operation."""
    cases: dict[str, tuple[Network, list[Batches], float]] = {
        "MLP 784-256-10": (MLP_[0], images(MLP_[1], 2), 0.0),
        "WRN-10-1": (WRN[0], images(WRN[1], 2), 0.0),
        "WRN-10-1 with λ": (WRN[0], images(WRN[1], 2), 0.1),
        "MLP of a stream, with λ": (lambda: MLP([12, 16, 3]), teacher(torch.float32, 2), 0.1),
    }
    steps = 3 if small else 50
    for name, (network, seen, strength) in cases.items():
        if small and name == "WRN-10-1":
            continue
        ends, made = [], []

        def captured(step: Any, made: list[CapturedStep] = made) -> CapturedStep:
            made.append(CapturedStep(step))
            return made[-1]

        for finish in (None, captured):
            runs = members(network, 2, strength)
            engine = StackedEngine(runs, slice(0, 2), Machine(DEVICE), finish)
            for start in range(0, steps, 10):
                engine.run(Block(start, min(10, steps - start), seen))
            ends.append(parameters(runs))
        distance = float((ends[0] - ends[1]).abs().max())
        print(f"{name}: {steps} steps, largest difference {distance:g}")
        assert torch.isfinite(ends[0]).all()
        if DEVICE.type == "cuda":
            assert [step.refused for step in made] == [False], f"{name}: nothing was captured"
        assert distance == 0, f"{name}: the CUDA graph does not end with the bits of the eager step"


def ensembles(small: bool) -> None:
    """Stacked members end where each alone ends, up to rounding; what a step of all costs."""
    from benchmarks import ensembles as bench

    for name, (network, shape), count, strength in (
        ("MLP 784-256-10", MLP_, 3 if small else 64, 0.0),
        ("WRN-10-1", WRN, 2 if small else 28, 0.0),
        ("WRN-10-1 with λ", WRN, 2 if small else 28, 0.1),
    ):
        seen, steps = images(shape, count), 2 if small else 10
        together, alone = (members(network, count, strength, torch.float64) for _ in range(2))
        for runs, engine in ((together, "stacked"), (alone, "loop")):
            EngineGroup(runs, engine, Machine(DEVICE, Double())).run(Block(0, steps, seen))
        distance = float((parameters(together) - parameters(alone)).abs().max())
        print(f"{name}, {count} members, float64: {steps} steps, largest difference {distance:.2e}")
        assert distance < 1e-9, f"{name}: stacked members do not end where each alone ends"
    works: tuple[tuple[str, tuple[Network, tuple[int, int, int]], int], ...] = (
        ("MLPs 784-256-10", MLP_, 64),
        ("WRN-10-1", WRN, 28),
    )
    for name, (network, shape), count in works:
        count, steps = (2, 13) if small else (count, 211)
        make = bench.images(shape, count)
        seconds = {
            "in turn": bench.in_turn(network, make(1)[0], nn.functional.cross_entropy, count, steps - 5),
            "ensemble": bench.together(network, make(count), "cross_entropy", steps),
            "ensemble, one after another": bench.together(
                network, make(count), "cross_entropy", max(13, steps // 10), "loop"
            ),
        }
        for work, value in seconds.items():
            ratio = value / seconds["in turn"]
            print(
                f"{count} {name}, B = 32, {work}: {value * 1e3:.3f} ms a step of all, {ratio:.3f} of in turn"
            )


class Double:
    """Batches in float64."""

    def convert_input(self, data: Any) -> Any:
        if isinstance(data, Tensor):
            return data.double() if data.is_floating_point() else data
        return type(data)(map(self.convert_input, data)) if isinstance(data, tuple | list) else data

    forward_context = staticmethod(nullcontext)


def groups(small: bool) -> None:
    """Where the memory does not hold all members, groups of them are trained, with the same numbers."""
    network, shape = MLP_ if small else (lambda: MLP([784, 4096, 4096, 10]), (1, 28, 28))
    count, steps = (5, 2) if small else (24, 4)
    seen = images(shape, count)
    sizes, ends = [], []
    for limit in (nullcontext, short_of_memory):
        runs = members(network, count)
        with limit():
            engines = EngineGroup(runs, "stacked", Machine(DEVICE))
            engines.run(Block(0, steps, seen))
        sizes.append(engines.description()["group_size"])
        ends.append(parameters(runs))
        del engines, runs
        if DEVICE.type == "cuda":
            torch.cuda.empty_cache()
    distance = float((ends[0] - ends[1]).abs().max() / ends[0].abs().max())
    print(f"{count} members in groups of {sizes[0]}, then of {sizes[1]}; relative difference {distance:.1e}")
    assert sizes[1] < sizes[0], "the limit was not felt"
    assert distance < 1e-5


@contextmanager
def short_of_memory() -> Iterator[None]:
    """Of a GPU, a little more than what is in use now; elsewhere engines of three members and more fail."""
    if DEVICE.type == "cuda":
        torch.cuda.empty_cache()
        total = torch.cuda.mem_get_info()[1]
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 4e9) / total)
        try:
            yield
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
        return
    record = StackedEngine.record

    def fails(engine: StackedEngine, *given: Any) -> Any:
        if len(engine.members) > 2:
            raise torch.OutOfMemoryError("no memory for so many")
        return record(engine, *given)

    StackedEngine.record = fails  # type: ignore[method-assign]
    try:
        yield
    finally:
        StackedEngine.record = record  # type: ignore[method-assign]


def projection(small: bool) -> None:
    """A step of the runs of F1b and of F6a that are trained together, and what the whole figures take."""
    from sgdlit.cli.without_running import parse_fit
    from sgdlit.sweeps.plan import groups as calls_of
    from sgdlit.sweeps.plan import make_plan
    from sgdlit.sweeps.sweep_file import SweepFile

    wide = [784, 64, 64, 64, 10] if small else [784, 4096, 4096, 4096, 10]
    for figure, file, grids, examples, (network, shape) in (
        ("F1b", "f1_f2_f5_wrn10_1", ("rate", "strength"), 50_000, WRN),
        ("F6a", "f6_fashion_mlp", ("rate_16", "strength_16"), 60_000, (lambda: MLP(wide), (1, 28, 28))),
    ):
        source = SweepFile(["--config", f"configs/sweeps/paper/{file}.yaml"], parse_fit)
        config, options = source.read()
        plan = make_plan(config, options, source.inputs)
        batch_size = config.data.init_args.batch_size if figure == "F1b" else 16
        keys = {cell.key for grid in grids for cell in plan.grids[grid]}
        seconds = 0.0
        for calls in [[c for c in call if c.key in keys] for call in calls_of(plan)]:
            if not calls:
                continue
            trainer = calls[0].config.trainer
            steps = trainer.max_steps if trainer.max_steps > 0 else 0
            steps = steps or trainer.max_epochs * -(-examples // batch_size)
            count, penalty = 2 if small else len(calls), bool(calls[0].config.model.init_args.reg_strength)
            seconds += steps * _timed(figure, network, shape, batch_size, count, penalty)
        cells = len(keys)
        print(f"{figure}: {cells} runs, {seconds / 3600:.1f} hours for all, without evaluation")


_KNOWN: dict[tuple[str, int, bool], float] = {}


def _timed(
    figure: str, network: Network, shape: tuple[int, int, int], batch_size: int, count: int, penalty: bool
) -> float:
    """Seconds for a step of some runs that are trained together; measured once for each kind."""
    found = (figure, count, penalty)
    if found not in _KNOWN:
        torch.manual_seed(0)
        seen = [batches(RandomImages(shape, batch_size)) for _ in range(count)]
        engines = EngineGroup(members(network, count, 0.1 if penalty else 0.0), "auto", Machine(DEVICE))
        warm, steps = (20, 100) if DEVICE.type == "cuda" else (1, 2)
        engines.run(Block(0, warm, seen))
        seconds = seconds_of(lambda: engines.run(Block(warm, steps, seen))) / steps
        kind = f"{count} runs{' with λ' if penalty else ''}, engine {engines.name}"
        print(f"{figure}, {kind}: {seconds * 1e3:.3f} ms a step of all, {seconds / count * 1e3:.3f} of one")
        _KNOWN[found] = seconds
    return _KNOWN[found]
