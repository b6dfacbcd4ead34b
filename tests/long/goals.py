"""The goals of ``python -m tests.long``: each breaks the program in one way, case by case.

A case is a function of a random generator and an empty folder; it returns what went wrong, in words, and
nothing where all is well. Everything that a case does follows from the seed and the case's number.
"""

import contextlib
import io
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml
from fit_runs import PATIENCE, Runs, processes, run_differences, wait_until
from kills import ENDLESS, kill_workers
from lightning_rows import CALLBACKS, MORE, OPTIONS, problems
from two_ranks import SHAPE, TWO

from sgdlit.cli.main import main

Case = Callable[[random.Random, Path, int], list[str]]


@dataclass(frozen=True)
class Goal:
    """What is to hold.

    Args:
        name: on the command line.
        says: what holds of a case in which nothing goes wrong.
        case: generator, empty folder, number of the case -> what went wrong.
        cases: how many make the figure of the goal.
    """

    name: str
    says: str
    case: Case
    cases: int


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

_SOURCES = {
    "plain": [],
    "penalty": ["--model.reg_strength=0.01"],
    "Adam, cosine": [
        "--model.optimizer=Adam", "--model.optimizer.lr=0.001",
        "--model.scheduler=CosineAnnealingLR", "--model.scheduler.T_max=400",
    ],
    "one step per call": ["--model.steps_per_call=1"],
    "dropout": ["--model.network=noisy_networks.Dropping"],
    "average": ["--trainer.callbacks=sgdlit.training.iterate_average.IterateAverage"],
    "members": ["--ensemble=[{seed_everything: [0, 1, 2]}]"],
    "single shuffle, augmented": ["--data.order=SingleShuffle", "--data.augment=true"],
}  # fmt: skip


def kill(rng: random.Random, folder: Path, number: int) -> list[str]:
    """A run is killed once or twice, finished, and held against one that nothing stopped."""
    name, own = list(_SOURCES.items())[number % len(_SOURCES)]
    runs, kills = Runs(folder), 1 + number % 2
    for k in range(kills):
        at = runs.checkpoint("run")["global_step"] if k else 0
        given = ["fit", "--resume", str(runs.path("run"))] if k else runs.arguments("run", *ENDLESS, *own)
        (process,) = processes([["-m", "sgdlit", *given]], [{}], folder)
        path = runs.path("run") / "checkpoints" / "resume.ckpt"
        wait_until(lambda path=path, at=at: path.exists() and _step(runs) > at, process)
        time.sleep(rng.uniform(0, 0.3))
        process.kill()
        process.wait()
    paths = list((runs.path("run") / "checkpoints").glob("*.ckpt"))
    last = max(runs.checkpoint("run", path.stem)["global_step"] for path in paths)
    end = f"--trainer.max_steps={last + 25}"
    codes = [called(["fit", "--resume", str(runs.path("run")), end])[0]]
    codes.append(called(runs.arguments("straight", *ENDLESS, *own, end))[0])
    if codes != [0, 0]:
        return [f"{name}: exit codes {codes}"]
    return [f"{name}: {difference}" for difference in run_differences(runs, "straight", "run")[:2]]


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
    runs.config.write_text(yaml.safe_dump(config))
    with _alarm(120):
        code, said = called(["fit", "--config", str(runs.config)])
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


@contextlib.contextmanager
def _alarm(seconds: int):
    """End a case that hangs."""

    def over(number, frame):
        raise TimeoutError(f"hangs: nothing came of it in {seconds} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


# Damaged files

_TARGETS = ("checkpoints/resume.ckpt", "metrics.csv", "config.yaml")


def damage(rng: random.Random, folder: Path, number: int) -> list[str]:
    """A file of a finished run is cut, emptied or has a bit flipped: a resumed run says so, or is right."""
    runs = Runs(folder)
    for name, steps in (("run", 9), ("straight", 12)):
        if called(runs.arguments(name, f"--trainer.max_steps={steps}"))[0] != 0:
            return ["the run itself failed"]
    path = runs.path("run") / _TARGETS[number % len(_TARGETS)]
    whole = path.read_bytes()
    at, kind = rng.randrange(len(whole)), ("bit", "cut", "empty", "lost")[rng.randrange(4)]
    flipped = whole[:at] + bytes([whole[at] ^ (1 << rng.randrange(8))]) + whole[at + 1 :]
    if kind == "lost":
        path.unlink()
    else:
        path.write_bytes({"bit": flipped, "cut": whole[:at], "empty": b""}[kind])
    others = {p: p.read_bytes() for p in runs.path("run").rglob("*") if p.is_file() and p != path}
    code, said = called(["fit", "--resume", str(runs.path("run")), "--trainer.max_steps=12"])
    what = f"{path.name}, {kind} at {at} of {len(whole)}"
    if code == 2:
        changed = [p.name for p, content in others.items() if not p.exists() or p.read_bytes() != content]
        return [f"{what}: refused, and {changed} changed"] if changed else []
    if code != 0:
        return [f"{what}: {code} {said[-200:]}"]
    if path.name == "config.yaml":  # what a person may change; a change is kept beside it
        return []
    return [f"{what}: loaded silently: {d}" for d in run_differences(runs, "straight", "run")[:1]]


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


def ranks(rng: random.Random, folder: Path, number: int) -> list[str]:
    """One process and two, resumed from the one to the other: equal to rounding."""
    runs, stop = (
        Runs(folder, train=69, test=21),
        ["--trainer.max_steps=8"],
    )  # the end of an epoch, which is evaluated in any case
    first, then = ((TWO, []), ([], TWO))[number % 2]
    given = [runs.arguments("run", *SHAPE, *first, *stop)]
    given.append(["fit", "--resume", str(runs.path("run")), *(then or ["--trainer.devices=1"])])
    given[1] += ["--trainer.max_steps=20", *([] if then else ["--trainer.strategy=auto"])]
    given.append(runs.arguments("straight", *SHAPE))
    for arguments in given:
        (process,) = processes([["-m", "sgdlit", *arguments]], [{}], folder)
        if process.wait(PATIENCE):
            return [f"{arguments[-3:]}: {(folder / 'out_0').read_text()[-300:]}"]
    return run_differences(runs, "straight", "run", tolerance=1e-5)[:2]


def sweeps(rng: random.Random, folder: Path, number: int) -> list[str]:
    """Workers on one store are killed: every cell once, and the table of an undisturbed sweep."""
    try:
        kill_workers(folder, kills=2)
    except AssertionError as error:
        return [str(error).split("\n")[0] or "the tables differ"]
    return []


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
    Goal("damage", "damaged files: refused, or of no effect; nothing else changed", damage, 600),
    Goal("disk", "a file system that is full: a sentence, and the checkpoint is there", disk, 100),
    Goal("pipes", "standard error without a reader: the run finishes", pipe, 30),
    Goal("hostile", "class paths of strangers: nothing executed", hostile, 100),
    Goal("sweeps", "workers killed on one store: every cell once", sweeps, 50),
    Goal("options", "callbacks and options of Lightning: as docs/lightning.md says", options, ROWS),
)
