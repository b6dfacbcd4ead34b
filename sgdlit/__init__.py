"""sgdlit: experiments on how SGD trains networks.

``fit(config)`` trains a run, ``load_run(folder)`` and ``load_sweep(folder)`` read what a run or a sweep left,
``save_arrays(path, inputs, targets)`` writes one's own data as ``sgdlit.data.arrays.Arrays`` reads it.
Nothing heavy is imported here, so that ``python -m sgdlit --help`` answers at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sgdlit.cli.notebook import fit
    from sgdlit.data.array_file import save_arrays
    from sgdlit.runs.reading import Run, load_run
    from sgdlit.sweeps.reading import Sweep, load_sweep

__version__ = "0.1.0"
__all__ = ["Run", "Sweep", "fit", "load_run", "load_sweep", "save_arrays"]

_PLACES = {
    "fit": "cli.notebook",
    "save_arrays": "data.array_file",
    "Sweep": "sweeps.reading",
    "load_sweep": "sweeps.reading",
}


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module(f"sgdlit.{_PLACES.get(name, 'runs.reading')}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
