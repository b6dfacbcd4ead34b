"""How many cores a process may use, and that its threads sleep while they wait."""

import os
import sys

import pytest

from sgdlit.foundations import threads
from sgdlit.foundations.threads import SPINS, share_cores, sleep_while_waiting, threads_for, usable_cores


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine of 16 cores without limits; returns a function that writes a file of its cgroups."""
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)), raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)

    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def cores():
        return usable_cores(tmp_path / "cgroup", tmp_path / "own")

    return write, cores


def test_without_limits_it_is_all_of_them(machine):
    assert machine[1]() == 16


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("0::/job/step\n", {"job/step/cpu.max": "max 100000", "job/cpu.max": "350000 100000"}, 3),
        ("0::/\n", {"cpu.max": "50000 100000"}, 1),  # half a core is one thread
        ("0::/job\n", {"job/cpu.max": "max 100000"}, 16),
        ("0::/job\n", {}, 16),
        ("4:cpu,cpuacct:/a\n1:memory:/b\n", {"cpu/a/cpu.cfs_quota_us": "200000",
                                             "cpu/a/cpu.cfs_period_us": "100000"}, 2),
        ("4:cpu,cpuacct:/a\n", {"cpu/a/cpu.cfs_quota_us": "-1", "cpu/a/cpu.cfs_period_us": "100000"}, 16),
        ("3:cpuset:/a\n", {"cpu/a/cpu.cfs_quota_us": "200000", "cpu/a/cpu.cfs_period_us": "100000"}, 16),
    ],
)  # fmt: skip
def test_the_quota_of_a_cgroup_bounds_them(machine, own, files, expected):
    write, cores = machine
    write("own", own)
    for name, text in files.items():
        write(f"cgroup/{name}", text + "\n")
    assert cores() == expected


def test_so_do_affinity_and_slurm(machine, monkeypatch):
    _, cores = machine
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {2, 3, 5})
    assert cores() == 3
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "2")
    assert cores() == 2
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "8")
    assert cores() == 3


def test_processes_share_them(monkeypatch):
    monkeypatch.setattr(threads, "usable_cores", lambda: 6)
    assert [threads_for(processes) for processes in (0, 1, 2, 4, 9)] == [6, 6, 3, 1, 1]


def test_ranks_on_this_machine_share_them(monkeypatch):
    import torch

    threads_now = [8]
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads_now[-1])
    monkeypatch.setattr(torch, "set_num_threads", threads_now.append)
    monkeypatch.setattr(threads, "usable_cores", lambda: 6)
    given = [{}, {"SLURM_NTASKS": "2"}, {"LOCAL_RANK": "1"}, {"OMP_NUM_THREADS": "4"}]
    for environment in given:
        threads_now[:] = [8]
        share_cores(2, environment)
        environment["found"] = str(threads_now[-1])
    assert given == [
        {"OMP_NUM_THREADS": "3", "found": "3"},
        {"SLURM_NTASKS": "2", "found": "6"},
        {"LOCAL_RANK": "1", "found": "6"},
        {"OMP_NUM_THREADS": "4", "found": "8"},
    ]


def test_threads_sleep_unless_the_user_chose(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    given = [{}, {"GOMP_SPINCOUNT": "7"}, {"OMP_WAIT_POLICY": "active"}]
    for environment in given:
        sleep_while_waiting(environment)
    assert given == [{"GOMP_SPINCOUNT": SPINS}, {"GOMP_SPINCOUNT": "7"}, {"OMP_WAIT_POLICY": "active"}]
    monkeypatch.setitem(sys.modules, "torch", object())
    late: dict[str, str] = {}
    sleep_while_waiting(late)
    assert late == {}
