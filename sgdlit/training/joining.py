"""Runs that train together: from one config and its ``ensemble`` to members, built as each would be alone."""

from collections.abc import Callable, Sequence
from functools import cache

from jsonargparse import Namespace
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser

from sgdlit.algorithms.mixing import Mixing
from sgdlit.config.axes import Point, apply, expand
from sgdlit.config.options import Option
from sgdlit.data.keyed_data import KeyedData
from sgdlit.data.members import MembersData
from sgdlit.data.orders import LearnedOrder
from sgdlit.foundations.errors import UserError, did_you_mean, with_allowed
from sgdlit.foundations.progress import track
from sgdlit.training.checkpoints import Checkpoints
from sgdlit.training.checks import check_classes
from sgdlit.training.module import Training
from sgdlit.training.seeds import seed_data, seed_initialisation, seed_transform

_VARIED = ("seed_everything", "init_seed", "model", "data")


@cache
def axis_options() -> dict[str, Option]:
    """What an axis may begin with. Names, folders and checkpoints to start from are the same for all runs."""
    return {
        "seed_everything": Option(int),
        "init_seed": Option(int | None),
        "model": Option(LightningModule),
        "data": Option(LightningDataModule),
        "trainer": Option(Trainer),
        "checkpoints": Option(Checkpoints),
    }


def points_of(config: Namespace) -> list[Point]:
    """What distinguishes each member from the config.

    Raises:
        UserError: axes that are none, or over a key that is the same for all members.
    """
    points = expand(config.ensemble, "ensemble")
    for key in points[0]:
        first = key.split(".")[0]
        if first not in _VARIED and first not in config:
            problem = f"ensemble: {key}: there is no such key{did_you_mean(first, _VARIED)}"
            raise UserError(with_allowed(problem, [f"keys under {', '.join(_VARIED)}"]))
        if first not in _VARIED:
            raise UserError(
                f"ensemble: {key} is the same for all members, which are trained together; allowed: keys "
                f"under {', '.join(_VARIED)}. A sweep (python -m sgdlit sweep) can vary it"
            )
    return points


def member_config(config: Namespace, point: Point) -> Namespace:
    """The config of one member: an ordinary one, of a single run.

    Raises:
        UserError: a key that the config does not have, or a value that is not allowed there.
    """
    own = apply(config, point, axis_options())
    own.ensemble = own.mixing = None
    seed_data(own)
    seed_transform(own)
    return own


def build(
    config: Namespace,
    points: Sequence[Point],
    explain: Callable[[Exception, Point], Exception],
    mixing: Mixing | None = None,
) -> tuple[Training, MembersData]:
    """The runs that train together, and the data of each.

    Args:
        config: of the run.
        points: see :func:`points_of`.
        explain: what to raise instead of an error that a class raised when it was built.
        mixing: what the members exchange.

    Raises:
        UserError: members that cannot be trained together.
    """
    parser = LightningArgumentParser()
    for name, base in (("model", LightningModule), ("data", LightningDataModule)):
        parser.add_lightning_class_args(base, name, subclass_mode=True, required=False)
    instantiate = getattr(parser, "instantiate", parser.instantiate_classes)  # its name since 4.49
    configs = [member_config(config, point) for point in points]
    held: dict[str, LightningDataModule] = {}
    parts, data = [], []
    for own, point in track(list(zip(configs, points, strict=True)), "building members"):
        try:
            seed_initialisation(own)
            check_classes(own.model)
            parts.append(_training(instantiate(Namespace(model=own.model)).model))
            key = repr(own.data)
            if key not in held or _learns(held[key]):
                held[key] = instantiate(Namespace(data=own.data)).data
            data.append(held[key])
        except Exception as error:
            raise explain(error, point) from error
    return Training.joined(parts, points, config.ensemble_curves, mixing), MembersData(data)


def _learns(data: LightningDataModule) -> bool:
    """Whether what data shows depends on the run that sees it, so that no two runs can share it."""
    return isinstance(data, KeyedData) and isinstance(data.order, LearnedOrder)


def _training(built: LightningModule) -> Training:
    if not isinstance(built, Training):
        raise UserError(
            f"model: {type(built).__name__} cannot be a member of an ensemble; allowed: "
            "sgdlit.training.module.Training, with any network"
        )
    return built
