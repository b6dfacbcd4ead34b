"""The goals of ``python -m tests.long``: each breaks the program in one way, case by case.

A case is a function of a random generator and a folder of its own; it returns what went wrong, in words, and
nothing where all is well. Everything that a case does follows from the seed and the case's number.
"""

import contextlib
import io
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from fit_runs import Runs, processes, run_differences, wait_until
from kills import ENDLESS, calls_of, rows, start
from lightning_rows import CALLBACKS, MORE, OPTIONS, problems
from long.damage import REFERENCES, VICTIMS, prepare
from long.forks import Fork, command
from two_ranks import SHAPE, TWO, rank_environments

from sgdlit.cli.main import main
from sgdlit.sweeps.store import Store

_MOST_SECONDS = 1800.0  # until a process is taken to hang
Case = Callable[[random.Random, Path, int], list[str]]


@dataclass(frozen=True)
class Goal:
    """What is to hold.

    Args:
        name: on the command line.
        says: what holds of a case in which nothing goes wrong.
        case: generator, empty folder, number of the case -> what went wrong.
        cases: how many make the figure of the goal.
        prepare: fills a folder for cases of some numbers, once; each finds a copy of it in its own.
    """

    name: str
    says: str
    case: Case
    cases: int
    prepare: Callable[[Path, Sequence[int]], None] | None = None


def called(arguments: list[str]) -> tuple[int | str, str]:
    """The exit code of a command in this process, and what it said; a traceback as its last line."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        try:
            code: int | str = main(arguments)
        except SystemExit as error:
            code = f"SystemExit {error.code}"
        except Exception as error:  # what a user would see as a traceback
            code = f"traceback {type(error).__name__}: {error}".split("\n")[0]
    return code, said.getvalue()


# Kills

_ADAM = ["--model.optimizer=Adam", "--model.optimizer.lr=0.001"]
_SOURCES = {
    "plain": [],
    "penalty": ["--model.reg_strength=0.01"],
    "Adam, cosine": [*_ADAM, "--model.scheduler=CosineAnnealingLR", "--model.scheduler.T_max=400"],
    "one step per call": ["--model.steps_per_call=1"],
    "dropout": ["--model.network=noisy_networks.Dropping"],
    "average": ["--trainer.callbacks=sgdlit.training.iterate_average.IterateAverage"],
    "members": ["--ensemble=[{seed_everything: [0, 1, 2]}]"],
    "single shuffle, augmented": ["--data.order=SingleShuffle", "--data.augment=true"],
    "a layer used by Python's chance": ["--model.network=noisy_networks.Coin"],
    "a layer used by numpy's chance": ["--model.network=noisy_networks.NumpysCoin"],
    "a branch on the data": ["--model.network=noisy_networks.Branching"],
    "dropout, members": ["--model.network=noisy_networks.Dropping", "--ensemble=[{seed_everything: [0, 1]}]"],
    "accumulated": ["--trainer.accumulate_grad_batches=2", *_ADAM],
    "stream, fused": [],
    "stream, members": ["--ensemble=[{model.optimizer.lr: [0.01, 0.02]}]"],
    "measures": [
        "--trainer.callbacks=sgdlit.training.measuring.Measures",
        "--trainer.callbacks.measures=[GradientNorm, CReg]",
        "--trainer.callbacks.every_n_steps=16",
        "--trainer.callbacks.examples=60",
    ],
}
_STREAM = """
model:
  class_path: sgdlit.training.module.Training
  init_args:
    network: {class_path: sgdlit.models.diagonal.DiagonalLinear, init_args: {d: 8}}
    loss: half_squared_error
    optimizer: {class_path: torch.optim.SGD, init_args: {lr: 0.01}}
data:
  class_path: sgdlit.data.teachers.LinearTeacher
  init_args: {d: 8, nonzero: 2, steps: 1000000, test_size: 20}
