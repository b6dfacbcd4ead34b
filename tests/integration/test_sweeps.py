"""``sweep`` and ``figure`` as a user calls them, on cells of a few steps."""

import csv
import json
import os
import shlex
import signal
from pathlib import Path

import pytest
from sweep_runs import CONFIG, numbers, runs, sweep
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sgdlit.cli.main import main
from sgdlit.sweeps.in_flight import InFlight, in_flight
from sgdlit.sweeps.store import Store


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(CONFIG)
    return tmp_path


def contents(folder: Path = Path()) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}


def test_a_sweep_from_its_first_run_to_its_picture(capsys, monkeypatch):
    assert sweep("--dry-run") == 0
    said = capsys.readouterr().out
    assert "grid rate: 3 points x 2 seeds\n  model.optimizer.lr 0.125, seed 0 ... 6 together\n" in said
    assert "6 runs: 0 stored, 6 to run in 1 calls" in said
    assert "time: not known until a run is stored" in said
    assert list(contents()) == ["tiny.yaml"], "a dry run wrote something"

    assert sweep() == 0
    said = capsys.readouterr()
    assert "6 runs, 0 stored, 6 to run; sweeps/tiny" in said.err
    assert "median of 2, 2 diverged" in said.out
    assert "DiagonalLinear" not in said.err, "the runs themselves are to be silent"
    first = numbers()
    assert [run[0] for run in first.values()].count("diverged") == 2
    assert {path.name for path in Path("sweeps/tiny").iterdir()} == {
        "store.json", "plan.json", "runs", "curves", "configs", "work", "replaced", "cells.lock",
        "table.csv", "tensorboard",
    }  # fmt: skip
    assert list(Path("sweeps/tiny/work").iterdir()) == []
    assert {run["made_by"]["device"] for run in runs().values()} == {"cpu"}
    with Path("sweeps/tiny/table.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [(row["model.optimizer.lr"], row["diverged"]) for row in table] == [
        ("0.125", "0"), ("0.5", "0"), ("128", "2"),
    ]  # fmt: skip
    assert float(table[0]["center"]) == pytest.approx(
        sum(run["metrics"]["test/loss"]["final"] for run in list_of(0.125)) / 2
    )

    assert len(hyper_parameters()) == 6
    assert all({"train/loss", "train/C_reg"} <= metrics for metrics in hyper_parameters())

    before = contents()
    assert sweep() == 0
    assert "6 runs, 6 stored, 0 to run" in capsys.readouterr().err
    untouched = {name: at for name, at in contents().items() if "/runs/" in name or "/curves/" in name}
    assert untouched.items() <= before.items()
    assert sweep("--dry-run", "--sweep.seeds", "3") == 0
    assert "9 runs: 6 stored, 3 to run in 1 calls" in (said := capsys.readouterr().out)
    assert "about 0:0" in said
    assert "the mean of those stored" in said

    assert main(["figure", "--config", "tiny.yaml", "--svg"]) == 0
    assert {path.name for path in Path("sweeps/tiny/figures").iterdir()} == {
        "loss.png", "loss.svg", "loss.csv", "loss_runs.csv",
    }  # fmt: skip
    assert numbers() == first


def hyper_parameters() -> list[set[str]]:
    """The metrics of every run that TensorBoard's table of hyper-parameters shows."""
    found = []
    for folder in Path("sweeps/tiny/tensorboard").iterdir():
        events = EventAccumulator(str(folder)).Reload()
        assert "_hparams_/session_start_info" in events.summary_metadata
        found.append(set(events.Tags()["scalars"]))
    return found


def test_runs_that_are_trained_together_reach_what_each_reaches_alone(capsys):
    assert sweep("--sweep.together", "4", "--sweep.seeds", "3", "--store", "together") == 0
    table = capsys.readouterr().out
    assert sorted(run["made_by"]["together"] for run in runs("together").values()) == [1] + [4] * 8
    assert sweep("--sweep.together", "1", "--sweep.seeds", "3", "--store", "alone") == 0
    assert capsys.readouterr().out == table
    together, alone = numbers("together"), numbers("alone")
    assert together.keys() == alone.keys()
    for key, (state, step, *metrics) in alone.items():
        assert together[key][:2] == (state, step)
        if state == "finished":
            assert together[key][2:] == tuple(pytest.approx(m, rel=1e-5) for m in metrics)


