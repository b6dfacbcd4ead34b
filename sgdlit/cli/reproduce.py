"""``python -m sgdlit reproduce``: the claims of papers, checked, drawn, and listed with how they stand.

    reproduce                       list all papers and claims
    reproduce PAPER [PAPER:CLAIM]   check them at quick scale
    reproduce --all                 check all whose findings are not there yet

Below ``reproduce/PAPER/`` it writes a CSV of every table, the pictures, and ``claims.json``; runs of networks
stay in ``runs/``, sweeps in ``sweeps/``, and are found again. Whether claims hold is output, not an exit
status: a mistake exits 2.
"""

import inspect
import json
import os
import pkgutil
import shutil
import textwrap
import time
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, is_dataclass
from io import StringIO
from pathlib import Path
from typing import Any, Literal

from sgdlit.cli.main import COMMANDS
from sgdlit.cli.parser import CommandParser, check_jobs
from sgdlit.config.shipped import require
from sgdlit.foundations.console import lent_to, say
from sgdlit.foundations.errors import UserError
from sgdlit.foundations.files import write_atomically, write_table
from sgdlit.foundations.progress import Progress
from sgdlit.papers import catalogue
from sgdlit.papers.claim import Claim, Finding
from sgdlit.papers.paper import Evidence, Experiment, Paper, Workshop, silent
from sgdlit.papers.paper import Progress as ToldProgress

_USAGE = """python -m sgdlit reproduce [PAPER | PAPER:CLAIM ...] [--all] [--scale SCALE] [--out DIR] [...]
       python -m sgdlit reproduce PAPER --help     the options and symbols of a paper"""
_INTERRUPTED = 130
_CLAIMS = "claims.json"
_ENDED = ("finished", "diverged")


def main(arguments: Sequence[str]) -> int:
    """Lists, checks, or plans; returns the exit status.

    Raises:
        UserError: there is no such paper or claim, or its options cannot be used.
    """
    targets = [_target(argument) for argument in _positional(arguments)]
    named = list(dict.fromkeys(target.paper.name for target in targets))
    paper = targets[0].paper if len(named) == 1 else None
    own = _parser(paper, _scale(arguments)).parse(arguments).as_dict()
    if [target.text for target in targets] != own["targets"]:
        raise UserError(f"{own['targets'][-1]}: papers and claims come before all options")
    if own["all"] and targets:
        raise UserError(f"--all: not together with {targets[0].paper.name}; allowed: one of the two")
    check_jobs(own["jobs"])
    data, out = _data_folder(own["data"]), Path(own["out"])
    if own["all"]:
        targets = [Target(paper) for paper in catalogue.papers().values()]
    if not targets:
        print(_listing(out))
        return 0
    if own["dry_run"]:
        print("\n".join(_plan(target, own["scale"]) for target in targets))
        return 0
    # Vectors of some thousand numbers: linear algebra's own threads would only wait for each other.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    for target in targets:
        session = Session(target.paper, out, own["scale"] == "quick", data, own["jobs"], own["svg"])
        session.check(target, _options_of(target.paper, own), only_missing=own["all"])
    return 0


@dataclass(frozen=True)
class Target:
    """A paper, or one claim of it."""

    paper: Paper
    claim: str | None = None
    text: str = ""

    @property
    def experiments(self) -> list[Experiment]:
        """What has to be run."""
        return catalogue.experiments(self.paper, self.claim)

    def holds_for(self, claim: str) -> bool:
        """Whether the claim was asked for."""
        return self.claim in (None, claim)


def _target(text: str) -> Target:
    name, colon, claim = text.partition(":")
    target = Target(catalogue.find(name), claim if colon else None, text)
    assert target.experiments  # an unknown claim, or an empty one, is refused here
    return target


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
    parser.add_argument("--all", action="store_true", help="check every claim whose findings are missing")
    parser.add_argument("--scale", type=Literal["quick", "full"], default="quick", help="which protocol")
    parser.add_argument("--dry-run", action="store_true", help="say what would be run")
    parser.add_argument("--out", type=str, default="reproduce", help="folder for tables, pictures and runs")
    data = os.environ.get("SGDLIT_DATA")
    parser.add_argument("--data", type=str | None, default=data, help="folder with the data sets")
    parser.add_argument("--jobs", type=int, default=1, help="processes of a sweep")
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