"""
_IN_THE_MIDDLE = ["--trainer.val_check_interval=60", "--trainer.check_val_every_n_epoch=null"]
_FORKED = 10  # all but each tenth case


def _source(runs: Runs, name: str) -> list[str]:
    """The arguments of an endless run; the base config is that of the source."""
    config = yaml.safe_load(runs.config.read_text())
    if name.startswith("stream"):
        runs.config.write_text(yaml.safe_dump(config | yaml.safe_load(_STREAM)))
        return [*ENDLESS, *_IN_THE_MIDDLE, *_SOURCES[name]]
    return [*ENDLESS, *_SOURCES[name]]


def kill(rng: random.Random, folder: Path, number: int) -> list[str]:
    """A run is killed once or twice, finished, and held against one that nothing stopped."""
    name = list(_SOURCES)[number % len(_SOURCES)]
    runs, kills = Runs(folder), 1 + number // len(_SOURCES) % 2
    own = _source(runs, name)
    for k in range(kills):
        at = runs.checkpoint("run")["global_step"] if k else 0
        given = ["fit", "--resume", str(runs.path("run"))] if k else runs.arguments("run", *own)
        process = _begun(given, folder, number)
        path = runs.path("run") / "checkpoints" / "resume.ckpt"
        was = _written(path)
        wait_until(lambda path=path, at=at, was=was: _written(path) > was and _step(runs) > at, process)
        time.sleep(rng.uniform(0, 0.3))
        process.kill()
        process.wait()
    paths = list((runs.path("run") / "checkpoints").glob("*.ckpt"))
    last = max(runs.checkpoint("run", path.stem)["global_step"] for path in paths)
    end = f"--trainer.max_steps={last + 25}"
    told = [called(["fit", "--resume", str(runs.path("run")), end])]
    told.append(called(runs.arguments("straight", *own, end)))
    if [code for code, _ in told] != [0, 0]:
        return [f"{name}: {code}, {said[-200:]}" for code, said in told]
    return [f"{name}: {difference}" for difference in run_differences(runs, "straight", "run")[:2]]


def _begun(arguments: list[str], folder: Path, number: int) -> "Fork | subprocess.Popen":
    """A command in a process of its own: a fork, and in each tenth case one that Python begins anew."""
    if number % _FORKED:
        return command(arguments, folder, folder / "out_0")
    return processes([["-m", "sgdlit", *arguments]], [{}], folder)[0]


def _written(path: Path) -> int:
    """When a file was written; 0 where there is none."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _step(runs: Runs) -> int:
    return int(runs.checkpoint("run")["global_step"])


# Mutated configs

_VALUES = (
    None, True, 0, -1, 1, 2, 0.5, -0.5, 1e308, float("nan"), float("inf"), 10**30, "", " ", "x", "../x",
    "a\nb", "1e-3", "torch.optim.SGD", [], {}, [0], [[]],
    {"class_path": "os.system"}, {"class_path": "torch.nn.Linear"},
)  # fmt: skip


def mutate(rng: random.Random, folder: Path, number: int) -> list[str]:
    """A config with one or two values changed, left out or added: it runs, or is refused without a trace."""
    runs = Runs(folder)
    config = yaml.safe_load(runs.config.read_text()) | {"name": "run"}
    config["trainer"] |= {"max_steps": 3, "limit_val_batches": 1}
    changes = [_changed(rng, config) for _ in range(1 + number % 2)]
    if isinstance(config.get("trainer"), dict):
        config["trainer"]["max_steps"] = 3  # also where it begins anew
    runs.config.write_text(yaml.safe_dump(config))
    try:
        with _alarm(600):
            code, said = called(["fit", "--config", str(runs.config)])
    except Hangs as error:
        return [f"{changes}: {error}"]
    made = (folder / "logs").exists()
    if code == 2 and made:
        return [f"{changes}: a folder was made before it was refused: {said.strip().splitlines()[-1:]}"]
    return [] if code in (0, 2) else [f"{changes}: {code}"]


