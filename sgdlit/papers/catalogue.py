"""Which papers there are: every module of this room that defines ``PAPER``, and modules that are named.

Nothing heavy is imported: a paper's file imports what it computes with when it computes.
"""

import importlib
import json
import pkgutil
from collections.abc import Sequence
from pathlib import Path
from string import digits

from sgdlit.config.shipped import find as find_config
from sgdlit.foundations.errors import UserError, did_you_mean, nearest, with_allowed
from sgdlit.papers.paper import Experiment, Paper

_NO_PAPERS = ("claim", "paper", "catalogue", "record", "page")
COLLECTIONS = {"edge-of-stability": ("cohen2021", "andreyev2024", "cohen2022")}
"""Papers that are read together, by the name under which ``reproduce`` checks them one after another."""


def papers() -> dict[str, Paper]:
    """All of them by name."""
    names = [module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)]) if not module.ispkg]
    return {name: _imported(f"sgdlit.papers.{name}") for name in sorted(names) if name not in _NO_PAPERS}


def find(name: str) -> Paper:
    """The paper ``name``, or, where there is a dot in the name, ``PAPER`` of that module.

    Raises:
        UserError: there is none.
    """
    if "." in name:
        try:
            return _imported(name)
        except (ImportError, KeyError) as error:
            raise UserError(f"{name}: no module with a PAPER ({error})") from error
    known = papers()
    if name not in known:
        names = [*known, *COLLECTIONS]
        meant = did_you_mean(name, _of_near_authors(name, names))
        raise UserError(with_allowed(f"there is no paper {name!r}{meant}", names))
    return known[name]


def _of_near_authors(name: str, names: Sequence[str]) -> list[str]:
    """Those that are like ``name`` without their years too, which many papers have in common."""
    author, others = name.rstrip(digits), [other.rstrip(digits) for other in names]
    near = nearest(author, others)
    return [other for other, own in zip(names, others, strict=True) if own == near]


def seconds() -> dict[str, dict[str, float]]:
    """About how long each experiment takes at quick scale on one core, by paper; not all were timed.

    ``scripts/claim_seconds.py`` writes them.
    """
    return json.loads((Path(__file__).parent / "seconds.json").read_text(encoding="utf-8"))


def experiments(paper: Paper, claim: str | None = None) -> list[Experiment]:
    """Those of the paper, or the one that decides the claim.

    Raises:
        UserError: the paper has no such claim.
    """
    if claim is None:
        return list(paper.experiments)
    found = [e for e in paper.experiments if any(c.id == claim for c in e.claims)]
    if not found:
        ids = [c.id for c in paper.claims]
        raise UserError(with_allowed(f"{paper.name} has no claim {claim!r}{did_you_mean(claim, ids)}", ids))
    return found


def command_of(config: str) -> str:
    """What trains a file below ``configs/``: ``sweep`` where it describes many runs, else ``fit``."""
    path = find_config(config)
    text = "" if path is None else path.read_text(encoding="utf-8")
    return "sweep" if "\nsweep:" in text else "fit"


def _imported(module: str) -> Paper:
    return vars(importlib.import_module(module))["PAPER"]