def test_runs_that_cannot_be_trained_together_are_run_one_after_another(capsys):
    assert sweep("--trainer.gradient_clip_val", "1", "--sweep.seeds", "1") == 0
    said = capsys.readouterr().err
    assert (
        "warning: 3 runs cannot be trained together, so each is by itself: trainer.gradient_clip_val" in said
    )
    assert {run["made_by"]["together"] for run in runs().values()} == {1}
    assert list(Path("sweeps/tiny/work").iterdir()) == []


def list_of(rate: float) -> list[dict]:
    return [run for run in runs().values() if run["point"]["model.optimizer.lr"] == rate]


def test_a_cell_is_repeated_by_hand_from_the_config_beside_its_result():
    assert sweep("--sweep.grids.rate", "[{model.optimizer.lr: 2^-1}]", "--sweep.seeds", "[5]") == 0
    ((key, stored),) = runs().items()
    assert main(["fit", "--config", f"sweeps/tiny/configs/{key}.yaml"]) == 0
    status = json.loads(Path(f"logs/tiny_{key}/version_0/status.json").read_text())
    assert {name: status[name] for name in stored["reached"]} == stored["reached"]
    assert stored["reached"]["test/lowest_loss"] == stored["metrics"]["test/loss"]["lowest"]
    with Path(f"logs/tiny_{key}/version_0/metrics.csv").open(newline="") as file:
        losses = [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]
    assert losses[-1] == stored["metrics"]["train/loss"]["final"]


def test_changed_cells_are_run_damaged_ones_again_and_orphans_are_listed(capsys):
    one = ["--sweep.seeds=1", "--sweep.grids.rate=[{model.optimizer.lr: [2^-3, 2^-1]}]", "--sweep.together=1"]
    assert sweep(*one) == 0
    first = numbers()
    (path,) = [Path(f"sweeps/tiny/runs/{k}.json") for k in first if list_of(0.5)[0]["key"] == k]
    path.write_text(path.read_text()[:40])
    capsys.readouterr()
    assert sweep(*one) == 0
    said = capsys.readouterr().err
    assert f"warning: {path}: not a result (cut off, or changed); the run is made once more" in said
    assert "2 runs, 1 stored, 1 to run" in said
    assert numbers() == first

    assert sweep(*one, "--rerun", "model.optimizer.lr=2^-1") == 0
    said = capsys.readouterr().err
    assert "1 stored runs are made once more; the old ones are in sweeps/tiny/replaced" in said
    assert "2 runs, 1 stored, 1 to run" in said
    assert numbers() == first

    assert sweep(*one, "--data.steps", "12") == 0
    said = capsys.readouterr().err
    assert "2 stored runs belong to no cell of this sweep any more" in said
    assert "2 runs, 0 stored, 2 to run" in said
    assert len(runs()) == 4
    assert sweep(*one, "--trainer.log_every_n_steps", "3") == 0
    assert "2 runs, 2 stored, 0 to run" in capsys.readouterr().err


def test_a_run_that_a_signal_stopped_goes_on_where_it_was(capsys):
    stop = ["--trainer.callbacks=fit_runs.SignalAt", "--trainer.callbacks={steps: [9], number: 15}"]
    one = ["--sweep.seeds", "1", "--sweep.grids.rate", "[{model.optimizer.lr: 2^-1}]"]
    assert sweep(*one, *stop) == 128 + signal.SIGTERM
    said = capsys.readouterr().err
    assert "stopped; the runs in flight go on from their checkpoints when the command is given again" in said
    assert runs() == {}
    ((work),) = Path("sweeps/tiny/work").iterdir()
    assert json.loads((work / "run/version_0/status.json").read_text())["step"] == 9
    assert sweep(*one, *stop) == 0
    assert sweep(*one, "--store", "straight") == 0
    assert list(numbers().values()) == list(numbers("straight").values())


