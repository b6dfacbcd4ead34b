"""What a file of this room defines, ``PAPER``: the experiments that decide its claims, and their options.

An experiment measures (options and workshop in, evidence out) and draws (tables in, figures out). It trains
networks through the workshop that it is given, so that this room knows nothing of commands.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sgdlit.foundations.errors import UserError
from sgdlit.papers.claim import Claim, Finding

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Row = dict[str, Any]
Tables = dict[str, list[Row]]
Progress = Callable[[str, int, int], None]
"""``progress(what, done, total)``."""


def silent(what: str, done: int, total: int) -> None:
    """The progress of an experiment that nobody watches."""


@dataclass
class Evidence:
    """Tables by name (rows with equal keys; ``None`` where there is no value), findings, and remarks.

    ``seeds`` says which seeds the findings are about, such as ``0 to 9``; where it is empty, the options do.
    """

    tables: Tables = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seeds: str = ""


class Fit(Protocol):
    """``fit(name, config, *arguments)``: the folder of a run of the command ``fit``."""

    def __call__(self, name: str, config: str, *arguments: str) -> Path:
        """Train, or find again, the run ``name`` of ``configs/config`` with these arguments."""


class Sweep(Protocol):
    """``sweep(name, config, *arguments, **sections)``: the store of a sweep."""

    def __call__(
        self, name: str, config: str, *arguments: str, changed: Mapping[str, Any] | None = None
    ) -> Path:
        """Run what is missing of ``configs/config``, its section ``sweep`` updated by ``changed``."""


def _nothing_is_trained(name: str, config: str, *arguments: str, **changed: object) -> Path:
    raise UserError(f"{name}: this workshop trains no networks")


@dataclass(frozen=True)
class Workshop:
    """Where an experiment works, and with what.

    Attributes:
        quick: whether the quick protocol is asked for, not the full one.
        data: the folder with the data sets; None where there is none.
        progress: told how far the experiment is.
        fit: trains one run, or an ensemble.
        sweep: trains the cells of a sweep file, and draws its figures.
    """

    quick: bool = True
    data: Path | None = None
    progress: Progress = silent
    fit: Fit = _nothing_is_trained
    sweep: Sweep = _nothing_is_trained


@dataclass(frozen=True)
class Experiment:
    """One computation, and the claims that it decides.

    Attributes:
        name: short, unique in its paper.
        claims: what it decides.
        measure: options of the paper and a workshop in, evidence out.
        draw: tables in, figures by file name out.
        needs_data: whether a part of it is left out without the folder of the data sets; at quick scale that
            part looks at Fashion-MNIST.
        data_at_full: the sets that it trains on at full scale, by their names for the command ``data``;
            empty where they are those of the quick scale.
    """

    name: str
    claims: tuple[Claim, ...]
    measure: Callable[[Any, Workshop], Evidence]
    draw: Callable[[Tables], "dict[str, Figure]"]
    needs_data: bool = False
    data_at_full: tuple[str, ...] = ()

    def sets(self, quick: bool) -> tuple[str, ...]:
        """The sets of images that it looks at, by their names for the command ``data``."""
        at_quick = ("fashion-mnist",) if self.needs_data else ()
        return at_quick if quick else self.data_at_full or at_quick


@dataclass
class NoOptions:
    """Nothing can be chosen: the protocol is that of the configs.

    Symbols: as in the configs.
    """


@dataclass(frozen=True)
class Paper:
    """What is checked of one paper.

    Attributes:
        name: the file's, as in ``reproduce smith2021``.
        reference: authors, year, title or number.
        experiments: in the order in which they are run.
        options: a dataclass, whose docstring explains options and symbols; its defaults are the full scale.
        quick: by dotted key, the values of options at quick scale.
    """

    name: str
    reference: str
    experiments: tuple[Experiment, ...]
    options: type = NoOptions
    quick: Mapping[str, Any] = field(default_factory=dict)

    @property
    def claims(self) -> tuple[Claim, ...]:
        return tuple(claim for experiment in self.experiments for claim in experiment.claims)

    def quick_options(self) -> Any:
        """An instance of ``options`` at quick scale."""
        options = self.options()
        for key, value in self.quick.items():
            group, _, name = key.rpartition(".")
            if group:
                options = replace(options, **{group: replace(vars(options)[group], **{name: value})})
            else:
                options = replace(options, **{name: value})
        return options