# Checking


class Session:
    """One paper being checked.

    Args:
        paper: which.
        out: the folder for everything.
        quick: whether at quick scale.
        data: the folder with the data sets.
        jobs: processes of a sweep.
        svg: whether pictures are written as SVG too.
    """

    def __init__(self, paper: Paper, out: Path, quick: bool, data: Path | None, jobs: int, svg: bool) -> None:
        self.paper, self.quick, self.data, self.jobs, self.svg = paper, quick, data, jobs, svg
        self.folder = out / paper.name

    def check(self, target: Target, options: Any, only_missing: bool) -> None:
        """Run the experiments of a target, print their findings, and write everything."""
        for experiment in target.experiments:
            key = {"scale": "quick" if self.quick else "full", "options": asdict(options)}
            if only_missing and self._is_done(experiment, key):
                say(f"{self.paper.name}: {experiment.name} is there already")
                continue
            self._check_one(target, experiment, options, key)

    def _is_done(self, experiment: Experiment, key: Mapping[str, Any]) -> bool:
        kept = read_claims(self.folder)
        mine = [kept.get(claim.id, {}) for claim in experiment.claims]
        return all(entry.get("protocol") == key and entry.get("state") != "not run" for entry in mine)

    def _check_one(
        self, target: Target, experiment: Experiment, options: Any, key: Mapping[str, Any]
    ) -> None:
        started = time.monotonic()
        with Progress(f"{self.paper.name} {experiment.name}") as progress:
            evidence = experiment.measure(options, self.workshop(progress.stage))
        seconds = time.monotonic() - started
        self._make_folder()
        written = self._write(experiment, evidence)
        entries = {claim.id: _entry(claim, evidence, key, seconds) for claim in experiment.claims}
        kept = read_claims(self.folder) | entries
        order = [claim.id for claim in self.paper.claims]
        text = json.dumps({id: kept[id] for id in order if id in kept}, indent=1, ensure_ascii=False)
        write_atomically(self.folder / _CLAIMS, text + "\n")
        shown = [finding for finding in evidence.findings if target.holds_for(finding.claim)]
        remarks = [f"{f.claim}: {f.note}" for f in shown if f.note] + evidence.notes
        for line in [*map(str, shown), *(f"note: {note}" for note in remarks)]:
            print(line)
        held = sum(finding.holds for finding in shown)
        files = ", ".join(map(str, [*written, self.folder / _CLAIMS]))
        verdict = f"{held} of {len(shown)} findings hold" if shown else "nothing was decided"
        print(f"{verdict}; wrote {files}", flush=True)

    def _make_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--out: {self.folder}: no such folder can be made ({error.strerror})") from error

    def _write(self, experiment: Experiment, evidence: Evidence) -> list[Path]:
        tables = {name: rows for name, rows in evidence.tables.items() if rows}
        written = [write_table(self.folder / f"{name}.csv", rows) for name, rows in tables.items()]
        if not tables:
            return written
        from sgdlit.figures.style import save

        drawn = experiment.draw(evidence.tables)
        return written + [
            p for name, figure in drawn.items() for p in save(figure, self.folder, name, self.svg)
        ]

    # What an experiment trains with

    def workshop(self, progress: ToldProgress = silent) -> Workshop:
        """What an experiment of this paper is given."""
        return Workshop(self.quick, self.data, progress, self._fit, self._sweep)

    def _fit(self, name: str, config: str, *arguments: str) -> Path:
        """The folder of a run; one that has ended and had the same arguments is not trained again."""
        from sgdlit.runs.reading import load_run

        self._make_folder()
        parent = self.folder / "runs" / name
        folder, record = parent / "version_0", parent / "arguments.json"
        given = json.dumps([config, *arguments], indent=1) + "\n"
        same = record.exists() and record.read_text(encoding="utf-8") == given
        if same and (folder / "status.json").exists() and load_run(folder).state in _ENDED:
            return folder
        if parent.exists():
            shutil.rmtree(parent)
        parent.mkdir(parents=True)
        write_atomically(record, given)
        place = ["--logs", str(self.folder / "runs"), "--name", name]
        _call("fit", ["--config", str(config_path(config)), *place, *arguments])
        return folder

    def _sweep(
        self, name: str, config: str, *arguments: str, changed: Mapping[str, Any] | None = None
    ) -> Path:
        """The store of a sweep, with its figures; finished runs are not trained again."""
        import yaml

        self._make_folder()
        path = config_path(config)
        sections = yaml.safe_load(path.read_text(encoding="utf-8"))
        if changed is not None:
            sections["sweep"] |= changed
            path = self.folder / f"{name}.yaml"
            write_atomically(path, yaml.safe_dump(sections, sort_keys=False))
        store = self.folder / "sweeps" / name
        place = ["--config", str(path), "--store", str(store), *arguments]
        _call("sweep", [*place, "--jobs", str(self.jobs)])
        if sections["sweep"].get("figures"):
            _call("figure", place)
        return store


