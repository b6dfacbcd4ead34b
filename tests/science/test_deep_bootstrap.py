"""The deep bootstrap at quick scale: finite and infinite world in lockstep (Nakkiran et al., 2010.08127)."""

import csv

import pytest
from conftest import REPOSITORY

from sgdlit.cli.main import main
from sgdlit.figures import deep_bootstrap
from sgdlit.figures.deep_bootstrap import fitted_at, leaves_at, summarize

SMALL = [
    "--model.network.widths=[16,128,5]",
    "--data.widths=[16,32,5]",
    "--data.steps=3000",
    "--data.batch_size=32",
    "--data.test_size=1000",
    "--trainer.max_steps=3000",
    "--trainer.val_check_interval=3000",
    "--model.scheduler.T_max=3000",
    "--model.optimizer.lr=0.2",
]


@pytest.fixture(scope="module")
def curves(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bootstrap")
    config = str(REPOSITORY / "configs" / "deep_bootstrap" / "teacher.yaml")
    grid = "--ensemble=[{data.shard_size: [200, 1000, null], data.evaluate_train: [true, true, false]},"
    grid += "{seed_everything: [0, 1, 2]}]"
    assert main(["fit", "--config", config, "--logs", str(folder), "--name", "run", *SMALL, grid]) == 0
    run = folder / "run" / "version_0"
    assert (run / "deep_bootstrap.png").is_file()
    points = [
        {"data.shard_size": n, "data.evaluate_train": n is not None, "seed_everything": s}
        for n in (200, 1000, None)
        for s in (0, 1, 2)
    ]
    with (run / "deep_bootstrap.csv").open() as file:
        assert {row["n"] for row in csv.DictReader(file)} == {"200", "1000", "stream"}
    return summarize(run / "metrics.csv", points)


def test_all_worlds_begin_as_one(curves):
    """Over the first hundred steps even 200 examples are as good as new ones, on average over evaluations."""
    for n in (200, 1000):
        early = [row["gap"] for row in curves[n] if row["step"] <= 120]
        assert len(early) == 6
        assert abs(sum(early) / 6) < 0.03 < curves[n][-1]["gap"]


def test_more_data_leave_the_ideal_world_later_and_end_closer_to_it(curves):
    few, many = leaves_at(curves[200]), leaves_at(curves[1000])
    assert few is not None
    assert many is None or few < many
    ends = [curves[n][-1] for n in (200, 1000)]
    assert ends[0]["gap_low"] > 0
    assert ends[0]["gap"] > 2 * ends[1]["gap"]


def test_the_split_comes_when_the_training_error_is_small(curves):
    """Within a factor of four of the step at which 99 % of the examples are fitted."""
    assert 0.25 < leaves_at(curves[200]) / fitted_at(curves[200]) < 4


def test_a_summary_of_known_numbers(tmp_path):
    rows = [
        ("0", "10", 0.5, 0.9),
        ("1", "10", 0.4, ""),
        ("2", "10", 0.7, 1.0),
        ("3", "10", 0.5, ""),
    ]
    text = "step,member,test/soft_error,train_set/accuracy\n"
    text += "".join(f"{step},{member},{error},{accuracy}\n" for member, step, error, accuracy in rows)
    (tmp_path / "metrics.csv").write_text(text)
    points = [{"data.shard_size": n, "seed_everything": s} for s in (0, 1) for n in (50, None)]
    found = summarize(tmp_path / "metrics.csv", points)
    (row,) = found[50]
    assert (row["step"], row["error"], row["gap"]) == (10, pytest.approx(0.6), pytest.approx(0.15))
    assert row["train_error"] == pytest.approx(0.05)
    # t(0.975, 1) = 12.706 times s/√n, where s = 0.1·√2 and n = 2
    assert row["error_high"] - row["error"] == pytest.approx(12.706 * 0.1, rel=1e-3)
    assert found[None][0]["gap"] == 0
    deep_bootstrap.write_table(tmp_path / "table.csv", found)
    assert (tmp_path / "table.csv").read_text().splitlines()[0].startswith("n,step,error")


def test_worlds_without_an_ideal_one_are_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = str(REPOSITORY / "configs" / "deep_bootstrap" / "teacher.yaml")
    assert main(["fit", "--config", config, *SMALL, "--ensemble=[{data.shard_size: [50, 60]}]"]) == 2
    assert "with null, the stream, among its values" in capsys.readouterr().err
