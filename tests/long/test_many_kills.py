"""Kills in numbers: of workers on a sweep, of a run, and of a rank of two."""

import pytest
import sweep_worker
from fit_runs import Runs
from kills import kill_and_resume, kill_workers
from two_ranks import stop_a_rank

from sgdlit.sweeps import worker


@pytest.fixture(autouse=True)
def _light(monkeypatch):
    monkeypatch.setattr(worker, "made_by", sweep_worker.made_by)


def test_a_sweep_whose_workers_are_killed_fifty_times(tmp_path):
    kill_workers(tmp_path, kills=50)


def test_a_run_that_is_killed_ten_times(tmp_path):
    kill_and_resume(Runs(tmp_path), "killed", kills=10)


@pytest.mark.parametrize("which", ["first", "second"])
def test_a_signal_to_either_rank_stops_both(tmp_path, which):
    stop_a_rank(Runs(tmp_path, train=69, test=21), which)