def test_workers_give_the_table_of_one_process(folder, capsys):
    assert sweep("--jobs", "2", "--store", "several") == 0
    table = capsys.readouterr().out
    assert list(Path("several/work").glob("worker_*.log"))
    assert sweep("--store", "alone") == 0
    assert capsys.readouterr().out == table
    assert numbers("several") == numbers("alone")


RATE = "--sweep.grids.rate"
WRONG = {
    f"{RATE} [{{model.optimizer.lrr:[1]}}]": "sweep.grids.rate: model.optimizer.lrr: there is no such option",
    f"{RATE} [{{lr:[1]}}]": "sweep.grids.rate: lr: there is no such option; did you mean model.optimizer.lr?",
    f"{RATE} [{{model.optimizer.lr:[]}}]": "sweep.grids.rate.0: model.optimizer.lr: an axis without values",
    f"{RATE} [{{model.optimizer.lr:[1,2],data.batch_size:[1,2,4]}}]": "sweep.grids.rate.0: model.optimizer."
    "lr has 2, data.batch_size has 3 values",
    "--sweep.statistic.mean_of_best 5 --sweep.seeds 3": "sweep.statistic.best: 5 of 3 seeds is not possible",
    "--sweep.seed 3": "sweep.seed: there is no such option; did you mean seeds?",
    "--sweep.metric null": "sweep.metric: null is not allowed",
    "--sweep.figures.loss.x lr": "sweep.figures.loss.curves.0: 'lr' is no key of the config; did you mean "
    "model.optimizer.lr?",
    "--sweep.figures.loss.curves '[{grid: rates}]'": "sweep.figures.loss.curves.0.grid: 'rates' is no grid; ",
    "--trainer.max_step 3": "trainer.max_step: there is no such option of Trainer; did you mean max_steps?",
    "--rerun model.optimizer.lr=3": "--rerun: no run has model.optimizer.lr=3; there are: 0.125, 0.5, 128",
    "--rerun lr=3": "--rerun: 'lr' is no key of the config; did you mean model.optimizer.lr?",
    "--rerun lr": "--rerun: 'lr' is not allowed; allowed: KEY=VALUE",
    "--jobs 0": "--jobs: 0 is not allowed; allowed: 1 or more",
    "--jobs two": "--jobs: 'two' is not allowed; allowed: int\n",
    "--launcher slrum": "--launcher: 'slrum' is not allowed; did you mean slurm? allowed: here, slurm, local",
    "--store tiny.yaml": "--store: 'tiny.yaml' cannot be written",
    "--trainer.devices 2": "sweep.grids.rate: trainer.devices: 2, trainer.num_nodes: 1: a sweep trains each",
    "--sweep.seeds": "--sweep.seeds: the value is missing",
    "--data.shard_size 9 --data.batch_size 2": "data.batch_size: 2 does not divide the 9 training examples.",
    "--dry-run --data.shard_size 9 --data.batch_size 2": "data.batch_size: 2 does not divide the 9 training",
    "--dry-run --model.optimizer.weight_decay -5": "model.optimizer, model.scheduler: Invalid weight_decay",
    "--dry-run --data.d 9": "model.network: does not take inputs of shape (9,)",
    "--sweep.metric test/los": "sweep.metric: no run logs 'test/los'; did you mean test/loss?",
    "--sweep.metric val/loss": "sweep.metric: no run logs 'val/loss'; ",
    "--sweep.figures.loss.metric train/C_rg": "sweep.figures.loss.metric: no run logs 'train/C_rg'; did you",
    "--sweep.statistic.paired '{model.optimizer.lr: 3}'": "sweep.statistic.paired: no run has "
    "model.optimizer.lr 3 and else the values of the run with model.optimizer.lr 2^-3, seed 0;",
    "--sweep.statistic.paired '{model.optimizer.lrr: 3}'": "sweep.statistic.paired: 'model.optimizer.lrr' ",
}


