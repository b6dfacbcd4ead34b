"""What ``fit``, ``validate``, ``test`` and ``predict`` accept of their own, and classes that go by name."""

import importlib
from pathlib import Path
from typing import Any

from lightning.pytorch.cli import LightningArgumentParser

from sgdlit.algorithms.mixing import Mixing
from sgdlit.cli.main import COMMANDS
from sgdlit.config.parsing import call_nothing_while_parsing
from sgdlit.foundations.definitions import defined_in
from sgdlit.foundations.errors import UserError
from sgdlit.training.checkpoints import Checkpoints


class Parser(LightningArgumentParser):
    """A parser without abbreviations, whose errors are for :mod:`sgdlit.config.mistakes` to explain."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        call_nothing_while_parsing()
        super().__init__(*args, allow_abbrev=False, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> None:
        raise UserError(message)


def add_options(parser: LightningArgumentParser, command: str) -> None:
    """The options of a run beside those that Lightning adds for model, data and trainer."""
    again = "--resume" if command == "fit" else "--run"
    parser.usage = (
        f"python -m sgdlit {command} --config FILE [--config FILE ...] [--KEY VALUE ...]\n"
        f"       python -m sgdlit {command} {again} logs/NAME/version_K [--KEY VALUE ...]"
    )
    parser.description = COMMANDS[command][1].partition(":")[0].capitalize() + "."
    parser.add_argument("--name", type=str, default="run", help="name of the run: logs/NAME/version_k")
    parser.add_argument("--logs", type=str, default="logs", help="folder in which runs are kept")
    parser.add_argument(
        "--init_seed",
        type=int | None,
        default=None,
        help="seed of the initialisation alone (default: seed_everything)",
    )
    parser.add_argument(
        "--init_from",
        type=str | None,
        default=None,
        help="folder of a run, or checkpoint file, from whose weights this run starts",
    )
    parser.add_argument(
        "--init_fresh",
        type=list[str] | str | None,
        default=None,
        help="patterns of parameters that --init_from leaves as they were initialised, such as a head",
    )
    parser.add_argument(
        "--init_member",
        type=int | None,
        default=None,
        help="member of the ensemble --init_from whose weights are taken (default: by number)",
    )
    parser.add_argument(
        "--ensemble",
        type=list[dict[str, Any]] | None,
        default=None,
        help="axes of an ensemble: a list of entries {KEY: VALUES, ...} that are crossed, each over keys "
        "of model, data or the seeds; one run is trained for each of their points, all together",
    )
    parser.add_argument(
        "--ensemble_curves",
        type=bool,
        default=False,
        help="whether TensorBoard gets the curves of each member beside their mean and spread",
    )
    parser.add_argument(
        "--mixing",
        type=Mixing | None,
        default=None,
        help="what the members of an ensemble exchange after some steps: Gossip, LocalSGD or "
        "AsynchronousSGD; null: nothing",
    )
    parser.add_argument(
        "--figure",
        type=str | None,
        default=None,
        help="picture that is drawn beside the run when it ends: the name of a file of sgdlit.figures",
    )
    parser.add_argument(
        "--closing",
        type=str | None,
        default=None,
        help="text that is printed when the run has finished, such as how to read its picture",
    )
    parser.add_argument(
        "--measures",
        type=str | None,
        default=None,
        help="what is measured beside what trainer.callbacks names: a preset (basic, standard, full), or "
        "measures by name with commas between them, see python -m sgdlit measures",
    )
    parser.add_lightning_class_args(Checkpoints, "checkpoints")
    parser.set_defaults({"model": {"class_path": "sgdlit.training.module.Training"}})


def configs_first(arguments: list[str]) -> list[str]:
    """The arguments with all configs before the options, which overrule them wherever they stand."""
    configs: list[str] = []
    others: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if argument in ("--config", "-c"):
            configs += [argument, *(value for value in [next(rest, None)] if value is not None)]
        else:
            (configs if argument.startswith("--config=") else others).append(argument)
    return configs + others


def import_classes(names: set[str] | None) -> None:
    """Import the classes of the package that a config may name: all, or those with some names."""
    import sgdlit

    for room in ("data", "data.finite", "algorithms.rules", "measures", "models", "objectives", "training"):
        homes = defined_in(Path(sgdlit.__path__[0], *room.split(".")))
        for module in {home for name, home in homes.items() if names is None or name in names}:
            importlib.import_module(f"sgdlit.{room}.{module}")
