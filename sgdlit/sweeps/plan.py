"""Which runs a sweep has: its grids times its seeds, each an ordinary ``fit`` config with a key of its own.

The key of a run is a hash of what decides its numbers, and its seed. Names, folders, what is logged how
often, devices, engines and strategies do not decide them; a value that is null is as good as absent, so that
a new option of a class leaves old keys as they are.
"""

import copy
import difflib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sgdlit.config.axes import Point, apply, expand, places_of
from sgdlit.config.keys import flat_settings
from sgdlit.config.limits import check_values
from sgdlit.config.options import Places
from sgdlit.foundations.errors import UserError
from sgdlit.foundations.files import write_atomically
from sgdlit.foundations.seals import sealed, unsealed
from sgdlit.sweeps.options import SweepOptions
from sgdlit.sweeps.store import Store

if TYPE_CHECKING:
    from jsonargparse import Namespace

# And seed_everything, which stands beside the hash.
_DECIDING = ("model", "data", "trainer", "init_seed", "init_from", "init_fresh", "init_member")
_NOT_DECIDING = (
    # where it runs
    "accelerator", "devices", "num_nodes", "strategy", "plugins", "use_distributed_sampler",
    "default_root_dir",
    # what it says
    "logger", "log_every_n_steps", "enable_progress_bar", "enable_model_summary", "enable_checkpointing",
    "enable_autolog_hparams", "profiler", "detect_anomaly", "model_registry",
)  # fmt: skip
_SPEED_AND_PLACE = ("engine", "steps_per_call", "page_minibatches", "storage", "eval_batch_size", "root")
_REPORTING_CALLBACKS = (
    "DeviceStatsMonitor", "LearningRateMonitor", "ModelCheckpoint", "ModelSummary", "ProgressBar",
    "RichModelSummary", "RichProgressBar", "TQDMProgressBar", "ThroughputMonitor",
)  # fmt: skip
_HASH_DIGITS = 16


@dataclass(frozen=True)
class Cell:
    """One run of a sweep.

    Args:
        key: hash of its config without the seed, and the seed.
        point: the values of the axes, without the seed.
        seed: ``seed_everything``.
        fit_config: the whole ``fit`` config; None in a plan that was read from a file.
    """

    key: str
    point: Point
    seed: int
    fit_config: "Namespace | None" = None

    @property
    def config(self) -> "Namespace":
        """The whole ``fit`` config.

        Raises:
            RuntimeError: in a plan that was read from a file.
        """
        if self.fit_config is None:
            raise RuntimeError(f"cell {self.key}: a plan that was read from a file has no configs")
        return self.fit_config


@dataclass(frozen=True)
class Plan:
    """The runs of a sweep.

    Args:
        grids: the cells of each grid, a point's seeds beside each other; grids may share cells.
        settings: every value of the config without axes, under its short key.
        inputs: fingerprint of what the plan was made from.
        together: most cells that are trained in one call; None: as :mod:`sgdlit.sweeps.calls` says.
    """

    grids: dict[str, list[Cell]]
    settings: dict[str, Any]
    inputs: str
    together: int | None = 1

    @cached_property
    def cells(self) -> list[Cell]:
        """Every cell once, in the order in which they are run."""
        return list({cell.key: cell for cells in self.grids.values() for cell in cells}.values())

    def value(self, cell: Cell, key: str) -> Any:
        """What a cell has at a short key of the config.

        Raises:
            UserError: no config of the sweep has such a key.
        """
        if key == "seed_everything":
            return cell.seed
        if key in cell.point:
            return cell.point[key]
        self.check_key(key, "sweep.figures")
        return self.settings.get(key)

    def check_key(self, key: str, where: str) -> None:
        """Refuse a key that no config of the sweep has.

        Raises:
            UserError: with the nearest name.
        """
        if key not in self._keys and key != "seed_everything":
            last = key.rpartition(".")[2]
            near = [k for k in self._keys if k.rpartition(".")[2] == last]
            near = near or difflib.get_close_matches(key, self._keys, n=1)
            meant = f"; did you mean {near[0]}?" if near else ""
            raise UserError(f"{where}: {key!r} is no key of the config{meant}")

    @cached_property
    def _keys(self) -> dict[str, None]:
        """Every key of a config, in the order of axes and settings."""
        axes = {k: None for cells in self.grids.values() for cell in cells for k in cell.point}
        return axes | dict.fromkeys(self.settings)