@pytest.mark.parametrize("arguments", WRONG)
def test_bad_input_is_refused_before_anything_is_written(arguments, capsys):
    before = contents()
    assert sweep(*shlex.split(arguments)) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"sgdlit: error: {WRONG[arguments]}"), said
    assert len(said.splitlines()) <= 12
    assert contents() == before


@pytest.mark.parametrize("dry", [["--dry-run"], []])
def test_all_missing_data_are_named_before_a_run(dry, capsys):
    Path("files.yaml").write_text(
        "model: {network: {class_path: MLP, init_args: {widths: [3, 2]}}}\n"
        "data: {class_path: Arrays, init_args: {path: a.npz, batch_size: 10, train_size: 100}}\n"
        "trainer: {max_steps: 2}\n"
        "sweep:\n  seeds: 2\n  metric: test/accuracy\n  grids: {a: [{data.path: [a.npz, b.npz]}]}\n"
    )
    assert main(["sweep", *dry, "--config", "files.yaml"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("sgdlit: error: data.path: 'a.npz' does not exist\n")
    assert "\ndata.path: 'b.npz' does not exist\n" in said
    assert said.endswith("\n(data of 4 of 4 runs)\n")
    assert sorted(contents()) == ["files.yaml", "tiny.yaml"]


def test_a_fit_config_is_no_sweep_and_a_sweep_no_fit_config(capsys):
    Path("plain.yaml").write_text(CONFIG[: CONFIG.index("sweep:")])
    assert main(["sweep", "--config", "plain.yaml"]) == 2
    assert "sweep: missing; a sweep file is a fit config with a section sweep:" in capsys.readouterr().err
    assert main(["fit", "--config", "tiny.yaml"]) == 2
    said = capsys.readouterr().err
    assert "sweep: this config describes many runs; run them with: python -m sgdlit sweep --config" in said
    assert main(["figure", "--config", "tiny.yaml"]) == 2
    assert (
        "no sweep is stored there; python -m sgdlit sweep --config FILE runs one" in capsys.readouterr().err
    )
    assert sorted(contents()) == ["plain.yaml", "tiny.yaml"]


def test_stores_that_cannot_be_used(capsys):
    Path("newer").mkdir()
    Path("newer/store.json").write_text('{"format": 99}')
    assert sweep("--store", "newer") == 2
    assert "format 99, written by a newer sgdlit than this one" in capsys.readouterr().err
    Path("thesis").mkdir()
    Path("thesis/chapter.tex").touch()
    assert sweep("--store", "thesis") == 2
    assert "'thesis' holds other files than a sweep's" in capsys.readouterr().err
    assert sorted(map(str, Path().rglob("*.*"))) == ["newer/store.json", "thesis/chapter.tex", "tiny.yaml"]


def test_a_run_that_cannot_be_made_is_named_once(capsys):
    assert sweep("--model.optimizer.momentum", "-1") == 1
    said = capsys.readouterr().err
    assert (
        "failed: model.optimizer.lr 0.125, seed 0: model.optimizer, model.scheduler: Invalid momentum" in said
    )
    assert "the first run failed, so no other was tried" in said
    assert "1 of 6 runs failed; none is stored" in said


def test_a_metric_that_only_a_run_can_show_is_asked_of_the_first(capsys):
    """What an own callback logs is not known before; then no second run is made for nothing."""
    own = ["--trainer.callbacks=logging_runs.OwnNumbers", "--sweep.together=1"]
    assert sweep(*own, "--sweep.metric=own/eahc") == 2
    said = capsys.readouterr().err
    assert "sweep.metric: 'own/eahc' was not logged by the first run; did you mean own/each?" in said
    assert len(runs()) == 1


def test_a_set_of_images_is_read_once_to_cut_it_into_minibatches(tmp_path, capsys):
    from official_formats import write_fashion_mnist

    write_fashion_mnist(tmp_path, 70, 20)
    data = f"data: {{class_path: FashionMNIST, init_args: {{root: {tmp_path}, batch_size: 10}}}}\n"
    text = CONFIG[: CONFIG.index("data:")] + data + CONFIG[CONFIG.index("trainer:") :]
    text = text.replace(
        "sgdlit.models.diagonal.DiagonalLinear, init_args: {d: 8}",
        "sgdlit.models.MLP, init_args: {widths: [784, 10]}",
    )
    text = text.replace("    loss: half_squared_error\n", "")
    Path("tiny.yaml").write_text(text[: text.index("  figures:")])
    given = ["--dry-run"]
    assert sweep(*given) == 0
    for size in ("[10, 30]", "[30]"):
        assert sweep(*given, "--sweep.grids.rate", f"[{{data.batch_size: {size}}}]") == 2
        said = capsys.readouterr().err
        assert "data.batch_size: 30 does not divide the 70 training examples" in said
        assert "(run with data.batch_size 30)" in said
    assert sweep(*given, "--data.root", "nowhere") == 2
    assert "nowhere" in capsys.readouterr().err


def test_how_far_runs_in_flight_are(tmp_path):
    store = Store(tmp_path / "store", create=True)
    with InFlight(store, 16) as here:
        assert in_flight(store, [os.getpid(), os.getpid() + 1]) == 0
        here.tell(0.25)
        assert in_flight(store, [os.getpid()]) == 4
    assert in_flight(store, [os.getpid()]) == 0
    assert list((store.folder / "work").iterdir()) == []


def test_workers_note_how_far_they_are(monkeypatch):
    """Fractions of the runs that a call trains, beside the store, while it trains them."""
    seen = []
    monkeypatch.setattr(InFlight, "tell", lambda own, part: seen.append((own._runs, part)))
    note = Path("sweeps/tiny/work/in_flight_1")  # of one that was killed
    Store(note.parent.parent, create=True)
    note.write_text("0.5\n")
    assert sweep("--sweep.grids.rate", "[{model.optimizer.lr: [2^-3, 2^-1]}]") == 0
    assert {count for count, _ in seen} == {4}
    assert not note.exists()
    parts = [part for _, part in seen]
    assert parts == sorted(parts)


def test_cells_may_differ_in_an_option_of_a_callback():
    """Those with another memory are evaluated at other iterates, each as ``fit`` alone evaluates it."""
    average = "sgdlit.training.iterate_average.IterateAverage"
    text = CONFIG.replace("  max_epochs", f"  callbacks: [{{class_path: {average}}}]\n  max_epochs")
    grid = "{model.optimizer.lr: [2^-3, 2^-1]}, {trainer.callbacks.IterateAverage.decay: [0, 0.75]}"
    Path("tiny.yaml").write_text(text.replace("{model.optimizer.lr: [2^-3, 2^-1, 2^7]}", grid))
    assert sweep("--sweep.figures.loss.tuned", "[trainer.callbacks.IterateAverage.decay]") == 0
    assert {run["made_by"]["together"] for run in runs().values()} == {4}
    final = {}
    for run in runs().values():
        final[tuple(run["point"].values()), run["seed"]] = run["metrics"]["test/loss"]["final"]
    Path("alone.yaml").write_text(text[: text.index("sweep:")])
    for (lr, decay), seed in final:
        own = ["--model.optimizer.lr", str(lr), "--trainer.callbacks.decay", str(decay)]
        name = f"alone_{lr}_{decay}_{seed}"
        assert (
            main(["fit", "--config", "alone.yaml", *own, "--name", name, "--seed_everything", str(seed)]) == 0
        )
        with Path("logs", name, "version_0", "metrics.csv").open(newline="") as file:
            alone = [row["test/loss"] for row in csv.DictReader(file) if row["test/loss"]][-1]
        assert final[(lr, decay), seed] == pytest.approx(float(alone), rel=1e-5)
    assert final[(0.125, 0), 0] != pytest.approx(final[(0.125, 0.75), 0], rel=1e-3)
