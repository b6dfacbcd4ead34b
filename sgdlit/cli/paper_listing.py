"""What ``reproduce`` says without checking: all claims with how they stand, and what would be run."""

import textwrap
from pathlib import Path
from typing import Any

from sgdlit.cli.paper_session import Session
from sgdlit.cli.paper_targets import Target
from sgdlit.papers import catalogue, record


def listing(out: Path, only_missing: bool = False) -> str:
    """All papers and claims, and how they stand; or those that have no findings."""
    if only_missing:
        found = _papers(out, only_missing)
        words = f"python -m sgdlit reproduce --all checks what is missing in {out}."
        return "\n".join([*found, words] if found else [f"nothing is missing in {out}"])
    lines = _papers(out, only_missing)
    for name, parts in catalogue.COLLECTIONS.items():
        lines += [f"{name}: {', '.join(parts)}", ""]
    lines.append("python -m sgdlit reproduce PAPER[:CLAIM] checks; reproduce PAPER --help tells its options.")
    return "\n".join(lines)


def _papers(out: Path, only_missing: bool) -> list[str]:
    """The lines of all papers that have any."""
    known, lines = catalogue.seconds(), []
    for paper in catalogue.papers().values():
        kept, own = record.read(out / paper.name), []
        for experiment in paper.experiments:
            for claim in experiment.claims:
                entry = kept.get(claim.id, {})
                state = entry.get("state", record.NOT_RUN)
                if only_missing and state != record.NOT_RUN:
                    continue
                seconds = (
                    f"{entry['seconds']:.0f} s"
                    if state != record.NOT_RUN
                    else _about(known.get(paper.name, {}).get(experiment.name))
                )
                text = textwrap.shorten(claim.statement, 84, placeholder=" …")
                own.append(f"  {claim.id:5} {state:13} {seconds:>6}  {text}")
                own.append(f"{'':29}{textwrap.shorten(claim.source, 84, placeholder=' …')}")
        lines += [f"{paper.name}: {paper.reference}", *own, ""] if own else []
    return lines


def _about(seconds: float | None) -> str:
    """The time that a check takes, before it was made."""
    return "" if seconds is None else f"≈{seconds:.0f} s"


def plan(target: Target, session: Session, options: Any, only_missing: bool) -> str:
    """The protocols of a target, but of what is there already where only what is missing would be run."""
    scale, lines = "quick" if session.quick else "full", []
    for experiment in target.experiments:
        if only_missing and session.is_done(experiment, options):
            continue
        for claim in experiment.claims:
            if target.holds_for(claim.id):
                protocol = claim.quick if session.quick else claim.full
                lines.append(f"{target.paper.name}:{claim.id}  {scale}: {protocol}")
                if claim.config and not session.quick:
                    command = catalogue.command_of(claim.config)
                    lines.append(f"  python -m sgdlit {command} --config configs/{claim.config}")
    return "\n".join(lines)
