"""What is kept of a check, ``claims.json`` beside tables and pictures of a paper, and how a claim stands.

An entry has all that a reader of the finding needs: the claim, its protocol, what was found, the files, and
when, on what machine and with which versions.
"""

import json
import platform
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from sgdlit import __version__
from sgdlit.foundations.errors import UserError
from sgdlit.foundations.files import write_atomically
from sgdlit.foundations.seals import BrokenSeal, sealed, unsealed
from sgdlit.foundations.threads import usable_cores
from sgdlit.papers.claim import Claim, Finding
from sgdlit.papers.paper import Evidence, Paper

HOLDS, DOES_NOT_SHOW, NO_VERDICT, NOT_RUN = "holds", "does not show", "no verdict", "not run"
STATES = (HOLDS, DOES_NOT_SHOW, NO_VERDICT, NOT_RUN)
"""How a claim stands; without findings it is ``no verdict`` where there is a table, else ``not run``."""

_FILE = "claims.json"
_LIBRARIES = ("torch", "numpy", "scipy", "lightning")
Entry = dict[str, Any]


def path_of(folder: Path) -> Path:
    """The file in the folder of a paper."""
    return folder / _FILE


def read(folder: Path) -> dict[str, Entry]:
    """The entries of a paper by claim; nothing where nothing was checked.

    Raises:
        UserError: the file is damaged, or an entry has changed since it was written.
    """
    path = path_of(folder)
    if not path.exists():
        return {}
    claim = ""
    try:
        entries = {}
        for claim, own in json.loads(path.read_text(encoding="utf-8")).items():
            entries[claim] = unsealed(own)
    except (ValueError, AttributeError) as error:
        what = f"the entry of {claim} {error}" if isinstance(error, BrokenSeal) else "it is damaged"
        raise UserError(
            f"{path}: {what}; allowed: the file as reproduce wrote it, or none (remove it, and its claims "
            "are checked anew)"
        ) from error
    return entries


def add(folder: Path, paper: Paper, entries: Mapping[str, Entry]) -> None:
    """Keep the entries of some claims beside, or instead of, those that are there."""
    kept = read(folder) | dict(entries)
    ordered = {claim.id: sealed(kept[claim.id]) for claim in paper.claims if claim.id in kept}
    write_atomically(path_of(folder), json.dumps(ordered, indent=1, ensure_ascii=False) + "\n")


def entry(
    claim: Claim,
    evidence: Evidence,
    protocol: Mapping[str, Any],
    seconds: tuple[float, float],
    pictures: Iterable[str] = (),
) -> Entry:
    """What is kept of a claim.

    Args:
        claim: which.
        evidence: of the experiment that decides it.
        protocol: scale and options.
        seconds: that the experiment took, and those that processors worked for it.
        pictures: names of its files, in the folder of the paper.
    """
    findings = [finding for finding in evidence.findings if finding.claim == claim.id]
    return {
        **{k: v for k, v in asdict(claim).items() if k != "id"},
        "protocol": json.loads(json.dumps(protocol)),
        "state": state_of(findings, evidence),
        "findings": [{**asdict(finding), "holds": bool(finding.holds)} for finding in findings],
        "notes": evidence.notes,
        "pictures": list(pictures),
        "seeds": evidence.seeds or _seeds_among(protocol["options"]),
        "seconds": round(seconds[0], 1),
        "cpu_seconds": round(seconds[1], 1),
        "when": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "versions": versions(),
    }


def state_of(findings: Sequence[Finding], evidence: Evidence) -> str:
    """How a claim stands, one of ``STATES``."""
    if not findings:
        return NO_VERDICT if evidence.tables else NOT_RUN
    return HOLDS if all(finding.holds for finding in findings) else DOES_NOT_SHOW


def _seeds_among(options: Mapping[str, Any], prefix: str = "") -> str:
    """The options that speak of seeds, such as ``seeds = 20``; nothing where there are none."""
    found = []
    for name, value in options.items():
        if isinstance(value, Mapping):
            found.append(_seeds_among(value, f"{prefix}{name}."))
        elif value is not None and ("seed" in name or name == "runs"):
            found.append(f"{prefix}{name} = {value}")
    return ", ".join(filter(None, found))


def machine() -> str:
    """Processor, cores that this process may use, and system."""
    cores = usable_cores()
    return (
        f"{_processor()}, {cores} core{'' if cores == 1 else 's'}, {platform.system()} {platform.machine()}"
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown processor"


def versions() -> dict[str, str]:
    """Of Python, of this package, and of what it computes with."""
    return {"sgdlit": __version__, "python": platform.python_version()} | {
        name: found for name in _LIBRARIES if (found := _version_of(name))
    }


def _version_of(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
