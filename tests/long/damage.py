"""What is damaged, of a run, its data, a sweep and a paper, and which command then has to notice."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fit_runs import PARTS, Runs
from official_formats import write_fashion_mnist
from sweep_runs import CONFIG as SWEEP

import sgdlit
from sgdlit.foundations.errors import UserError
from sgdlit.measures import load
from sgdlit.papers import record

Called = Callable[[list[str]], tuple[int | str, str]]
Act = Callable[[Runs, Called], tuple[int | str, str, Any]]
"""Calls a command: its exit code, what it said, and what came of it, in plain types."""

REFERENCES = "references.json"


@dataclass(frozen=True)
class Victim:
    """Files that are damaged, and what looks at them.

    Args:
        origin: what makes them, one of ``_MAKERS``.
        files: patterns, below the folder of the case.
        act: what is called.
        by_hand: whether a person may change the file: a change that is readable counts.
        without: where a person may remove the file, what the act then has to find: what it finds of the
            whole, and the file -> what is left.
    """

    origin: str
    files: tuple[str, ...]
    act: Act
    by_hand: bool = False
    without: Callable[[Any, Path], Any] | None = None


def resume(name: str) -> Act:
    """A run goes on to step 12."""

    def act(runs: Runs, called: Called) -> tuple[int | str, str, Any]:
        code, said = called(["fit", "--resume", str(runs.path(name)), "--trainer.max_steps=12"])
        return code, said, _fingerprint(runs, name) if code == 0 else None

    return act


def fresh(root: str) -> Act:
    """A new run on the data."""

    def act(runs: Runs, called: Called) -> tuple[int | str, str, Any]:
        code, said = called(
            runs.arguments("new", "--trainer.max_steps=6", f"--data.root={runs.folder / root}")
        )
        return code, said, _fingerprint(runs, "new") if code == 0 else None

    return act


def evaluate(runs: Runs, called: Called) -> tuple[int | str, str, Any]:
    """The test set with the best checkpoint; the name of another, where there is no best."""
    code, said = called(["test", "--run", str(runs.path("run"))])
    if code:
        return code, said, None
    facts = json.loads((runs.path("run") / "test.json").read_text())
    return code, said, facts if "best.ckpt" in facts["checkpoint"] else facts["checkpoint"]


def measure(runs: Runs, called: Called) -> tuple[int | str, str, Any]:
    """A measure of all snapshots."""
    given = ["--run", str(runs.path("run")), "--measures", "GradientNorm", "--at", "all"]
    code, said = called(["measure", *given])
    return code, said, (runs.path("run") / "measures.csv").read_text() if code == 0 else None


def arrays(runs: Runs, called: Called) -> tuple[int | str, str, Any]:
    """The arrays of the run's measures."""
    try:
        found = load(sgdlit.load_run(runs.path("run")))
    except UserError as error:
        return 2, str(error), None
    plain = {
        k: [v.about, v.steps.tolist(), [np.asarray(a).tolist() for a in v.values]] for k, v in found.items()
    }
    return 0, "", plain


def members(runs: Runs, called: Called) -> tuple[int | str, str, Any]:
    """How the run ended, as a script reads it."""
    try:
        run = sgdlit.load_run(runs.path("run"))
        return 0, "", [run.state, [[member.step, member.reached] for member in run.members]]
    except UserError as error:
        return 2, str(error), None


def sweep(runs: Runs, called: Called) -> tuple[int | str, str, Any]:
    """The sweep once more: what is not whole is run again."""
    before = Path.cwd()
    os.chdir(runs.folder)
    try:
        code, said = called(["sweep", "--config", "tiny.yaml"])
        if code == 0:
            code, more = called(["figure", "--config", "tiny.yaml"])
            said += more
    finally:
        os.chdir(before)
    if code:
        return code, said, None
    store = runs.folder / "sweeps/tiny"
    kept = [json.loads(path.read_text()) for path in sorted(store.glob("runs/*.json"))]
    for each in kept:
        each["metrics"].pop("train/steps_per_second", None)
    reached = [[each[name] for name in ("key", "point", "seed", "state", "metrics")] for each in kept]
    return 0, said, [reached, (store / "table.csv").read_text()]


def findings(runs: Runs, called: Called) -> tuple[int | str, str, Any]:
    """The findings of a paper, as the list and the page read them."""
    try:
        return 0, "", record.read(runs.folder / "reproduce" / "blog")
    except UserError as error:
        return 2, str(error), None


def _without_array(found: Any, path: Path) -> Any:
    """One step less, or a name less where nobody knows what its arrays are."""
    name, own = path.parent.name, dict(found)
    about, steps, values = own.pop(name)
    if path.name == "about.json":
        return own
    kept = [k for k, step in enumerate(steps) if step != int(path.stem.removeprefix("step_"))]
    return own | {name: [about, [steps[k] for k in kept], [values[k] for k in kept]]}


def _without_snapshot(found: str, path: Path) -> str:
    """No row of its step, unless the checkpoint is of the same step."""
    step = str(int(path.stem.removeprefix("step_")))
    return "".join(row for row in found.splitlines(keepends=True) if row.split(",")[0] != step)


