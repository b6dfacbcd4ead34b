"""``python -m sgdlit reproduce``: the claims of papers, checked, drawn, and listed with how they stand.

    reproduce                       list all papers and claims; --missing: those that have no findings yet
    reproduce PAPER [PAPER:CLAIM]   check them at quick scale
    reproduce --all [--jobs 2]      check all whose findings are not there yet, two papers at a time
    reproduce [...] --page          and write reproduce/index.html, with all claims and pictures

Below ``reproduce/PAPER/`` it writes a CSV of every table, the pictures, and ``claims.json``; runs of networks
stay in ``runs/``, sweeps in ``sweeps/``, and are found again. Whether claims hold is output, not an exit
status: a mistake exits 2.
"""

import inspect
import os
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, Literal

from sgdlit.cli.paper_listing import listing, plan
from sgdlit.cli.paper_processes import check_in_processes
from sgdlit.cli.paper_session import BeingChecked, Session
from sgdlit.cli.paper_targets import Target, targets_of
from sgdlit.cli.parser import CommandParser, check_jobs
from sgdlit.foundations.console import warn
from sgdlit.foundations.errors import UserError
from sgdlit.papers import catalogue
from sgdlit.papers.paper import Paper

_USAGE = """python -m sgdlit reproduce [PAPER | PAPER:CLAIM ...] [--all] [--page] [--scale SCALE] [...]
       python -m sgdlit reproduce PAPER --help     the options and symbols of a paper"""


def main(arguments: Sequence[str]) -> int:
    """Lists, checks, or plans; returns the exit status.

    Raises:
        UserError: there is no such paper or claim, or its options cannot be used.
    """
    given = _positional(arguments)
    targets = [target for text in given for target in targets_of(text)]
    named = list(dict.fromkeys(target.paper.name for target in targets))
    paper = targets[0].paper if len(named) == 1 else None
    own = _parser(paper, _scale(arguments)).parse(arguments).as_dict()
    if given != own["targets"]:
        raise UserError(f"{own['targets'][-1]}: papers and claims come before all options")
    if own["all"] and targets:
        raise UserError(f"--all: not together with {given[0]}; allowed: one of the two")
    check_jobs(own["jobs"])
    data, out = _data_folder(own["data"]), Path(own["out"])
    if own["all"]:
        targets = [Target(paper) for paper in catalogue.papers().values()]
    if not targets and not own["page"]:
        print(listing(out, own["missing"]))
        return 0
    if own["dry_run"]:
        only_missing = own["all"] or own["missing"]
        plans = (
            plan(target, _session(target, own, out, data), _options_of(target.paper, own), only_missing)
            for target in targets
        )
        nothing = "nothing is missing" if targets else "nothing would be run"
        to_write = [f"would write the page of {out}, from what is known"] if own["page"] else []
        print("\n".join([*(list(filter(None, plans)) or [nothing]), *to_write]))
        return 0
    # Vectors of some thousand numbers: linear algebra's own threads would only wait for each other.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    code = _check(targets, own, out, data)
    if own["page"]:
        from sgdlit.papers import page

        print(f"wrote {page.write(catalogue.papers() | {t.paper.name: t.paper for t in targets}, out)}")
    return code


def _check(targets: Sequence[Target], own: Mapping[str, Any], out: Path, data: Path | None) -> int:
    """Check the targets; returns the exit status.

    Of several papers, ``jobs`` are checked at a time, each in a process of its own.
    """
    papers = {target.paper.name for target in targets}
    if len(papers) > 1 and own["jobs"] > 1:
        return check_in_processes(_commands(targets, own), own["jobs"])
    code, go_on = 0, own["all"] or own["missing"]
    for target in targets:
        session = _session(target, own, out, data)
        try:
            with session.alone():
                session.check(target, _options_of(target.paper, own), go_on)
        except BeingChecked as error:
            if not go_on:
                raise
            warn(str(error))
        except Exception as error:
            if not go_on or isinstance(error, UserError):
                raise
            traceback.print_exc()
            code = 1
    return code