def _call(command: str, arguments: list[str]) -> None:
    """A command of this package, in this process.

    Raises:
        UserError: it failed.
        KeyboardInterrupt: a signal stopped it.
    """
    where, _ = COMMANDS[command]
    function = pkgutil.resolve_name(where)
    with lent_to(lambda done, latest: None), redirect_stdout(StringIO()):  # its own table is not asked for
        code = function(command, arguments) if command == "fit" else function(arguments)
    if code >= 128:
        raise KeyboardInterrupt
    if code:
        raise UserError(f"python -m sgdlit {command} {' '.join(arguments)} ended with exit code {code}")


def config_path(name: str) -> Path:
    """A file of ``configs/``, here or as it comes with the package.

    Raises:
        UserError: it is in neither place.
    """
    here = Path("configs") / name
    return here.resolve() if here.is_file() else require(name)


# What is kept, and shown


def read_claims(folder: Path) -> dict[str, Any]:
    """``claims.json`` of a paper, by id; nothing where nothing was checked."""
    path = folder / _CLAIMS
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _entry(claim: Claim, evidence: Evidence, key: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    findings = [finding for finding in evidence.findings if finding.claim == claim.id]
    return {
        **{k: v for k, v in asdict(claim).items() if k != "id"},
        "protocol": json.loads(json.dumps(key)),
        "state": _state(findings, evidence),
        "findings": [asdict(finding) for finding in findings],
        "notes": evidence.notes,
        "seconds": round(seconds, 1),
    }


def _state(findings: Sequence[Finding], evidence: Evidence) -> str:
    if not findings:
        return "no verdict" if evidence.tables or evidence.notes else "not run"
    return "holds" if all(finding.holds for finding in findings) else "does not hold"


def _listing(out: Path) -> str:
    """All papers and claims, and how they stand."""
    lines = []
    for paper in catalogue.papers().values():
        kept = read_claims(out / paper.name)
        lines += [f"{paper.name}: {paper.reference}"]
        for claim in paper.claims:
            entry = kept.get(claim.id, {})
            seconds = f"{entry['seconds']:.0f} s" if entry else ""
            state = entry.get("state", "not run")
            text = textwrap.shorten(claim.statement, 84, placeholder=" …")
            lines.append(f"  {claim.id:5} {state:13} {seconds:>6}  {text}")
            lines.append(f"{'':29}{textwrap.shorten(claim.source, 84, placeholder=' …')}")
        lines.append("")
    lines.append("python -m sgdlit reproduce PAPER[:CLAIM] checks; reproduce PAPER --help tells its options.")
    return "\n".join(lines)


def _plan(target: Target, scale: str) -> str:
    """The protocols of a target."""
    lines = []
    for experiment in target.experiments:
        for claim in experiment.claims:
            if target.holds_for(claim.id):
                protocol = claim.quick if scale == "quick" else claim.full
                lines.append(f"{target.paper.name}:{claim.id}  {scale}: {protocol}")
                if claim.config and scale == "full":
                    command = "sweep" if claim.config.startswith("sweeps/") else "fit"
                    lines.append(f"  python -m sgdlit {command} --config configs/{claim.config}")
    return "\n".join(lines)