def _without_best(found: Any, path: Path) -> str:
    """The last checkpoint, under its name."""
    return f"{path.with_name('resume.ckpt')} (step 9)"


_RUN = "logs/run/version_0"
VICTIMS = {
    "resume.ckpt": Victim("run", (f"{_RUN}/checkpoints/resume.ckpt",), resume("run")),
    "metrics.csv": Victim("run", (f"{_RUN}/metrics.csv",), resume("run")),
    "config.yaml": Victim("run", (f"{_RUN}/config.yaml",), resume("run"), by_hand=True),
    "status.json": Victim("run", (f"{_RUN}/status.json",), members),
    "best.ckpt": Victim("run", (f"{_RUN}/checkpoints/best.ckpt",), evaluate, without=_without_best),
    "snapshots": Victim("run", (f"{_RUN}/snapshots/*.ckpt",), measure, without=_without_snapshot),
    "arrays": Victim("run", (f"{_RUN}/measures/*/*",), arrays, without=_without_array),
    "gzipped data": Victim("run", ("fashion-mnist/*.gz",), fresh(".")),
    "unpacked data": Victim("raw", ("raw/fashion-mnist/*",), resume("raw")),
    "npz data": Victim("npz", ("mine.npz",), resume("npz")),
    "results of a sweep": Victim("sweep", ("sweeps/tiny/runs/*.json",), sweep),
    "curves of a sweep": Victim("sweep", ("sweeps/tiny/curves/*.npz",), sweep),
    "plan of a sweep": Victim("sweep", ("sweeps/tiny/plan.json", "sweeps/tiny/store.json"), sweep),
    "claims.json": Victim("paper", ("reproduce/blog/claims.json",), findings, without=lambda *_: {}),
}


def prepare(folder: Path, names: Iterable[str], called: Called) -> None:
    """Make what some victims need, and keep what the act of each finds of it when it is whole."""
    runs, references, whole = Runs(folder), {}, folder.with_name("whole")
    for origin in dict.fromkeys(VICTIMS[name].origin for name in names):
        code, said = _MAKERS[origin](runs, called)
        assert code == 0, f"{origin}: {said}"
    for name in names:
        shutil.copytree(folder, whole)
        code, said, references[name] = VICTIMS[name].act(runs, called)
        assert code == 0, f"{name}: {said}"
        shutil.rmtree(folder)
        whole.rename(folder)
    (folder / REFERENCES).write_text(json.dumps(references))


_SHORT = "--trainer.max_steps=9"
_KEPT = [
    "--checkpoints.snapshots.first=2", "--checkpoints.snapshots.per_doubling=1",
    "--trainer.callbacks=sgdlit.training.measuring.Measures", "--trainer.callbacks.every_n_steps=4",
    "--trainer.callbacks.measures=[ExampleNorms]",
]  # fmt: skip


def _raw(runs: Runs, called: Called) -> tuple[int | str, str]:
    root = runs.folder / "raw"
    write_fashion_mnist(root, 70, 20, gz=False)
    return called(runs.arguments("raw", _SHORT, f"--data.root={root}"))


def _npz(runs: Runs, called: Called) -> tuple[int | str, str]:
    x, y = np.random.default_rng(0).normal(size=(40, 784)), np.arange(40) % 10
    path = sgdlit.save_arrays(runs.folder / "mine.npz", x, y, x[:10], y[:10])
    data = ["--data=sgdlit.data.arrays.Arrays", f"--data.path={path}", "--data.batch_size=10"]
    return called(runs.arguments("npz", _SHORT, *data, "--data.val_size=10"))


def _sweep(runs: Runs, called: Called) -> tuple[int | str, str]:
    (runs.folder / "tiny.yaml").write_text(SWEEP)
    code, said, _ = sweep(runs, called)
    return code, said


_MAKERS: dict[str, Callable[[Runs, Called], tuple[int | str, str]]] = {
    "run": lambda runs, called: called(runs.arguments("run", _SHORT, *_KEPT)),
    "raw": _raw,
    "npz": _npz,
    "sweep": _sweep,
    "paper": lambda runs, called: called(["reproduce", "blog:B10", "--out", str(runs.folder / "reproduce")]),
}


def _fingerprint(runs: Runs, name: str) -> Any:
    """Everything that a run reached, of which no bit may differ."""
    content = runs.checkpoint(name)
    state = hashlib.blake2b(digest_size=16)
    _digest({part: content[part] for part in PARTS}, state)
    return [state.hexdigest(), runs.rows(name), runs.status(name)]


def _digest(tree: Any, state: Any) -> None:
    if isinstance(tree, dict):
        for key in sorted(tree, key=str):
            state.update(str(key).encode())
            _digest(tree[key], state)
    elif isinstance(tree, list | tuple):
        for part in tree:
            _digest(part, state)
    else:
        state.update(tree.numpy().tobytes() if isinstance(tree, torch.Tensor) else repr(tree).encode())
