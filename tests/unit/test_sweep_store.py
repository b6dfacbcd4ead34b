"""The store of a sweep, locks on its cells, and workers on it that are killed, stopped, or fail."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sweep_worker
import yaml
from kills import calls_of, kill_workers, start
from sweep_worker import fit, grid

from sgdlit import load_run
from sgdlit.foundations.errors import UserError
from sgdlit.foundations.locks import Locks
from sgdlit.runs.folder import BeingWritten
from sgdlit.sweeps import worker
from sgdlit.sweeps.hparams import write_hparams
from sgdlit.sweeps.store import Result, Store, summary_of


@pytest.fixture(autouse=True)
def _light(monkeypatch):
    monkeypatch.setattr(worker, "made_by", sweep_worker.made_by)


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "store", create=True)


def result(key: str = "0a-1", **values) -> Result:
    numbers = {"test/loss": {"final": 0.5, "lowest": 0.25, "highest": 1.0}}
    defaults = {"point": {"lr": 0.1}, "seed": 1, "state": "finished", "step": 20, "reached": {}}
    return Result(key, **(defaults | {"metrics": numbers, "seconds": 1.5, "made_by": {}} | values))


# What a run left


def test_a_run_is_read_from_its_folder(tmp_path):
    (tmp_path / "status.json").write_text('{"state": "finished", "step": 20, "test/lowest_loss": 0.5}')
    (tmp_path / "metrics.csv").write_text("step,train/loss,test/loss\n10,1.0,\n10,,3.0\n20,nan,2.0\n")
    (outcome,) = load_run(tmp_path).members
    assert (outcome.state, outcome.step, outcome.reached) == ("finished", 20, {"test/lowest_loss": 0.5})
    steps, values = outcome.columns["train/loss"]
    assert steps.tolist() == [10, 20]
    np.testing.assert_array_equal(values, [1.0, np.nan])
    assert summary_of(outcome.columns) == {
        "train/loss": {"final": None, "lowest": 1.0, "highest": 1.0},
        "test/loss": {"final": 2.0, "lowest": 2.0, "highest": 3.0},
    }


def test_the_members_of_an_ensemble_are_runs_of_their_own(tmp_path):
    members = [
        {"point": {"lr": 1}, "state": "finished", "step": 20, "reached": {"a": 1}},
        {"point": {"lr": 2}, "state": "diverged", "step": 7, "reached": {}},
    ]
    (tmp_path / "status.json").write_text(json.dumps({"state": "finished", "step": 20, "members": members}))
    (tmp_path / "metrics.csv").write_text("step,member,train/loss\n10,0,1.0\n10,1,5.0\n20,0,0.5\n")
    first, second = load_run(tmp_path).members
    assert (first.point, first.state, first.reached) == ({"lr": 1}, "finished", {"a": 1})
    assert (second.point, second.state, second.step) == ({"lr": 2}, "diverged", 7)
    assert first.columns["train/loss"][1].tolist() == [1.0, 0.5]
    assert second.columns["train/loss"][0].tolist() == [10]
    assert "member" not in first.columns


# The store


def test_what_is_written_is_read(store):
    columns = {"test/loss": (np.array([10, 20]), np.array([1.0, np.inf]))}
    store.write(result(), columns)
    assert store.read() == ({"0a-1": result()}, [])
    assert store.has("0a-1")
    assert not store.has("0a-2")
    steps, values = store.curve("0a-1", "test/loss")
    assert (steps.tolist(), values.tolist()) == ([10, 20], [1.0, np.inf])
    assert [a.tolist() for a in store.curve("0a-1", "other")] == [[], []]
    assert (store.folder / "runs" / "0a-1.json").read_text().count("\n") == 1
    store.set_aside(["0a-1"])
    assert store.read() == ({}, [])
    assert (store.folder / "replaced" / "0a-1.json").exists()


@pytest.mark.parametrize("text", ["", '{"key": "0a-1", "poi', "[1]", '{"key": "0a-1"}', "null"])
def test_a_line_that_is_no_result_is_named_and_the_others_are_read(store, text):
    store.write(result("0b-1"), {})
    path = store.folder / "runs" / "0a-1.json"
    path.write_text(text)
    results, damaged = store.read()
    assert (list(results), damaged) == (["0b-1"], [path])


def test_a_result_under_the_name_of_another_is_none(store):
    store.write(result("0b-1"), {})
    (store.folder / "runs" / "0b-1.json").rename(store.folder / "runs" / "0c-1.json")
    assert store.read() == ({}, [store.folder / "runs" / "0c-1.json"])


def test_folders_that_are_no_store(tmp_path, store):
    with pytest.raises(UserError, match="no sweep is stored there"):
        Store(tmp_path / "nowhere")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").touch()
    with pytest.raises(
        UserError, match="holds other files than a sweep's; allowed: an empty or a new folder"
    ):
        Store(tmp_path / "other", create=True)
    with pytest.raises(UserError, match="cannot be written"):
        Store(tmp_path / "other" / "thesis.tex" / "x", create=True)
    (store.folder / "store.json").write_text('{"format": 2}')
    with pytest.raises(
        UserError, match="format 2, written by a newer sgdlit than this one, which knows format 1"
    ):
        Store(store.folder)
    (store.folder / "store.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read, so what the folder holds is not known"):
        Store(store.folder)


def test_a_store_whose_maker_was_killed_before_its_first_file_is_one(tmp_path):
    folder = tmp_path / "half"
    (folder / "runs").mkdir(parents=True)
    (folder / "curves").mkdir()
    (folder / ".store.json.123").write_text("{")
    Store(folder, create=True).write(result(), {})
    assert list(Store(folder).read()[0]) == ["0a-1"]
    (tmp_path / "theirs" / "runs").mkdir(parents=True)
    (tmp_path / "theirs" / "runs" / "thesis.tex").touch()
    with pytest.raises(UserError, match="holds other files than a sweep's"):
        Store(tmp_path / "theirs", create=True)


def test_a_store_that_another_sweep_has_just_made(tmp_path, monkeypatch):
    """Between the look for its file and the look at what else is there."""
    folder = tmp_path / "new"

    def meanwhile(store):
        monkeypatch.undo()
        Store(folder, create=True).write(result(), {})
        (folder / "cells.lock").touch()
        return store._is_half_made()

    folder.mkdir()
    monkeypatch.setattr(Store, "_is_half_made", meanwhile)
    assert Store(folder, create=True).has("0a-1")


def test_a_table_of_hyper_parameters_that_another_sweep_writes_too(tmp_path, monkeypatch):
    """The other is first, between the look and the rename."""
    folder, own = tmp_path / "tensorboard", result(made_by={"at": "12:00"})
    rename = Path.rename

    def after_another(path: Path, target: Path) -> Path:
        monkeypatch.setattr(Path, "rename", rename)
        assert write_hparams(folder, [own]) == 1
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", after_another)
    assert write_hparams(folder, [own]) == 1
    assert [path.name for path in folder.iterdir()] == ["0a-1_1200"]
    assert list((folder / "0a-1_1200").glob("events.*"))


# Locks


def test_a_lock_keeps_others_out_until_it_is_dropped_or_its_process_is_killed(tmp_path):
    path = tmp_path / "cells.lock"
    program = (
        "import sys; from pathlib import Path; from sgdlit.foundations.locks import Locks\n"
        f"locks = Locks(Path({str(path)!r})); print(locks.take('a'), locks.take('b'), flush=True)\n"
        "sys.stdin.readline(); locks.drop('b'); print('dropped', flush=True); sys.stdin.readline()"
    )
    command = [sys.executable, "-c", program]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as other:
        assert other.stdout.readline() == "True True\n"
        locks = Locks(path)
        assert [locks.take(key) for key in "abc"] == [False, False, True]
        other.stdin.write("\n")
        other.stdin.flush()
        assert other.stdout.readline() == "dropped\n"
        assert [locks.take(key) for key in "ab"] == [False, True]
        other.kill()
        other.wait()
        assert locks.take("a")
        locks.close()


# Workers


def test_a_worker_runs_what_is_missing_once_and_leaves_nothing_else(store):
    done = worker.work(grid(9), store, fit)
    assert (done.ran, done.failed, done.elsewhere) == (9, {}, 0)
    results, damaged = store.read()
    assert (len(results), damaged, list((store.folder / "work").iterdir())) == (9, [], [])
    diverged = results[f"{0:016x}-1"]
    assert (diverged.state, diverged.step, diverged.point) == ("diverged", 7, {"model.lr": 1.0})
    finished = results[f"{1:016x}-2"]
    assert (finished.state, finished.seed, finished.reached) == ("finished", 2, {"test/lowest_loss": 0.5})
    assert finished.metrics["test/loss"] == {"final": 0.7, "lowest": 0.7, "highest": 1.5}
    assert store.curve(finished.key, "train/loss")[0].tolist() == [10, 20]
    assert "lr: 0.5" in (store.folder / "configs" / f"{finished.key}.yaml").read_text()
    assert worker.work(grid(9), store, fit).ran == 0
    assert worker.work(grid(12), store, fit).ran == 3


def test_killed_at_random_moments_the_table_is_that_of_an_undisturbed_sweep(tmp_path):
    kill_workers(tmp_path, kills=3)


def test_several_workers_started_together_run_every_cell_once(tmp_path):
    count = 40
    Store(tmp_path / "shared", create=True)
    workers = [start(tmp_path / "shared", count, workers=3) for _ in range(3)]
    done = [json.loads(process.communicate()[0].splitlines()[-1]) for process in workers]
    calls = calls_of(tmp_path / "shared")
    assert sum(d["ran"] for d in done) == count
    assert min(d["ran"] for d in done) > 0
    assert len(calls) == count
    assert set(calls.values()) == {1}


def test_a_cell_that_another_process_has_is_left_to_it(store):
    key = grid(3).cells[1].key
    program = (
        "import sys; from pathlib import Path; from sgdlit.foundations.locks import Locks\n"
        f"Locks(Path({str(store.folder / 'cells.lock')!r})).take({key!r}); print(flush=True)\n"
        "sys.stdin.read()"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        done = worker.work(grid(3), store, fit)
        assert (done.ran, done.elsewhere) == (2, 1)
        other.kill()
    assert worker.work(grid(3), store, fit).ran == 1


def no_fit(arguments):
    raise AssertionError("fit was called")


def test_runs_that_ended_but_were_not_all_stored_are_not_run_again(store, monkeypatch):
    write, wrote = store.write, []

    def killed_at_the_second(*result):
        if wrote:
            raise KeyboardInterrupt
        wrote.append(write(*result))

    monkeypatch.setattr(store, "write", killed_at_the_second)
    plan = replace(grid(3), together=3)
    with pytest.raises(KeyboardInterrupt):
        worker.work(plan, store, fit_together)
    monkeypatch.undo()
    monkeypatch.setattr(worker, "made_by", sweep_worker.made_by)
    assert len(store.read()[0]) == 1
    assert worker.work(plan, store, no_fit).elsewhere == 0
    results = store.read()[0]
    assert sorted(result.metrics["test/loss"]["final"] for result in results.values()) == [1, 1.1, 1.2]
    assert {result.made_by["together"] for result in results.values()} == {3}
    assert list((store.folder / "work").iterdir()) == []


def fit_together(arguments: list[str]) -> int:
    """Write the folder of an ensemble whose members have the losses 1, 1.1, 1.2 at step 20."""
    (axis,) = yaml.safe_load(arguments[arguments.index("--ensemble") + 1])
    folder = Path(arguments[3]) / "run" / "version_0"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("model: {}\n")
    rows = [f"20,{k},{1 + seed / 10}" for k, seed in enumerate(axis["seed_everything"])]
    (folder / "metrics.csv").write_text("\n".join(["step,member,test/loss", *rows]) + "\n")
    members = [{"state": "finished", "step": 20, "point": {}, "reached": {}} for _ in rows]
    (folder / "status.json").write_text(json.dumps({"state": "finished", "step": 20, "members": members}))
    return 0


def stopped_with_a_checkpoint(store, cell) -> Path:
    run = worker.work_folder(store, [cell]) / "run" / "version_0"
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.yaml").write_text("model: {}\n")
    (run / "checkpoints" / "resume.ckpt").touch()
    (run / "status.json").write_text('{"state": "running", "step": 3}')
    return run


def test_a_run_that_was_stopped_goes_on_from_its_checkpoint(store):
    cell = grid(1).cells[0]
    run = stopped_with_a_checkpoint(store, cell)

    def resume(arguments):
        assert arguments == ["--resume", str(run)]
        (run / "status.json").write_text('{"state": "finished", "step": 20}')
        return 0

    assert worker.work(grid(1), store, resume).ran == 1


def test_a_run_that_another_process_writes_is_left_alone(store):
    """Somebody's own ``fit --resume`` in the folder of a cell: the cell fails, and its folder stays."""
    run = stopped_with_a_checkpoint(store, grid(1).cells[0])

    def refuse(arguments):
        raise BeingWritten(f"{run}: process 7 on here is writing this run")

    done = worker.work(grid(1), store, refuse)
    assert list(done.failed.values()) == [f"{run}: process 7 on here is writing this run"]
    assert (run / "checkpoints" / "resume.ckpt").exists()


