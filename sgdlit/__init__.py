"""sgdlit: experiments on how SGD trains networks.

``load_run(folder)`` reads a run back. Nothing heavy is imported here, so that ``python -m sgdlit --help``
answers at once.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sgdlit.runs.reading import Run, load_run

__version__ = "0.1.0"
__all__ = ["Run", "load_run"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from sgdlit.runs import reading

        return getattr(reading, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