def _changed(rng: random.Random, config: dict) -> str:
    """Change a place of a config; where, and to what."""
    at, path = config, []
    while True:
        path.append(rng.choice(sorted(at)) if at and rng.random() < 0.95 else "unknown")
        inner = at.get(path[-1])
        if not isinstance(inner, dict) or not inner or rng.random() < 0.2:
            break
        at = inner
    if path[-1] in ("logs", "root", "max_steps"):  # where things are, and how long the case takes
        return "nothing"
    at[path[-1]] = rng.choice(_VALUES)
    return f"{'.'.join(path)} = {at[path[-1]]!r}"


class Hangs(BaseException):
    """A case comes to no end; no program catches this."""


@contextlib.contextmanager
def _alarm(seconds: int):
    """End a case that hangs."""

    def over(number, frame):
        raise Hangs(f"hangs: nothing came of it in {seconds} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


# Damaged files

_KINDS = ("bit", "bit", "bit", "cut", "empty", "lost")


def damage(rng: random.Random, folder: Path, number: int) -> list[str]:
    """A file is cut, emptied, lost or has a bit flipped: whoever reads it says so, or is right."""
    runs = Runs(folder, write=False)
    name = list(VICTIMS)[number % len(VICTIMS)]
    victim = VICTIMS[name]
    path = rng.choice(sorted(each for pattern in victim.files for each in folder.glob(pattern)))
    whole, kind = path.read_bytes(), rng.choice(_KINDS)
    at = rng.randrange(len(whole))
    flipped = whole[:at] + bytes([whole[at] ^ (1 << rng.randrange(8))]) + whole[at + 1 :]
    if kind == "lost":
        path.unlink()
    else:
        path.write_bytes({"bit": flipped, "cut": whole[:at], "empty": b""}[kind])
    others = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and p != path}
    code, said, found = victim.act(runs, called)
    what = f"{name}: {path.name}, {kind} at {at} of {len(whole)}"
    if code == 2:
        changed = [p.name for p, content in others.items() if not p.exists() or p.read_bytes() != content]
        return [f"{what}: refused, and {changed} changed"] if changed else []
    if code != 0:
        return [f"{what}: {code} {said[-200:]}"]
    expected, found = json.loads((folder / REFERENCES).read_text())[name], json.loads(json.dumps(found))
    if kind == "lost" and victim.without is not None:
        expected = victim.without(expected, path)
    same = found == expected
    return [] if same or victim.by_hand else [f"{what}: loaded silently: {str(found)[:300]}"]


def _whole(folder: Path, numbers: Sequence[int]) -> None:
    """What these cases of ``damage`` find."""
    names = list(VICTIMS)
    prepare(folder, dict.fromkeys(names[number % len(names)] for number in numbers), called)


# Disks and pipes


def disk(rng: random.Random, folder: Path, number: int) -> list[str]:
    """Files may grow to some size only: a sentence, an exit code, and the earlier checkpoint."""
    runs, limit = Runs(folder), rng.randrange(100, 40_000)
    small = ["--model.network.widths=[784,1,10]", "--trainer.log_every_n_steps=1", "--trainer.max_steps=200"]
    if called(runs.arguments("run", *small, "--trainer.max_steps=6"))[0] != 0:
        return ["the run itself failed"]
    kept = runs.checkpoint("run")["global_step"]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        more = ["--checkpoints.every_n_steps=10", "--trainer.logger=false", "--trainer.max_steps=200"]
        code, said = called(["fit", "--resume", str(runs.path("run")), *more])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    if code not in (0, 2) or "Traceback" in said:
        return [f"{limit} bytes: {code}, {said[-300:]}"]
    there = runs.checkpoint("run")["global_step"]
    return [] if there >= kept else [f"{limit} bytes: the checkpoint is lost"]


def pipe(rng: random.Random, folder: Path, number: int) -> list[str]:
    """Standard error is closed, full, or has no reader: the run ends as it would have."""
    runs = Runs(folder)
    end = ("2>&1 | head -1", "2>/dev/full", "2>&-")[number % 3]
    command = " ".join(["exec", sys.executable, "-m", "sgdlit", *runs.arguments("run")])
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run(f"( {command} ) {end}", shell=True, cwd=folder, env=environment, capture_output=True)
    state = runs.status("run")["state"] if runs.path("run").exists() else "nothing"
    return [] if state == "finished" else [f"{end}: {state}"]


