"""How many threads work, and how they wait for each other.

A process takes the cores that it may use, which are not those that the machine has: its affinity, the quota
of its cgroup (containers) and the cores that SLURM gave its task bound them.

OpenMP's threads spin while they wait for each other, some milliseconds as GNU's libgomp comes. Where other
processes want the cores, a thread spins until the scheduler takes its core away, and the one that it waits
for gets no core meanwhile: a step then takes many times as long. Here they spin for a short while, as long as
the gap between two operations of a network, and then sleep. ``scripts/bench.py --only busy`` measures it.
"""

import os
import sys
from collections.abc import MutableMapping
from pathlib import Path

SPINS = "3000"
"""Turns of libgomp's waiting loop before a thread sleeps."""

_CHOSEN = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


def sleep_while_waiting(environment: MutableMapping[str, str] = os.environ) -> None:
    """Set ``GOMP_SPINCOUNT`` for this process and those it starts, unless the user chose how threads wait.

    libgomp reads it when torch is imported: nothing is set where that has happened.
    """
    if "torch" not in sys.modules and not any(name in environment for name in _CHOSEN):
        environment["GOMP_SPINCOUNT"] = SPINS


def usable_cores(groups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int:
    """The number of cores that this process may keep busy, at least 1.

    Args:
        groups: where the cgroups of the machine are.
        own: the file that names those of this process.
    """
    cores = float(os.cpu_count() or 1)
    if sys.platform == "linux":
        cores = min(cores, len(os.sched_getaffinity(0)), _quota(groups, own))
    task = os.environ.get("SLURM_CPUS_PER_TASK", "")
    return max(1, int(min(cores, float(task) if task.isdigit() else cores)))


def threads_for(processes: int) -> int:
    """The threads of each of some processes that share the cores, at least 1."""
    return max(1, usable_cores() // max(1, processes))


def share_cores(processes: int, environment: MutableMapping[str, str] = os.environ) -> None:
    """Bound the threads of this process, one of some on this machine that train together.

    Those that it starts inherit the bound. Nothing happens where the user set ``OMP_NUM_THREADS``, and for
    ranks that SLURM or torchrun started: each of those has cores of its own.
    """
    import torch

    own = 1 if "LOCAL_RANK" in environment or "SLURM_NTASKS" in environment else processes
    if "OMP_NUM_THREADS" in environment:
        return
    torch.set_num_threads(min(torch.get_num_threads(), threads_for(own)))
    if own > 1:
        environment["OMP_NUM_THREADS"] = str(torch.get_num_threads())


def _quota(groups: Path, own: Path) -> float:
    """The least quota of the process's cgroups and of those above them, in cores; infinity without one."""
    quota = float("inf")
    for line in _text(own).splitlines():
        _, controllers, path = line.split(":", 2)
        version_two = controllers == ""
        if not version_two and "cpu" not in controllers.split(","):
            continue
        root = groups if version_two else groups / "cpu"
        group = root / path.strip("/")
        for folder in [group, *group.parents]:
            quota = min(quota, _quota_of(folder))
            if folder == root:
                break
    return quota


def _quota_of(group: Path) -> float:
    """Of one cgroup: ``cpu.max`` holds microseconds of work and of time; version 1 has a file for each."""
    words = _text(group / "cpu.max").split()
    if len(words) != 2:
        words = [_text(group / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
    work, period = (float(word) if word.isdigit() else 0.0 for word in words)
    return work / period if work and period else float("inf")  # no limit is max, or -1


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
