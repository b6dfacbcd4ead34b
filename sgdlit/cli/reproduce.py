"""``python -m sgdlit reproduce``: the claims of papers, checked, drawn, and listed with how they stand.

    reproduce                       list all papers and claims
    reproduce PAPER [PAPER:CLAIM]   check them at quick scale
    reproduce --all [--jobs 2]      check all whose findings are not there yet, two papers at a time
    reproduce [...] --page          and write reproduce/index.html, with all claims and pictures

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
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass, is_dataclass
from io import StringIO
from pathlib import Path
from typing import Any, Literal

from sgdlit.cli.main import COMMANDS
from sgdlit.cli.paper_processes import check_in_processes
from sgdlit.cli.parser import CommandParser, check_jobs
from sgdlit.config.shipped import require
from sgdlit.foundations.console import lent_to, say, warn
from sgdlit.foundations.errors import UserError
from sgdlit.foundations.extras import how_to_install
from sgdlit.foundations.files import write_atomically, write_table
from sgdlit.foundations.locks import Locks
from sgdlit.foundations.progress import Progress
from sgdlit.papers import catalogue, record
from sgdlit.papers.paper import Evidence, Experiment, Paper, Workshop, silent
from sgdlit.papers.paper import Progress as ToldProgress

_USAGE = """python -m sgdlit reproduce [PAPER | PAPER:CLAIM ...] [--all] [--page] [--scale SCALE] [...]
       python -m sgdlit reproduce PAPER --help     the options and symbols of a paper"""
_ENDED = ("finished", "diverged")
_LOCK = "papers.lock"
_FETCH = (
    "the folder of the data sets is missing, and with it a part of this: {commands} fetch{s} what it looks "
    "at; then give --data data, or set SGDLIT_DATA"
)


def main(arguments: Sequence[str]) -> int:
    """Lists, checks, or plans; returns the exit status.

    Raises:
        UserError: there is no such paper or claim, or its options cannot be used.
    """
    given = _positional(arguments)
    targets = [target for text in given for target in _targets(text)]
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
        print(_listing(out))
        return 0
    if own["dry_run"]:
        plans = (_plan(target, own, out, data) for target in targets)
        print("\n".join(filter(None, plans)) or "nothing is missing")
        return 0
    # Vectors of some thousand numbers: linear algebra's own threads would only wait for each other.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    code = _check(targets, own, out, data)
    if own["page"]:
        from sgdlit.papers import page

        print(f"wrote {page.write(catalogue.papers() | {t.paper.name: t.paper for t in targets}, out)}")
    return code


def _check(targets: "Sequence[Target]", own: Mapping[str, Any], out: Path, data: Path | None) -> int:
    """Check the targets; returns the exit status.

    Of several papers, ``jobs`` are checked at a time, each in a process of its own.
    """
    papers = {target.paper.name for target in targets}
    if len(papers) > 1 and own["jobs"] > 1:
        return check_in_processes(_commands(targets, own), own["jobs"])
    code, go_on = 0, own["all"] or own["missing"]
    for target in targets:
        session = Session(target.paper, out, own["scale"] == "quick", data, own["jobs"], own["svg"])
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


def _commands(targets: "Sequence[Target]", own: Mapping[str, Any]) -> dict[str, list[str]]:
    """The command line that checks each paper, after ``python -m sgdlit``; what takes longest comes first."""
    shared = [f"--scale={own['scale']}", f"--out={own['out']}"]
    shared += [f"--data={own['data']}"] if own["data"] is not None else []
    shared += ["--svg"] if own["svg"] else []
    shared += ["--missing"] if own["all"] or own["missing"] else []
    found: dict[str, list[str]] = {}
    for target in sorted(targets, key=lambda target: -target.seconds):
        found.setdefault(target.paper.name, []).append(target.text or target.paper.name)
    return {name: ["reproduce", *texts, *shared] for name, texts in found.items()}


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

    @property
    def seconds(self) -> float:
        """About how long that takes; what nobody has timed counts as a minute."""
        known = catalogue.seconds().get(self.paper.name, {})
        return sum(known.get(experiment.name, 60.0) for experiment in self.experiments)

    def holds_for(self, claim: str) -> bool:
        """Whether the claim was asked for."""
        return self.claim in (None, claim)


def _targets(text: str) -> list[Target]:
    """What a word of the command line names: a paper, a claim of it, or a collection of papers."""
    name, colon, claim = text.partition(":")
    if name in catalogue.COLLECTIONS and not colon:
        return [Target(catalogue.find(paper), None, paper) for paper in catalogue.COLLECTIONS[name]]
    target = Target(catalogue.find(name), claim if colon else None, text)
    assert target.experiments  # an unknown claim, or an empty one, is refused here
    return [target]


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
        "--missing", action="store_true", help="leave out what has findings, and go on where a check fails"
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


# Checking


class BeingChecked(UserError):
    """Another process writes the folder of the paper."""


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
        self._locks: Locks | None = None

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Until then no other process may write what this one has begun to write of the paper."""
        try:
            yield
        finally:
            if self._locks is not None:
                self._locks.close()
            self._locks = None

    def check(self, target: Target, options: Any, only_missing: bool = False) -> None:
        """Run the experiments of a target, print their findings, and write everything.

        Args:
            target: of this paper.
            options: of the paper.
            only_missing: leave out experiments whose findings are there; one that cannot be run is recorded
                as such, with the reason, and does not stop the others.

        Raises:
            UserError: an experiment cannot be run.
        """
        for experiment in target.experiments:
            key = self._key(experiment, options)
            if only_missing and self.is_done(experiment, options):
                say(f"{self.paper.name}: {experiment.name} is there already")
                continue
            try:
                self._check_one(target, experiment, options, key)
            except BeingChecked:
                raise
            except UserError as error:
                if not only_missing:
                    raise
                warn(f"{self.paper.name}: {experiment.name} was not checked: {error}")
                self._keep(experiment, Evidence(notes=[str(error)]), key, (0.0, 0.0), [])

    def _key(self, experiment: Experiment, options: Any) -> dict[str, Any]:
        """What decides the findings of an experiment."""
        key: dict[str, Any] = {"scale": "quick" if self.quick else "full", "options": asdict(options)}
        return key | ({"data": self.data is not None} if experiment.sets(self.quick) else {})

    def is_done(self, experiment: Experiment, options: Any) -> bool:
        """Whether it was checked with this protocol; with the data sets, where it was without them now."""
        key, kept = self._key(experiment, options), record.read(self.folder)
        enough = [json.loads(json.dumps(each)) for each in (key, {**key, "data": True})]
        mine = [kept.get(claim.id, {}) for claim in experiment.claims]
        return all(entry.get("protocol") in enough and entry.get("state") != record.NOT_RUN for entry in mine)

    def _check_one(
        self, target: Target, experiment: Experiment, options: Any, key: Mapping[str, Any]
    ) -> None:
        started = _clocks()
        with Progress(f"{self.paper.name} {experiment.name}") as progress:
            evidence = self._measured(experiment, options, progress.stage)
        seconds, cpu_seconds = (now - then for now, then in zip(_clocks(), started, strict=True))
        written = self._write(experiment, evidence)
        pictures = [path.name for path in written if path.suffix == ".png"]
        self._keep(experiment, evidence, key, (seconds, cpu_seconds), pictures)
        shown = [finding for finding in evidence.findings if target.holds_for(finding.claim)]
        remarks = [f"{f.claim}: {f.note}" for f in shown if f.note] + evidence.notes
        for line in [*map(str, shown), *(f"note: {note}" for note in remarks)]:
            print(line)
        held = sum(finding.holds for finding in shown)
        files = ", ".join(map(str, [*written, record.path_of(self.folder)]))
        verdict = f"{held} of {len(shown)} findings hold" if shown else "nothing was decided"
        print(f"{verdict}; wrote {files}", flush=True)

    def _measured(self, experiment: Experiment, options: Any, progress: ToldProgress) -> Evidence:
        """The evidence; with a note where the data sets are missing.

        Raises:
            UserError: the experiment refuses its options, or an extra of this package is not installed.
        """
        try:
            evidence = experiment.measure(options, self.workshop(progress))
        except ModuleNotFoundError as error:
            install = how_to_install(error.name)
            if install is None:
                raise
            raise UserError(f"{error.name} is missing; install it with: {install}") from error
        missing = experiment.sets(self.quick) if self.data is None else ()
        if missing:
            commands = " and ".join(f"python -m sgdlit data {name} --root data" for name in missing)
            evidence.notes.append(_FETCH.format(commands=commands, s="es" if len(missing) == 1 else ""))
        return evidence

    def _keep(
        self,
        experiment: Experiment,
        evidence: Evidence,
        key: Mapping[str, Any],
        seconds: tuple[float, float],
        pictures: Sequence[str],
    ) -> None:
        self._make_folder()
        record.add(
            self.folder,
            self.paper,
            {c.id: record.entry(c, evidence, key, seconds, pictures) for c in experiment.claims},
        )

    def _make_folder(self) -> None:
        """The folder of the paper, for this process alone from now on.

        Raises:
            BeingChecked: another one writes it.
            UserError: it cannot be made.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--out: {self.folder}: no such folder can be made ({error.strerror})") from error
        if self._locks is None:
            self._locks = Locks(self.folder.parent / _LOCK)
        if not self._locks.take(self.paper.name):
            raise BeingChecked(f"{self.folder}: another process checks {self.paper.name}; wait until it ends")

    def _write(self, experiment: Experiment, evidence: Evidence) -> list[Path]:
        self._make_folder()
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


def _clocks() -> tuple[float, float]:
    """The time, and the processors' time of this process and of those that it has waited for, in seconds."""
    return time.monotonic(), sum(os.times()[:4])


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