def make_plan(config: "Namespace", options: SweepOptions, inputs: str) -> Plan:
    """Expand and check every grid; nothing is run.

    Args:
        config: the parsed ``fit`` config.
        options: the section ``sweep:``.
        inputs: fingerprint of what both were read from.

    Raises:
        UserError: an axis that is none, a key or value that the config does not take, points that are one
            run.
    """
    if config.get("ensemble"):
        raise UserError("ensemble: a sweep makes its own ensembles; write its axes as a grid of sweep.grids")
    if config.get("mixing"):
        raise UserError("mixing: the runs of a sweep do not touch each other; allowed: null")
    from sgdlit.training.joining import axis_options

    grids, places = {}, places_of(config, axis_options())
    for name, axes in options.grids.items():
        where = f"sweep.grids.{name}"
        points = expand(axes, where)
        if any("seed_everything" in point for point in points):
            raise UserError(
                f"{where}: seed_everything is the same axis for all grids: write it as sweep.seeds"
            )
        grids[name] = [c for point in points for c in _cells(config, places, point, options.seeds, where)]
        _refuse_one_run(grids[name], where)
    return Plan(grids, flat_settings(config.as_dict()), inputs, options.together)


def _cells(config: "Namespace", places: Places, point: Point, seeds: Sequence[int], where: str) -> list[Cell]:
    """The cells of one point, one per seed."""
    try:
        changed = apply(config, point, places.options, places)
        _check_trainer(changed.trainer)
        cells, digest = [], digest_of(changed)
        for seed in seeds:
            own = copy.copy(changed)
            own["seed_everything"] = seed
            check_values(own)
            cells.append(Cell(f"{digest}-{seed}", point, seed, own))
        return cells
    except UserError as error:
        raise UserError(f"{where}: {error}") from error


def _refuse_one_run(cells: Sequence[Cell], where: str) -> None:
    """Refuse points of a grid that differ in nothing that decides a run's numbers: they have one key.

    Raises:
        UserError: naming where they differ.
    """
    points: dict[str, Point] = {}
    for cell in cells:
        other = points.setdefault(cell.key, cell.point)
        apart = {k: v for k, v in cell.point.items() if _canonical(v) != _canonical(other.get(k))}
        for key, value in apart.items():
            raise UserError(
                f"{where}: {key}: {other.get(key)} and {value} are one run, since {key} is no part of what "
                "decides a run's numbers; allowed: axes over what does, or a sweep for each"
            )


def _check_trainer(trainer: Mapping[str, Any]) -> None:
    devices, nodes = trainer["devices"], trainer["num_nodes"]
    count = len(devices) if isinstance(devices, list) else devices
    if nodes != 1 or count not in ("auto", -1, "-1", 1, "1"):
        raise UserError(
            f"trainer.devices: {devices}, trainer.num_nodes: {nodes}: a sweep trains each run on one device; "
            "allowed: 1, with several runs at once by --jobs or --launcher slurm"
        )
    if trainer["fast_dev_run"]:
        raise UserError("trainer.fast_dev_run: a run that keeps nothing has no result; allowed: false")


# Keys


def key_of(config: "Namespace") -> str:
    """``HASH-SEED`` of a ``fit`` config."""
    return f"{digest_of(config)}-{config['seed_everything']}"


def digest_of(config: "Namespace") -> str:
    """Hash of what decides the numbers of a ``fit`` config, but for the seed."""
    return _digest(_deciding(config))


def _digest(content: Any) -> str:
    text = json.dumps(_canonical(content), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_HASH_DIGITS]


def _deciding(config: "Namespace") -> dict[str, Any]:
    """What decides the numbers of a config, but for the seed."""
    parts = {name: _plain(config.get(name)) for name in _DECIDING}
    trainer = {k: v for k, v in (parts["trainer"] or {}).items() if k not in _NOT_DECIDING}
    parts["trainer"] = trainer | {"callbacks": _deciding_callbacks(trainer.get("callbacks"))}
    for name in ("model", "data"):
        part = parts[name] or {}
        init_args = {k: v for k, v in (part.get("init_args") or {}).items() if k not in _SPEED_AND_PLACE}
        parts[name] = {**part, "init_args": init_args}
    return parts


