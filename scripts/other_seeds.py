"""Whether claims hold with other seeds: 1000, 1001, … where the check has 0, 1, ….

    python scripts/other_seeds.py 1000                    # claims of the list that draw in this process
    python scripts/other_seeds.py 1000 attia2023 L10 --data data

It shifts the seed of every draw, and prints the verdict of each claim, its failing findings, and where the
verdict is another than that of the seeds that are reported; outside the list these are 3000, 3001, …. Claims
that train through ``fit`` or ``sweep`` are left out: their seeds stand in arguments. What does not depend on
seeds is found again.
"""

import argparse
import os
from pathlib import Path

from sgdlit.foundations import philox
from sgdlit.theory import draws


def shift(by: int) -> None:
    """Every seed is larger by so much. To be called before any paper is imported, which binds these names."""
    derive_key, numbered_generator = philox.derive_key, draws.numbered_generator
    philox.derive_key = lambda seed, purpose: derive_key(seed + by, purpose)
    draws.numbered_generator = lambda seed, *purpose: numbered_generator(seed + by, *purpose)


def main() -> None:
    """Check the claims that are named, or all of the list."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("by", type=int, help="what is added to every seed")
    parser.add_argument("only", nargs="*", help="papers or claims; all of the list by default")
    parser.add_argument("--data", type=Path, default=os.environ.get("SGDLIT_DATA"))
    given = parser.parse_args()
    shift(given.by)
    check(given.only, given.data and Path(given.data))


def check(only: list[str], data: Path | None) -> None:
    """Print what each experiment finds now."""
    from sgdlit.foundations.errors import UserError
    from sgdlit.papers import catalogue
    from sgdlit.papers.paper import Workshop

    for name, paper in catalogue.papers().items():
        for experiment in paper.experiments:
            ids = {claim.id: claim.shows for claim in experiment.claims}
            wanted = {name, *ids} & set(only) if only else all(identity[0] == "L" for identity in ids)
            if not wanted or (experiment.needs_data and data is None):
                continue
            try:
                findings = experiment.measure(paper.quick_options(), Workshop(data=data)).findings
            except UserError as error:
                print(f"{name}:{experiment.name}: left out, {error}")
                continue
            failing = [finding for finding in findings if not finding.holds]
            failed = {finding.claim for finding in failing}
            for identity, shows in ids.items():
                turns = "" if (identity not in failed) == shows else "  <- another verdict"
                print(f"{name}:{identity}: {'does not hold' if identity in failed else 'holds'}{turns}")
            for finding in failing:
                print(f"    {finding}")


if __name__ == "__main__":
    main()
