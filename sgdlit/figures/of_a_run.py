"""The picture of one run, by name: ``figures/NAME.py`` has ``draw(run) -> Figure``.

``draw`` returns None where the run has measured nothing yet that it shows.
"""

import inspect
import pkgutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import sgdlit.figures
from sgdlit.figures.style import save
from sgdlit.foundations.errors import UserError, did_you_mean, with_allowed
from sgdlit.runs.reading import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_run(run: Run, name: str, folder: Path, svg: bool = False) -> list[Path]:
    """Draw a picture of a run as NAME.png, and NAME.svg if asked; what was written.

    Args:
        run: of which.
        name: of the picture.
        folder: for the files.
        svg: whether as SVG, too.

    Raises:
        UserError: there is no such picture.
    """
    figure = picture(name)(run)
    return [] if figure is None else save(figure, folder, name, svg)


def picture(name: str) -> "Callable[[Run], Figure | None]":
    """What draws a picture of a run.

    Raises:
        UserError: there is no such picture.
    """
    modules = [module.name for module in pkgutil.iter_modules(sgdlit.figures.__path__)]
    if name not in modules or not _draws_a_run(name):
        names = [module for module in modules if _draws_a_run(module)]
        raise UserError(
            with_allowed(f"figure: there is no picture {name!r} of a run{did_you_mean(name, names)}", names)
        )
    return import_module(f"sgdlit.figures.{name}").draw


def _draws_a_run(module: str) -> bool:
    """Whether the module has ``draw(run)``."""
    draw = getattr(import_module(f"sgdlit.figures.{module}"), "draw", None)
    return inspect.isfunction(draw) and list(inspect.signature(draw).parameters) == ["run"]