def _plain(value: Any) -> Any:
    return value.as_dict() if hasattr(value, "as_dict") else value


def _deciding_callbacks(callbacks: Any) -> list[Any]:
    given = callbacks if isinstance(callbacks, list) else [callbacks] if callbacks else []
    return [c for c in map(_plain, given) if c["class_path"].rpartition(".")[2] not in _REPORTING_CALLBACKS]


def _canonical(value: Any) -> Any:
    """The same for the same meaning: 1 and 1.0, tuples and lists, and null like nothing at all."""
    value = _plain(value)
    if isinstance(value, Mapping):
        kept = {str(k): _canonical(v) for k, v in value.items()}
        return {k: v for k, v in kept.items() if v is not None and v != {} and v != []}
    if isinstance(value, list | tuple):
        return [_canonical(v) for v in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, bool | int | float | str | None) else str(value)


# Groups


def groups(plan: Plan) -> list[list[Cell]]:
    """All cells, those beside each other that are trained in one call.

    Together go cells that differ in nothing but seeds, the numbers of optimizer and schedule, and the
    strength of a regularizer that all of them have. Which those are does not depend on what is stored.
    """
    alike: dict[str, list[Cell]] = {}
    kinds: dict[tuple[str, ...], str] = {}  # by the hash of a key, which the seeds of a point share
    for cell in plan.cells:
        point = (cell.key.rpartition("-")[0], *sorted(cell.point))
        if point not in kinds:
            kinds[point] = _kind(cell)
        alike.setdefault(kinds[point], []).append(cell)
    calls = []
    for cells in alike.values():
        size = plan.together or _as_many_as_pay(cells[0])
        calls += [cells[i : i + size] for i in range(0, len(cells), size)]
    return calls


def _as_many_as_pay(cell: Cell) -> int:
    from sgdlit.sweeps.calls import runs_in_a_call  # which imports torch

    return runs_in_a_call(cell.config)


def _kind(cell: Cell) -> str:
    """The same for cells that can be trained together: hash of what they may not differ in."""
    parts = _deciding(cell.config)
    model, data = dict(parts["model"]["init_args"]), parts["data"]["init_args"]
    for name in ("optimizer", "scheduler"):
        if isinstance(model.get(name), dict):
            model[name] = {k: v for k, v in model[name].items() if k != "init_args"}
    strength = model.get("reg_strength")
    model["reg_strength"] = strength.get("class_path") if isinstance(strength, dict) else bool(strength)
    parts["model"] = {**parts["model"], "init_args": model}
    own = {k: v for k, v in data.items() if not k.endswith("seed")}
    parts["data"] = {**parts["data"], "init_args": own}
    return _digest({**parts, "init_seed": None, "keys": sorted(cell.point)})


# The plan on the disk


def write_plan(plan: Plan, store: Store) -> None:
    """Keep a plan in the store, for whoever draws from it later."""
    content = {
        "inputs": plan.inputs,
        "grids": {name: [[c.key, c.point, c.seed] for c in cells] for name, cells in plan.grids.items()},
        "settings": plan.settings,
    }
    plain = json.loads(json.dumps(content, default=str))
    write_atomically(store.folder / "plan.json", json.dumps(sealed(plain)) + "\n")


def read_plan(store: Store, inputs: str) -> Plan | None:
    """The plan in the store; None where it was made from other inputs, or is not readable."""
    plan = stored_plan(store)
    return plan if plan is not None and plan.inputs == inputs else None


def stored_plan(store: Store) -> Plan | None:
    """The plan in the store, whatever it was made from; None where it is not readable."""
    try:
        content = unsealed(json.loads((store.folder / "plan.json").read_text()))
        grids = {name: [Cell(*fields) for fields in cells] for name, cells in content["grids"].items()}
        return Plan(grids, content["settings"], content["inputs"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
