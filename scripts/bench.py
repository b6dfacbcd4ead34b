"""What sgdlit costs, as ratios against a plain PyTorch loop that does the same work in the same run.

    python scripts/bench.py                  # everything, about half an hour on two cores
    python scripts/bench.py --only fit data  # some groups: see --help

Each figure is the best of several interleaved rounds, so that a slow moment of the machine falls on both
sides of a ratio. It runs on the GPU where there is one.
"""

import argparse
import logging
import platform
import warnings

import lightning
import torch
from benchmarks import ensembles, fit, measures, penalty, sensing
from benchmarks.common import DEVICE

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
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=GROUPS, default=list(GROUPS), help="groups to run")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds of which the best counts")
    parser.add_argument(
        "--compiled", action="store_true", help="time the compiled forms too (compiling is slow)"
    )
    parser.add_argument(
        "--malloc", choices=("kept", "default"), default="kept", help="freed memory, as in fit"
    )
    arguments = parser.parse_args()
    if arguments.malloc == "kept":
        keep_freed_memory()
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    device = torch.cuda.get_device_name() if DEVICE.type == "cuda" else f"{platform.machine()} CPU"
    versions = (
        f"torch {torch.__version__}, lightning {lightning.__version__}, python {platform.python_version()}"
    )
    print(f"{device}, {torch.get_num_threads()} threads, {versions}")
    print(f"{'group':40}{'work':48}{'time':>12}{'per second':>12}{'ratio':>8}{'target':>8}")
    for group in arguments.only:
        for row in GROUPS[group](arguments.rounds, arguments.compiled):
            label = f"{row.group:40}{row.work:48}"
            timing = f"{row.seconds * 1e3:>9.3f} ms{1 / row.seconds:>12.1f}{row.ratio:>8.3f}"
            print(f"{label}{timing}{row.verdict}", flush=True)


if __name__ == "__main__":
    main()
