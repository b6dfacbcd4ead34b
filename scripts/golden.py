"""Frozen numbers: do small runs of everything still end where they ended before the package was changed?

    python scripts/golden.py --write              run all cases and keep their hashes in scripts/golden.json
    python scripts/golden.py [--only NAME ...]    run them again and compare; exit code 1 where one differs

Every case is one or more real commands in a temporary folder. What is kept of it: the sha256 of each trained
network and of each column of each table, and the claims of a study. Beside each hash stand count, norm, sum,
first and last number, by which a machine whose bits differ can still compare to rounding.

On one machine a case gives the same bits whenever it is run. Columns that were added do not matter.
"""

import argparse
import csv
import hashlib
import json
import math
import re
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from golden_cases import Case, Outcome, cases, parameters_of, write_data

GOLDEN = Path(__file__).with_suffix(".json")
RUN_TABLES = ("metrics.csv", "members.csv", "predictions.csv")
BY_THE_CLOCK = re.compile("second|time")  # columns that are not compared
Parts = dict[str, Any]


def parts_of(outcome: Outcome) -> Parts:
    """What is kept of a case, by name."""
    parts: Parts = {"claims": outcome.claims} if outcome.claims else {}
    for k, run in enumerate(outcome.runs):
        for member, tensors in parameters_of(run).items():
            content = b"".join(t.contiguous().flatten().view(torch.uint8).numpy().tobytes() for t in tensors)
            values = torch.cat([t.double().flatten() for t in tensors]).tolist()
            parts[f"run {k} parameters {member}"] = hashed(content, values)
        for table in RUN_TABLES:
            if (run / table).exists():
                parts |= columns_of(run / table, f"run {k} {table}")
    for table in outcome.tables:
        parts |= columns_of(table, table.name)
    return parts


def columns_of(path: Path, name: str) -> Parts:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    columns = {key: [row[key] for row in rows] for key in rows[0] if not BY_THE_CLOCK.search(key)}
    return {
        f"{name} {key}": hashed("\n".join(texts).encode(), [v for v in map(number, texts) if v is not None])
        for key, texts in columns.items()
    }


def hashed(content: bytes, values: list[float]) -> dict[str, Any]:
    finite = [v for v in values if math.isfinite(v)]
    norm = math.sqrt(math.fsum(v * v for v in finite))
    numbers = [len(values), len(finite), norm, math.fsum(finite), *values[:1], *values[-1:]]
    return {"sha256": hashlib.sha256(content).hexdigest(), "numbers": numbers}


def number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def limit(case: str, part: str) -> float:
    """The relative difference that rounding can make."""
    if part == "claims":
        return 1e-2  # printed with few digits
    if "float64" in case and "parameters" in part:
        return 1e-6  # initial parameters are drawn in float32, which differ by machine
    if case.startswith("theory") and "least" not in case:  # least squares are solved to 1e-5
        return 1e-6
    return 1e-2 if "bf16" in case else 1e-4


def timed(case: Case, folder: Path) -> tuple[Parts, float]:
    folder.mkdir()
    start = time.perf_counter()
    try:
        parts = parts_of(case(folder))
    except Exception as error:  # a case that fails is reported as one that differs
        parts = {"failed": str(error)[-600:]}
    return parts, time.perf_counter() - start


def compared(name: str, kept: Parts, parts: Parts) -> tuple[str, bool]:
    """In words, and whether it is good; parts that were not kept do not matter."""
    if "failed" in parts or not kept:
        return parts.get("failed", "new"), "failed" not in parts
    far = {key: distance(part, parts[key]) if key in parts else math.inf for key, part in kept.items()}
    different = [f"{key} ({gap:.2g})" for key, gap in far.items() if gap > limit(name, key)]
    if different:
        more = f", and {len(different) - 8} more" if len(different) > 8 else ""
        return f"DIFFERENT: {', '.join(different[:8])}{more}", False
    largest = max(far.values())
    return (f"same to rounding ({largest:.2g})" if largest else "same"), True


def distance(one: Any, other: Any) -> float:
    """The largest relative difference of two parts: 0 where they are equal, infinite where texts differ."""
    if one == other or (isinstance(one, dict) and one["sha256"] == other["sha256"]):
        return 0.0
    if isinstance(one, list):  # claims, with numbers in sentences
        pattern = r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?"
        texts = [re.sub(pattern, "#", "\n".join(lines)) for lines in (one, other)]
        one, other = ([float(v) for v in re.findall(pattern, "\n".join(lines))] for lines in (one, other))
        return max(map(relative, one, other)) if texts[0] == texts[1] else math.inf
    a, b = one["numbers"], other["numbers"]
    if not a[0] or a[:2] != b[:2]:  # no numbers, or other ones
        return math.inf
    norm = max(a[2], b[2])
    size = norm / math.sqrt(max(a[1], 1))  # root mean square
    bounds = (0.0, norm, size, size)
    found = max(relative(x, y, bound) for x, y, bound in zip(a[2:], b[2:], bounds, strict=True))
    return found or sys.float_info.min  # the bits differ where these numbers do not


def relative(a: float, b: float, size: float = 0.0) -> float:
    if a == b or abs(a - b) < 1e-15 or (math.isnan(a) and math.isnan(b)):
        return 0.0
    return abs(a - b) / max(abs(a), abs(b), size) if math.isfinite(a - b) else math.inf


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--write", action="store_true", help="keep what is found, in place of comparing")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="cases; all if not given")
    parser.add_argument("--jobs", type=int, default=2, help="cases at a time")
    given = parser.parse_args()
    kept = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(given.jobs) as pool:
        found = cases(write_data(Path(scratch, "data")))
        if unknown := {*(given.only or [])} - {*found}:
            parser.error(f"--only: no case {', '.join(unknown)}; there are {', '.join(found)}")
        names = given.only or list(found)
        good = True
        outcomes = pool.map(lambda name: timed(found[name], Path(scratch, name)), names)
        for name, (parts, seconds) in zip(names, outcomes, strict=True):
            verdict, same = compared(name, {} if given.write else kept.get(name, {}), parts)
            good &= same
            print(f"{name:30} {seconds:5.1f} s  {len(parts):3} parts  {verdict}", flush=True)
            if given.write and "failed" not in parts:
                kept[name] = parts
    if given.write:
        GOLDEN.write_text(json.dumps({name: kept[name] for name in found if name in kept}, indent=0) + "\n")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