# What is shown


def _listing(out: Path) -> str:
    """All papers and claims, and how they stand."""
    lines = []
    known = catalogue.seconds()
    for paper in catalogue.papers().values():
        kept = record.read(out / paper.name)
        lines += [f"{paper.name}: {paper.reference}"]
        for experiment in paper.experiments:
            for claim in experiment.claims:
                entry = kept.get(claim.id, {})
                seconds = (
                    f"{entry['seconds']:.0f} s"
                    if entry
                    else _about(known.get(paper.name, {}).get(experiment.name))
                )
                state = entry.get("state", record.NOT_RUN)
                text = textwrap.shorten(claim.statement, 84, placeholder=" …")
                lines.append(f"  {claim.id:5} {state:13} {seconds:>6}  {text}")
                lines.append(f"{'':29}{textwrap.shorten(claim.source, 84, placeholder=' …')}")
        lines.append("")
    for name, parts in catalogue.COLLECTIONS.items():
        lines += [f"{name}: {', '.join(parts)}", ""]
    lines.append("python -m sgdlit reproduce PAPER[:CLAIM] checks; reproduce PAPER --help tells its options.")
    return "\n".join(lines)


def _about(seconds: float | None) -> str:
    """The time that a check takes, before it was made."""
    return "" if seconds is None else f"≈{seconds:.0f} s"


def _plan(target: Target, own: Mapping[str, Any], out: Path, data: Path | None) -> str:
    """The protocols of a target, but of what is there already where only what is missing would be run."""
    scale, lines = own["scale"], []
    session = Session(target.paper, out, scale == "quick", data, own["jobs"], own["svg"])
    options, only_missing = _options_of(target.paper, own), own["all"] or own["missing"]
    for experiment in target.experiments:
        if only_missing and session.is_done(experiment, options):
            continue
        for claim in experiment.claims:
            if target.holds_for(claim.id):
                protocol = claim.quick if scale == "quick" else claim.full
                lines.append(f"{target.paper.name}:{claim.id}  {scale}: {protocol}")
                if claim.config and scale == "full":
                    command = catalogue.command_of(claim.config)
                    lines.append(f"  python -m sgdlit {command} --config configs/{claim.config}")
    return "\n".join(lines)
