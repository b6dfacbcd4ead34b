"""Nakkiran, Neyshabur & Sedghi 2020, the deep bootstrap: training on n examples follows that on a stream."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

from sgdlit.figures.deep_bootstrap import World, draw_worlds, fitted_at, worlds_of
from sgdlit.papers.claim import Claim, Finding
from sgdlit.papers.paper import Evidence, Experiment, NoOptions, Paper, Tables, Workshop
from sgdlit.papers.support.fresh_seeds import axis, in_words
from sgdlit.runs.reading import load_run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SEEDS = 3
_LEFT = 0.02  # the bootstrap error at which a world has left the ideal one
_SMALL = [
    "--model.network.widths=[16,128,5]", "--data.widths=[16,32,5]", "--data.steps=3000",
    "--data.batch_size=32", "--data.test_size=1000", "--trainer.max_steps=3000",
    "--trainer.val_check_interval=3000", "--model.scheduler.T_max=3000", "--model.optimizer.lr=0.2",
    "--ensemble=[{data.shard_size: [200, 1000, null], data.evaluate_train: [true, true, false]},"
    f"{axis(_SEEDS)}]",
]  # fmt: skip
_WORLDS = "{data.shard_size: [1000, 5000, 20000, null], data.evaluate_train: [true, true, true, false]}"
_LARGE = [f"--ensemble=[{_WORLDS},{axis(_SEEDS)}]"]


def measure(o: NoOptions, workshop: Workshop) -> Evidence:
    """Table ``worlds``: errors over steps by number of examples, None for the stream."""
    folder = workshop.fit("worlds", "deep_bootstrap/teacher.yaml", *(_SMALL if workshop.quick else _LARGE))
    worlds = worlds_of(load_run(folder))
    finite = {size: worlds[size] for size in sorted(size for size in worlds if size is not None)}
    rows = [
        {"n": size, **row, "train_error": row.get("train_error")}
        for size, world in worlds.items()
        for row in world
    ]
    findings = [_begin_as_one(size, world) for size, world in finite.items()]
    findings += _leave_later(finite)
    findings.append(_split_when_fitted(*next(iter(finite.items()))))
    return Evidence({"worlds": rows}, findings, seeds=in_words(_SEEDS))


# On images: G16

_CNN = [
    "--model.network=sgdlit.models.SimpleCNN", "--model.network.channels=[8,16]", "--model.network.hidden=32",
    "--model.network.in_channels=3", "--model.network.image_size=16", "--model.channels_last=false",
    "--model.optimizer.lr=0.1", "--model.scheduler.T_max=1000",
    "--data.pool=2", "--data.difficulty=0.25", "--data.batch_size=32", "--data.steps=1000",
    "--data.test_size=500", "--trainer.max_steps=1000", "--trainer.val_check_interval=1000",
    "--trainer.accelerator=cpu", "--trainer.logger=false", "--trainer.enable_progress_bar=false",
]  # fmt: skip
_ALL = "{data.shard_size: [250, 1000, null], data.evaluate_train: [true, true, false]}"
_FEW = "{data.shard_size: [250, null], data.evaluate_train: [true, false]}"
_PLAIN, _AUGMENTED = (f"--ensemble=[{worlds},{axis(_SEEDS)}]" for worlds in (_ALL, _FEW))
_FITTED, _APART = 0.1, 0.05


def measure_images(o: NoOptions, workshop: Workshop) -> Evidence:
    """Table ``images``: errors over steps, without and with augmentation, by number of examples."""
    config, small = "deep_bootstrap/shapes.yaml", workshop.quick
    plain = workshop.fit("images", config, *([*_CNN, _PLAIN] if small else _LARGE))
    workshop.progress("ensembles", 1, 2)
    more = [*_CNN, _AUGMENTED] if small else _LARGE
    augmented = workshop.fit("images_augmented", config, *more, "--data.augment=true")
    workshop.progress("ensembles", 2, 2)
    worlds = {False: worlds_of(load_run(plain)), True: worlds_of(load_run(augmented))}
    rows = [
        {"augmented": augment, "n": size, **row, "train_error": row.get("train_error")}
        for augment, own in worlds.items()
        for size, world in own.items()
        for row in world
    ]
    finite = {
        size: worlds[False][size] for size in sorted(size for size in worlds[False] if size is not None)
    }
    return Evidence({"images": rows}, _about_images(finite, worlds[True]), seeds=in_words(_SEEDS))


def _about_images(finite: dict[int, World], augmented: dict[int | None, World]) -> list[Finding]:
    """G16."""
    findings = []
    for size, world in finite.items():
        early = [row["gap"] for row in world if row["train_error"] > _FITTED]
        mean = sum(early) / len(early)
        statement = f"n = {size}: mean bootstrap error while the training error is above {_FITTED}"
        findings.append(
            Finding("G16", statement, "0 ± 0.03", f"{mean:+.3f}", abs(mean) < 0.03, _over_time(early))
        )
    few, *_, more = finite
    ends, statement = [finite[n][-1]["gap"] for n in (few, more)], f"at the end, n = {few}"
    left = [leaves_at(finite[n], _APART) for n in (few, more)]
    steps = [math.inf if step is None else step for step in left]
    shown = ", ".join("never" if step is None else str(step) for step in left)
    last = augmented[few][-1]
    fitted = [_fitted_to(world, _FITTED) for world in (finite[few], augmented[few])]
    return [
        *findings,
        Finding("G16", f"bootstrap error {statement}", "> 0.1", f"{ends[0]:.3f}", ends[0] > 0.1,
                _interval_of(finite[few][-1])),
        Finding("G16", f"bootstrap error {statement}, and for n = {more}", "the first above twice the second",
                f"{ends[0]:.3f} and {ends[1]:.3f}", ends[0] > 2 * ends[1], _interval_of(finite[more][-1])),
        Finding("G16", f"step from which it stays above {_APART}, n = {few} and {more}", "rises", shown,
                steps[0] < steps[1], "none: an evaluated step of the mean over seeds"),
        Finding("G16", f"n = {few}: step with a training error of {_FITTED}, without and with augmentation",
                "later with it", " and ".join("none" if step is None else str(step) for step in fitted),
                fitted[0] is not None and fitted[0] < (fitted[1] or math.inf),
                "none: an evaluated step of the mean over seeds",
                f"at the end of the augmented runs it is {last['train_error']:.2f}, and the bootstrap error "
                f"{last['gap']:+.2f}, in an interval from {last['gap_low']:.2f} to {last['gap_high']:.2f}"),
    ]  # fmt: skip


def _fitted_to(world: World, error: float) -> int | None:
    """The first evaluated step with such a training error or less."""
    return next((int(row["step"]) for row in world if row["train_error"] <= error), None)


def _over_time(gaps: list[float]) -> str:
    return f"none: a mean over {len(gaps)} evaluations, {min(gaps):+.3f} to {max(gaps):+.3f}"


def draw_images(tables: Tables) -> dict[str, Figure]:
    """Test error and bootstrap error over steps, without augmentation."""
    rows = [row for row in tables["images"] if not row["augmented"]]
    plain = [{k: v for k, v in row.items() if k != "augmented"} for row in rows]
    return {"images": draw({"worlds": plain})["worlds"]}


def leaves_at(world: World, by: float = _LEFT) -> int | None:
    """The first evaluated step from which on the bootstrap error stays above ``by``; None if it does not."""
    found = None
    for row in reversed(world):
        if row["gap"] <= by:
            break
        found = int(row["step"])
    return found


def _begin_as_one(size: int, world: World) -> Finding:
    """Over the first hundred steps even few examples are as good as new ones, on average over evaluations."""
    early = [row["gap"] for row in world if row["step"] <= 120]
    mean, end = abs(sum(early) / len(early)), world[-1]["gap"]
    statement = f"n = {size}: size of the mean bootstrap error up to step 120, and that at the end"
    holds, found = mean < 0.03 < end, f"{mean:.3f} and {end:.3f}"
    return Finding("DB1", statement, "below and above 0.03", found, holds, _interval_of(world[-1]))


def _leave_later(finite: dict[int, World]) -> list[Finding]:
    """More examples leave the ideal world later, and end closer to it."""
    leaves = [leaves_at(world) for world in finite.values()]
    steps = [float("inf") if step is None else step for step in leaves]
    rises = steps[0] < float("inf") and all(a < b or a == b == float("inf") for a, b in pairwise(steps))
    names = ", ".join(str(size) for size in finite)
    shown = ", ".join("never" if step is None else str(step) for step in leaves)
    few, more = (world[-1] for world in list(finite.values())[:2])
    sizes = list(finite)[:2]
    end = f"bootstrap error at the end, n = {sizes[0]} over n = {sizes[1]}"
    return [
        Finding(
            "DB2", f"step from which the bootstrap error stays above {_LEFT}, n = {names}", "rises", shown,
            rises, "none: an evaluated step of the mean over seeds",
        ),
        Finding("DB2", f"low end of the bootstrap error at the end, n = {sizes[0]}", "> 0",
                f"{few['gap_low']:.3f}", few["gap_low"] > 0, _interval_of(few)),
        Finding("DB2", end, "> 2", f"{few['gap'] / more['gap']:.2f}", few["gap"] > 2 * more["gap"],
                "none: a ratio of means over seeds"),
    ]  # fmt: skip


def _split_when_fitted(size: int, world: World) -> Finding:
    left, fitted = leaves_at(world), fitted_at(world)
    holds = left is not None and fitted is not None and 0.25 < left / fitted < 4
    statement = f"n = {size}: steps at which it leaves the ideal world, and has fitted 99 % of its examples"
    interval = "none: evaluated steps of means over seeds"
    return Finding("DB3", statement, "within a factor of 4", f"{left} and {fitted}", holds, interval)


def _interval_of(row: dict[str, float]) -> str:
    return f"{row['gap_low']:.3f} to {row['gap_high']:.3f} at the end (95 %, over seeds)"


def draw(tables: Tables) -> dict[str, Figure]:
    """Test error and bootstrap error over steps."""
    worlds: dict[int | None, World] = {}
    for row in tables["worlds"]:
        worlds.setdefault(row["n"], []).append({k: v for k, v in row.items() if k != "n" and v is not None})
    return {"worlds": draw_worlds(worlds)}


_QUICK = "an MLP 16–128–5 on labels of a random MLP, n = 200 and 1000, 3000 steps, three seeds"
_FULL = "an MLP 32–256–10, n = 1000, 5000 and 20 000, 20 000 steps, three seeds"


def _claim(identity: str, statement: str, prediction: str) -> Claim:
    source = "Nakkiran, Neyshabur & Sedghi 2020, arXiv 2010.08127"
    config = "deep_bootstrap/teacher.yaml"
    return Claim(identity, statement, source, "trained", prediction, _QUICK, _FULL, config)


PAPER = Paper(
    "nakkiran2020",
    "Nakkiran, Neyshabur & Sedghi 2020, The deep bootstrap framework, arXiv 2010.08127",
    (
        Experiment(
            "worlds",
            (
                _claim("DB1", "all worlds begin as one", "a mean bootstrap error below 0.03 up to step 120"),
                _claim(
                    "DB2",
                    "more examples leave the ideal world later and end closer to it",
                    "later steps; half the bootstrap error at the end",
                ),
                _claim(
                    "DB3",
                    "the worlds part when the training error becomes small",
                    "within a factor of four of the step at which 99 % are fitted",
                ),
            ),
            measure,
            draw,
        ),
        Experiment(
            "images",
            (
                Claim(
                    "G16",
                    "on images the worlds part when the training set is fitted: later with more data, and "
                    "with augmentation, which delays the fit",
                    "Nakkiran, Neyshabur & Sedghi 2020, arXiv 2010.08127; Grosse, CSC 2541 lecture 7, G16",
                    "trained",
                    "a mean bootstrap error of 0 ± 0.03 until a training error of 0.1, above 0.1 at the end, "
                    "half of it or less with four times the data; a later fit with augmentation",
                    "a CNN of two convolutions on the built-in images in 16×16, n = 250 and 1000, B = 32, "
                    "ε = 0.1, 1000 steps, three seeds",
                    "WRN-10-1 on the built-in images, n = 1000, 5000 and 20 000, also augmented",
                    "deep_bootstrap/shapes.yaml",
                ),
            ),
            measure_images,
            draw_images,
        ),
    ),
)