def test_a_checkpoint_that_cannot_be_used_starts_the_run_anew(store, capsys):
    stopped_with_a_checkpoint(store, grid(1).cells[0])

    def refuse(arguments):
        if arguments[0] == "--resume":
            raise UserError("ckpt_path: damaged")
        return fit(arguments)

    assert worker.work(grid(1), store, refuse).ran == 1
    assert "cannot go on (ckpt_path: damaged); run from its beginning" in capsys.readouterr().err


def test_a_signal_stops_the_worker_and_keeps_the_run(store):
    def stopped(arguments):
        fit(arguments)
        (Path(arguments[3]) / "run" / "version_0" / "status.json").write_text(
            '{"state": "stopped", "step": 3}'
        )
        return 143

    with pytest.raises(worker.Stopped) as error:
        worker.work(grid(3), store, stopped)
    assert error.value.code == 143
    assert store.read() == ({}, [])
    assert worker.work_folder(store, grid(1).cells).exists()


def test_a_cell_that_fails_is_named_and_the_others_are_run(store, capsys):
    def fails(arguments):
        if "1-1" in arguments[1]:
            raise UserError("data.batch_size: 7 does not divide")
        if "2-0" in arguments[1]:
            raise RuntimeError("out of memory")
        return fit(arguments)

    done = worker.work(grid(9), store, fails)
    assert done.ran == 7
    assert next(iter(done.failed.values())) == "data.batch_size: 7 does not divide"
    said = capsys.readouterr().err
    assert "warning: failed: model.lr 0.5, seed 1: data.batch_size: 7 does not divide\n" in said
    assert "failed: model.lr 0.25, seed 0: RuntimeError: out of memory (traceback in " in said
    (trace,) = (store.folder / "work").glob("*/error.txt")
    assert "out of memory" in trace.read_text()
    assert worker.work(grid(9), store, fit).ran == 2


def test_where_the_first_cell_fails_no_other_is_tried(store):
    calls = []

    def fails(arguments):
        calls.append(arguments)
        raise UserError("data.root: no such folder")

    done = worker.work(grid(9), store, fails)
    assert (len(calls), done.ran, list(done.failed.values())) == (1, 0, ["data.root: no such folder"])