# Hostile files


def hostile(rng: random.Random, folder: Path, number: int) -> list[str]:
    """A class path of a config names what is no part of a run: nothing of it is called."""
    runs, mark = Runs(folder), folder / "executed"
    config = yaml.safe_load(runs.config.read_text())
    call = {"class_path": rng.choice(["os.system", "subprocess.getoutput", "builtins.open"])}
    call["init_args"] = {"command": f"touch {mark}", "cmd": f"touch {mark}", "file": str(mark), "mode": "w"}
    model = config["model"]["init_args"]
    places = [
        (model, key)
        for key in ("optimizer", "scheduler", "network", "objective", "transform", "reg_strength")
    ]
    places += [
        (config["data"]["init_args"], "order"),
        (config, "data"),
        (config, "model"),
        (config, "mixing"),
    ]
    places += [(config["trainer"], key) for key in ("callbacks", "logger", "plugins", "profiler", "strategy")]
    where, key = places[number % len(places)]
    wanted = {"os.system": ("command",), "subprocess.getoutput": ("cmd",), "builtins.open": ("file", "mode")}
    call["init_args"] = {k: v for k, v in call["init_args"].items() if k in wanted[call["class_path"]]}
    where[key] = [call] if key in ("callbacks", "plugins") else call
    runs.config.write_text(yaml.safe_dump(config))
    code, _ = called(["fit", "--config", str(runs.config)])
    found = [f"{key}: {call['class_path']} was executed"] if mark.exists() else []
    return found + ([f"{key}: {code}"] if code != 2 else [])


# Ranks, sweeps, options


_JOURNEYS = ((1, 2), (2, 1), (1, 2, 1), (2, 1, 2))  # processes until each stop
_XOR = [
    "--data=sgdlit.data.teachers.XOR", "--data.d=12", "--data.batch_size=16", "--data.steps=100000",
    "--data.test_size=64", "--model.loss=logistic", "--model.network.widths=[12, 16, 1]",
    *_IN_THE_MIDDLE, "--trainer.log_every_n_steps=50", "--trainer.precision=64-true", "--data.dtype=float64",
]  # fmt: skip
_SHARED = {
    "one run": (SHAPE, 8),
    "members": ([*SHAPE, "--ensemble=[{seed_everything: [0, 1, 2]}]"], 8),
    "a stream, members": ([*_XOR, "--ensemble=[{seed_everything: [0, 1, 2]}]"], 300),
}  # arguments, and steps until each stop: the end of an epoch, which is evaluated in any case
# In float32 rounding puts a neuron of the stream's ReLUs on the other side of 0 in some hundreds of steps.


