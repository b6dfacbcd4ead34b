"""What a sweep finds out before it trains: minibatches that cannot be cut, metrics that nobody logs."""

from collections.abc import Iterator, Sequence
from typing import Any

from sgdlit.config.sections import check_name
from sgdlit.foundations.errors import UserError
from sgdlit.sweeps.options import SweepOptions, all_panels
from sgdlit.sweeps.plan import Cell, Plan
from sgdlit.sweeps.quantities import Metric
from sgdlit.sweeps.store import Result

Wanted = Sequence[tuple[str, str]]
"""Keys of a sweep file at which a metric is named, with its name."""

_OF_STEPS = (
    "loss", "accuracy", "modified_loss", "C_reg", "gradient_norm", "lr", "reg_strength", "steps_per_second",
)  # fmt: skip
_OF_SETS = ("loss", "accuracy", "soft_error", "lowest_loss", "highest_accuracy")
_OWN_CALLBACKS = ("sgdlit.", "lightning.")
_DEFAULT_MODULE = "sgdlit.training.module.Training"


def look(plan: Plan, options: SweepOptions) -> None:
    """Build the data of every cell, each kind once, and check what can be known of them: files that are not
    there first, all of them together.

    Raises:
        UserError: a batch size that does not divide, data that are not there, or a metric that no run logs.
    """
    from lightning.pytorch import LightningDataModule

    from sgdlit.data.keyed_data import KeyedData

    built: dict[str, LightningDataModule] = {}
    wanted, cells = wanted_metrics(options), list(plan.cells)
    if not all(cell.config.get("data") for cell in cells):
        return
    kinds = [repr(cell.config.data) for cell in cells]
    for cell, kind in zip(cells, kinds, strict=True):
        if kind not in built:
            built[kind] = _build(cell)
    _require_files([built[kind] for kind in kinds])
    held: list[LightningDataModule] = []
    for cell, kind in zip(cells, kinds, strict=True):
        data = built[kind]
        if data not in held:
            _cut(data, cell, held)
            held.append(data)
        if isinstance(data, KeyedData):
            _check_metrics(wanted, cell, data.evaluation_splits)


def _require_files(each: Sequence[Any]) -> None:
    """Refuse a sweep for some of whose runs there are no data.

    Args:
        each: the data of each run; runs may share them.

    Raises:
        UserError: naming all that is missing, and for how many runs.
    """
    from sgdlit.data.keyed_data import KeyedData

    refusals: dict[int, str] = {}
    for data in {id(data): data for data in each if isinstance(data, KeyedData)}.values():
        try:
            data.require_files()
        except UserError as error:
            refusals[id(data)] = str(error)
    lacking = [refusals[id(data)] for data in each if id(data) in refusals]
    if lacking:
        texts = "\n".join(dict.fromkeys(lacking))
        raise UserError(f"{texts}\n(data of {len(lacking)} of {len(each)} runs)")


def wanted_metrics(options: SweepOptions) -> Wanted:
    """The metrics that table and figures ask of the runs of this sweep."""
    return list(dict.fromkeys((where, metric.name) for where, metric in _metrics(options)))


def check_logged(result: Result, wanted: Wanted) -> None:
    """Refuse a metric that a finished run has not logged, before others are run for nothing.

    Raises:
        UserError: with the nearest name.
    """
    if result.state == "finished":
        for where, name in wanted:
            check_name(name, result.metrics, where, f"{name!r} was not logged by the first run")


def _metrics(options: SweepOptions) -> Iterator[tuple[str, Metric]]:
    yield "sweep.metric", options.metric
    for where, panel in all_panels(options):
        for i, curve in enumerate(panel.curves):
            if curve.sweep is None:
                own = curve.metric is not None
                yield (
                    (f"{where}.curves.{i}.metric" if own else f"{where}.metric"),
                    curve.metric or panel.metric,
                )


def _build(cell: Cell) -> Any:
    from jsonargparse import Namespace
    from lightning.pytorch import LightningDataModule
    from lightning.pytorch.cli import LightningArgumentParser

    from sgdlit.config.mistakes import building_error
    from sgdlit.training.seeds import seed_data

    parser = LightningArgumentParser()
    parser.add_lightning_class_args(LightningDataModule, "data", subclass_mode=True, required=False)
    instantiate = getattr(parser, "instantiate", parser.instantiate_classes)  # its name since 4.49
    config = cell.config.clone()
    seed_data(config)
    try:
        return instantiate(Namespace(data=config.data)).data
    except Exception as error:
        raise building_error(error, [], {}) or error from error


def _cut(data: Any, cell: Cell, others: Sequence[Any]) -> None:
    """Cut the training set into minibatches; images whose number is not known are read for that, once."""
    from sgdlit.data.arrays import Arrays
    from sgdlit.data.image_shards import ImagesFromFiles, ImageShards

    if not isinstance(data, ImageShards):
        return
    try:
        if data.train_size is not None and not data.selection.description:
            data.make_itinerary(data.train_size)
            return
        if not isinstance(data, ImagesFromFiles | Arrays):  # made, which takes long
            return
        same = (o for o in others if type(o) is type(data) and o.subsets and o.source == data.source)
        held = next(same, None)
        if held is not None:
            data.take_over(held)
        data.setup()
    except UserError as error:
        values = ", ".join(f"{key} {value}" for key, value in cell.point.items())
        raise UserError(f"{error}\n(run with {values or 'the values of the config'})") from error


def _check_metrics(wanted: Wanted, cell: Cell, splits: Sequence[str]) -> None:
    """Names of sgdlit's own module, unless a callback that is not known may log others."""
    config = cell.config
    callbacks = config.trainer.get("callbacks") or []
    callbacks = callbacks if isinstance(callbacks, list) else [callbacks]
    paths = [callback.class_path for callback in callbacks]
    if config.model.class_path != _DEFAULT_MODULE or not all(p.startswith(_OWN_CALLBACKS) for p in paths):
        return
    known = [f"train/{name}" for name in _OF_STEPS]
    known += [f"{split}/{name}" for split in splits for name in _OF_SETS]
    known += [f"test/{name}_at_best_val" for name in ("loss", "accuracy")] if "val" in splits else []
    for where, name in wanted:
        part = name.partition("/")[0]
        of_metric = part in splits and bool(config.model.init_args.get("metrics"))
        if not (of_metric or (paths and part not in ("train", "val", "test"))):
            check_name(name, known, where, f"no run logs {name!r}")
