"""What ``reproduce`` says without checking: all claims with how they stand, and what would be run."""

import textwrap
from pathlib import Path
from typing import Any

from sgdlit.cli.paper_session import Session
from sgdlit.cli.paper_targets import Target
from sgdlit.papers import catalogue, record


def listing(out: Path) -> str:
    """All papers and claims, and how they stand."""
    lines = []
    known = catalogue.seconds()
    for paper in catalogue.papers().values():
        kept = record.read(out / paper.name)
        lines += [f"{paper.name}: {paper.reference}"]
        for experiment in paper.experiments:
            for claim in experiment.claims:
                entry = kept.get(claim.id, {})
                state = entry.get("state", record.NOT_RUN)
                seconds = (
                    f"{entry['seconds']:.0f} s"
                    if state != record.NOT_RUN
                    else _about(known.get(paper.name, {}).get(experiment.name))
                )
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