def ranks(rng: random.Random, folder: Path, number: int) -> list[str]:
    """One process and two, resumed from the one to the other and back: equal to rounding."""
    name = list(_SHARED)[number % len(_SHARED)]
    own, stop = _SHARED[name]
    journey = _JOURNEYS[number // len(_SHARED) % len(_JOURNEYS)]
    runs = Runs(folder, train=69, test=21)
    given = []
    for k, count in enumerate(journey):
        begun = ["fit", "--resume", str(runs.path("run"))] if k else runs.arguments("run", *own)
        how = TWO if count == 2 else ["--trainer.devices=1", *(["--trainer.strategy=auto"] if k else [])]
        given.append((count, [*begun, *how, f"--trainer.max_steps={(k + 1) * stop}"]))
    end = f"--trainer.max_steps={len(journey) * stop}"
    given.append((1, runs.arguments("straight", *own, end)))
    for count, arguments in given:
        started = _on_ranks(count, arguments, folder, number)
        try:
            codes = [process.wait(_MOST_SECONDS) for process in started]
        except subprocess.TimeoutExpired:
            return [f"{name}, {journey}: hangs: {arguments[-3:]}"]
        if any(codes):
            said = (folder / "out_0").read_text()[-300:]
            return [f"{name}, {journey}: exit codes {codes} of {arguments[-3:]}: {said}"]
    tolerance = 1e-9 if own is _SHARED["a stream, members"][0] else 1e-5
    found = run_differences(runs, "straight", "run", tolerance=tolerance)[:2]
    return [f"{name}, {journey}: {difference}" for difference in found]


def _on_ranks(count: int, arguments: list[str], folder: Path, number: int) -> list:
    """The processes of a command: forks as ``torchrun`` starts them, else those that it starts itself."""
    if number % _FORKED == 0:
        return processes([["-m", "sgdlit", *arguments]], [{}], folder)
    if count == 1:
        return [command(arguments, folder, folder / "out_0")]
    own = rank_environments(count)
    return [command(arguments, folder, folder / f"out_{k}", each) for k, each in enumerate(own)]


def sweeps(rng: random.Random, folder: Path, number: int) -> list[str]:
    """Two or three sweeps at once on one store, all killed at some moment, and begun again.

    Every cell is then run once more at most for each process that was killed in it, and the table is that of
    an undisturbed sweep.
    """
    together, rounds = 2 + number % 2, 1 + number // 2 % 2
    store, count, killed, codes = folder / "store", 9 * together, 0, set()
    for _ in range(rounds):
        workers = [start(store, count, calls=rng.randint(2, 5)) for _ in range(together)]
        for worker in workers:
            for _ in range(rng.randint(1, 2)):
                worker.stdout.readline()
        time.sleep(rng.uniform(0.0, 0.02))
        for worker in workers:
            killed += worker.poll() is None
            worker.kill()
            worker.communicate()
            codes.add(worker.returncode)
    kept, damaged = Store(store).read()
    workers = [start(store, count) for _ in range(together)]
    told = [json.loads(worker.communicate()[0].splitlines()[-1]) for worker in workers]
    calls, (results, more) = calls_of(store), Store(store).read()
    found = [f"damaged: {damaged + more}"] if damaged + more else []
    found += [f"exit codes {codes}"] if codes - {0, -signal.SIGKILL} else []
    found += [] if len(results) == count else [f"{len(results)} of {count} cells"]
    ran = sum(each["ran"] for each in told)
    found += [] if ran == count - len(kept) else [f"{ran} cells ran where {count - len(kept)} were missing"]
    again = sum(calls.values()) - count
    found += [] if again <= killed else [f"{again} cells ran again after {killed} kills"]
    start(folder / "undisturbed", count).communicate()
    same = rows(Store(store), count) == rows(Store(folder / "undisturbed"), count)
    return found + ([] if same else ["the tables differ"])


def options(rng: random.Random, folder: Path, number: int) -> list[str]:
    """A row of docs/lightning.md."""
    every = (*CALLBACKS, *OPTIONS, *MORE)
    row = every[number % len(every)]
    before = Path.cwd()
    os.chdir(folder)
    try:
        return [f"{row.name}: {problem}" for problem in problems(Runs(folder), row, "run")]
    finally:
        os.chdir(before)


ROWS = len((*CALLBACKS, *OPTIONS, *MORE))
GOALS = (
    Goal("kills", "killed and resumed: equal to the uninterrupted run in every bit", kill, 500),
    Goal("ranks", "from one process to two and back: equal to rounding", ranks, 50),
    Goal("configs", "mutated: run, or refused in a sentence without a folder", mutate, 1500),
    Goal("damage", "damaged files: refused, or of no effect; nothing else changed", damage, 600, _whole),
    Goal("disk", "a file system that is full: a sentence, and the checkpoint is there", disk, 100),
    Goal("pipes", "standard error without a reader: the run finishes", pipe, 30),
    Goal("hostile", "class paths of strangers: nothing executed", hostile, 100),
    Goal("sweeps", "workers killed on one store: every cell once", sweeps, 50),
    Goal("options", "callbacks and options of Lightning: as docs/lightning.md says", options, ROWS),
)
