"""Draw the curves of some runs into one picture.

python scripts/plot_runs.py docs/curves.png "λ = 0=logs/plain/version_0" "λ = 2⁻⁵=logs/modified/version_0"
"""

import sys
from pathlib import Path

from sgdlit.figures.run_curves import draw_runs
from sgdlit.foundations.errors import UserError


def main(arguments: list[str]) -> int:
    if len(arguments) < 2:
        print(__doc__)
        return 2
    target, runs = Path(arguments[0]), [run.rpartition("=") for run in arguments[1:]]
    try:
        written = draw_runs(
            [Path(folder) for *_, folder in runs], [name or folder for name, _, folder in runs], target
        )
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("written:", *written)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
