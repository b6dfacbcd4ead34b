"""What sgdlit costs, as ratios against a plain PyTorch loop that does the same work in the same run.

    python scripts/bench.py                  # everything, about an hour on two cores
    python scripts/bench.py --only fit data  # some groups: see --help

Each figure is the median of several interleaved rounds, and each ratio the median of the rounds' ratios: a
slow moment of the machine falls on both sides. It runs on the GPU where there is one. Of a time, "limit" is
the part that the machine needs at least, see scripts/benchmarks/limits.py. Every run leaves a JSON in
logs/bench; "before" is the time over that of the last run on the same machine.

The group jax compares with JAX, which is an extra: pip install sgdlit[bench].
"""

import argparse
import os
import platform
import time
from pathlib import Path
from typing import Any

from sgdlit.foundations.threads import SPINS

os.environ.setdefault("GOMP_SPINCOUNT", SPINS)  # as in the commands, before torch is loaded
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # JAX would take most of a GPU's memory

import logging
import warnings

import lightning
import torch
from benchmarks import busy, ensembles, fit, measures, peers, penalty, ranks, record, sensing
from benchmarks.common import DEVICE, Row
from benchmarks.limits import limits

from sgdlit.foundations.memory import keep_freed_memory

GROUPS = {
    "start": fit.start_up,
    "data": fit.data_path,
    "penalty": penalty.penalty,
    "fit": fit.through_fit,
    "sensing": sensing.one_run,
    "process": sensing.whole_process,
    "wide": sensing.wide_networks,
    "small": ensembles.small_networks,
    "sensing-ensembles": sensing.ensembles,
    "mlp": ensembles.mlp,
    "wrn": ensembles.wide_resnets,
    "measures": measures.measures,
    "busy": busy.busy_machine,
    "ranks": ranks.shared_batch,
    "jax": peers.against_jax,
}
KEPT = Path("logs/bench")


def main() -> None:
    given = _arguments()
    if given.malloc == "kept":
        keep_freed_memory()
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    facts = _facts()
    against = given.against or record.earlier(KEPT, facts["device"])
    before = record.seconds_of_rows(against) if against else {}
    print(f"{facts['device']}, {facts['versions']}")
    found = limits()
    copies = (
        f"{found.bytes_per_second / 1e9:.1f} GB/s, {found.cached_bytes_per_second / 1e9:.1f} in the cache"
    )
    print(f"copy {copies}; float32 product {found.flops_per_second / 1e9:.0f} GFLOP/s")
    if against:
        print(f"before: {against}")
    head = f"{'time':>12}{'per second':>12}{'ratio':>8}{'limit':>7}{'before':>8}{'target':>8}"
    print(f"{'group':44}{'work':48}{head}")
    rows: list[Row] = []
    out = given.json or KEPT / time.strftime("%Y%m%d-%H%M%S.json")
    for group in given.only:
        for row in GROUPS[group](given.rounds, given.compiled):
            rows.append(row)
            print(_line(row, before), flush=True)
        record.write(out, facts, found, rows)
    print(f"wrote {out}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=GROUPS, default=list(GROUPS), help="groups to run")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds")
    parser.add_argument("--json", type=Path, help="what is written (default: logs/bench/TIME.json)")
    parser.add_argument("--against", type=Path, help="the JSON of an earlier run (default: the last)")
    parser.add_argument(
        "--compiled", action="store_true", help="time the compiled forms too (compiling is slow)"
    )
    parser.add_argument(
        "--malloc", choices=("kept", "default"), default="kept", help="freed memory, as in fit"
    )
    return parser.parse_args()


def _facts() -> dict[str, Any]:
    """Where and with what the times are taken."""
    kind = torch.cuda.get_device_name() if DEVICE.type == "cuda" else f"{platform.machine()} CPU"
    versions = {"torch": torch.__version__, "lightning": lightning.__version__}
    words = ", ".join(f"{name} {version}" for name, version in versions.items())
    return {
        "device": f"{kind}, {torch.get_num_threads()} threads",
        "versions": f"{words}, python {platform.python_version()}",
        "at": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def _line(row: Row, before: dict[tuple[str, str], float]) -> str:
    """A row as text: the limit as a part of the time, the time over that of the earlier run."""
    limit = "" if row.limit is None else f"{row.limit / row.seconds:.0%}"
    then = before.get((row.group, row.work))
    change = "" if then is None else f"{row.seconds / then:.2f}"
    timing = f"{row.seconds * 1e3:>9.3f} ms{1 / row.seconds:>12.1f}{row.ratio:>8.3f}"
    return f"{row.group:44}{row.work:48}{timing}{limit:>7}{change:>8}{row.verdict}"


if __name__ == "__main__":
    main()
