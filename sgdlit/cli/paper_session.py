"""A paper being checked: its experiments are run, what they found is printed, and all of it is written."""

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sgdlit.cli.paper_targets import Target
from sgdlit.cli.paper_trainings import Trainings
from sgdlit.foundations.console import say, warn
from sgdlit.foundations.errors import UserError
from sgdlit.foundations.extras import how_to_install
from sgdlit.foundations.files import write_table
from sgdlit.foundations.locks import Locks
from sgdlit.foundations.progress import Progress
from sgdlit.papers import record
from sgdlit.papers.paper import Evidence, Experiment, Paper, Workshop, silent
from sgdlit.papers.paper import Progress as ToldProgress

_LOCK = "papers.lock"
_FETCH = (
    "the folder of the data sets is missing, and with it {part} of this: {commands} fetch{s} what it looks "
    "at; then give --data data, or set SGDLIT_DATA"
)


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
            part, s = "a part" if evidence.findings else "all", "es" if len(missing) == 1 else ""
            evidence.notes.append(_FETCH.format(part=part, commands=commands, s=s))
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

    def workshop(self, progress: ToldProgress = silent) -> Workshop:
        """What an experiment of this paper is given."""
        trainings = Trainings(self.folder, self.jobs, self._make_folder)
        return Workshop(self.quick, self.data, progress, trainings.fit, trainings.sweep)


def _clocks() -> tuple[float, float]:
    """The time, and the processors' time of this process and of those that it has waited for, in seconds."""
    return time.monotonic(), sum(os.times()[:4])