def _session(target: Target, own: Mapping[str, Any], out: Path, data: Path | None) -> Session:
    return Session(target.paper, out, own["scale"] == "quick", data, own["jobs"], own["svg"])


def _commands(targets: Sequence[Target], own: Mapping[str, Any]) -> dict[str, list[str]]:
    """The command line that checks each paper, after ``python -m sgdlit``; what takes longest comes first."""
    shared = [f"--scale={own['scale']}", f"--out={own['out']}"]
    shared += [f"--data={own['data']}"] if own["data"] is not None else []
    shared += ["--svg"] if own["svg"] else []
    shared += ["--missing"] if own["all"] or own["missing"] else []
    found: dict[str, list[str]] = {}
    for target in sorted(targets, key=lambda target: -target.seconds):
        found.setdefault(target.paper.name, []).append(target.text or target.paper.name)
    return {name: ["reproduce", *texts, *shared] for name, texts in found.items()}


def _data_folder(given: str | None) -> Path | None:
    if given is not None and not Path(given).is_dir():
        raise UserError(f"--data: {given}: there is no such folder")
    return None if given is None else Path(given)


def _positional(arguments: Sequence[str]) -> list[str]:
    """The papers and claims, which come before any option."""
    found = []
    for argument in arguments:
        if argument.startswith("-"):
            break
        found.append(argument)
    return found


def _scale(arguments: Sequence[str]) -> str:
    """``--scale``, which decides the defaults of the other options."""
    own = CommandParser("reproduce", "")
    own.add_argument("--scale", type=str, default="quick")
    return own.parse_own([a for a in arguments if a not in ("-h", "--help")])[0].scale


def _parser(paper: Paper | None, scale: str) -> CommandParser:
    about = "Checks claims of papers, and draws what was found."
    if paper is not None:
        explained = inspect.getdoc(paper.options) or ""
        about = f"{paper.reference}\n\n{explained.partition(chr(10) * 2 + 'Args:')[0]}"
    parser = CommandParser("reproduce", about, _USAGE)
    parser.add_argument("targets", nargs="*", type=str, help="papers, or claims as PAPER:CLAIM")
    parser.add_argument("--all", action="store_true", help="all papers, and of these what is --missing")
    parser.add_argument("--scale", type=Literal["quick", "full"], default="quick", help="which protocol")
    parser.add_argument(
        "--missing",
        action="store_true",
        help="leave out what has findings, and go on where a check fails; without a target: list the others",
    )
    parser.add_argument("--page", action="store_true", help="write index.html: all claims as they stand")
    parser.add_argument("--dry-run", action="store_true", help="say what would be run")
    parser.add_argument("--out", type=str, default="reproduce", help="folder for tables, pictures and runs")
    data = os.environ.get("SGDLIT_DATA")
    parser.add_argument("--data", type=str | None, default=data, help="folder with the data sets")
    parser.add_argument(
        "--jobs", type=int, default=1, help="papers at a time; of a single one, processes of its sweeps"
    )
    parser.add_argument("--svg", action="store_true", help="write each picture as SVG too")
    if paper is not None:
        parser.add_argument("--config", action="config", help="YAML file with any of these options")
        parser.add_class_arguments(paper.options)
        if scale == "quick":
            parser.set_defaults(paper.quick)
    return parser


def _options_of(paper: Paper, own: Mapping[str, Any]) -> Any:
    """The options of a paper from the command line, where they were read there; else those of the scale."""
    names = set(inspect.signature(paper.options).parameters)
    if not names <= own.keys():
        return paper.quick_options() if own["scale"] == "quick" else paper.options()
    default = paper.options()
    given = {}
    for name in names:
        part = vars(default)[name]
        is_group = is_dataclass(part) and not isinstance(part, type)
        given[name] = type(part)(**own[name]) if is_group else own[name]
    return paper.options(**given)
