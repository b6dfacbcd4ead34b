"""How long each experiment takes at quick scale, for the list of claims: writes sgdlit/papers/seconds.json.

    python -m sgdlit reproduce --all --out reproduce
    python scripts/claim_seconds.py reproduce

It takes the processors' time, which depends little on what else the machine does. Experiments that were not
checked at quick scale keep the time that is there. Runs that are found again take none: use a new folder.
"""

import json
import sys
from pathlib import Path

from sgdlit.papers import catalogue, record


def main(folder: Path) -> None:
    """Update the file from the entries in a folder of ``reproduce``."""
    known = catalogue.seconds()
    for name, paper in catalogue.papers().items():
        kept = record.read(folder / name)
        for experiment in paper.experiments:
            entry = kept.get(experiment.claims[0].id)
            checked = entry is not None and entry["state"] != record.NOT_RUN
            if checked and entry["protocol"]["scale"] == "quick" and "cpu_seconds" in entry:
                known.setdefault(name, {})[experiment.name] = max(0.1, entry["cpu_seconds"])
    path = Path(record.__file__).with_name("seconds.json")
    text = json.dumps(known, indent=1, sort_keys=True) + "\n"
    path.write_text(text, encoding="utf-8")
    print(f"wrote {path.name}: {sum(map(len, known.values()))} experiments")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
