"""Snapshots, and measures that are taken from them: which files there are, and what is refused.

That the numbers are those of the run itself is in ``test_measures_five_ways.py``.
"""

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from fit_runs import PATIENCE, Runs, differences, processes
from measured_runs import afterwards, apart, during, with_measures
from two_ranks import TWO

from sgdlit.cli.main import main
from sgdlit.foundations.errors import UserError
from sgdlit.measures.prices import prices_of
from sgdlit.measures.work import DRAWN
from sgdlit.objectives import loss_by_name
from sgdlit.runs.reading import Run, load_run
from sgdlit.runs.snapshots import load_snapshot, snapshot_path
from sgdlit.training.snapshots import Snapshots

STEPS = ["--trainer.max_steps=9"]
SPACED = [*STEPS, "--checkpoints.snapshots.first=2", "--checkpoints.snapshots.per_doubling=1"]
CHEAP = ["WeightNorms", "GradientNorm"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """A run with snapshots, and one without."""
    runs = Runs(tmp_path_factory.mktemp("afterwards"))
    assert runs.fit("spaced", *SPACED) == 0
    assert runs.fit("bare", *STEPS) == 0
    return runs


@pytest.fixture
def copied(runs: Runs, tmp_path: Path) -> Path:
    """The folder of the run with snapshots, to be spoiled."""
    return Path(shutil.copytree(runs.path("spaced"), tmp_path / "spaced" / "version_0"))


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "snapshots").iterdir())


# Snapshots


def test_they_are_what_runs_were_that_ended_there(runs):
    run = load_run(runs.path("spaced"))
    assert run.snapshots == [0, 2, 4, 8]
    assert runs.fit("four", "--trainer.max_steps=4") == 0
    ended, content = runs.checkpoint("four"), run.snapshot(4)
    assert not differences(content["state_dict"], ended["state_dict"])
    groups = ended["optimizer_states"][0]["param_groups"]
    assert content["optimizer_states"] == [{"state": {}, "param_groups": groups}]
    x = torch.randn(3, 1, 28, 28)
    assert torch.equal(run.network(step=4)(x), load_run(runs.path("four")).network(checkpoint="resume")(x))
    with pytest.raises(UserError, match="no snapshot of step 3; allowed: 0, 2, 4, 8"):
        run.snapshot(3)


@pytest.mark.parametrize("more", [["--model.steps_per_call=1"], ["--checkpoints.every_n_steps=3"]])
def test_how_many_steps_a_call_takes_changes_no_snapshot(runs, more):
    name = more[0].strip("-").replace(".", "_")
    assert runs.fit(name, *SPACED, *more) == 0
    assert files(runs.path(name)) == files(runs.path("spaced"))
    for step in (0, 2, 4, 8):
        one, other = (load_snapshot(runs.path(each), step) for each in (name, "spaced"))
        assert not differences(one, other, tolerance=1e-6 if "call" in name else 0)


def test_the_run_itself_is_the_same(runs):
    for part in ("state_dict", "optimizer_states", "sgdlit_best", "sgdlit_rows"):
        assert not differences(runs.checkpoint("spaced")[part], runs.checkpoint("bare")[part])
    assert not (runs.path("bare") / "snapshots").exists()


def test_a_resumed_run_makes_later_ones_again(runs):
    assert runs.fit("part", *SPACED, "--trainer.max_steps=5") == 0
    for step in (7, 8):  # of a run that went on from 5 and was killed after 8
        shutil.copy(snapshot_path(runs.path("spaced"), 8), snapshot_path(runs.path("part"), step))
    assert runs.resume("part", *STEPS) == 0
    assert files(runs.path("part")) == files(runs.path("spaced"))
    for step in (0, 2, 4, 8):
        one, other = (load_snapshot(runs.path(each), step) for each in ("part", "spaced"))
        assert not differences(one, other)


def test_neighbours_and_the_optimizers_state_are_kept_where_they_are_asked_for(runs):
    more = ["--checkpoints.snapshots.before=true", "--checkpoints.snapshots.optimizer=true"]
    assert runs.fit("rich", *SPACED, *more) == 0
    found = files(runs.path("rich"))
    assert found == [*(f"before_{k:09d}.ckpt" for k in (1, 3, 6, 7)), *files(runs.path("spaced"))]
    state = load_snapshot(runs.path("rich"), 4)["optimizer_states"][0]["state"]
    assert all("momentum_buffer" in of_one for of_one in state.values())
    sizes = [snapshot_path(runs.path(name), 4).stat().st_size for name in ("rich", "spaced")]
    assert sizes[0] > 1.9 * sizes[1]
    assert load_run(runs.path("rich")).snapshots == [0, 2, 4, 8]


def test_steps_that_are_due_are_found_one_after_another():
    for snapshots, expected in (
        (Snapshots(2, 1), [2, 4, 8, 16, 32]),
        (Snapshots(4, 1, before=True), [2, 3, 4, 6, 7, 8, 14, 15, 16, 30]),
        (Snapshots(1, 2, before=True), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 14]),
    ):
        step, found = 0, []
        while len(found) < len(expected):
            step = snapshots.next_due(step)
            found.append(step)
        assert found == expected
    with pytest.raises(UserError, match=r"snapshots.first: 0 is not possible"):
        Snapshots(0)


def test_a_file_in_which_a_bit_has_changed_is_refused(copied, capsys):
    path = snapshot_path(copied, 4)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"snapshot: .*cannot be read safely: it is damaged"):
        load_run(copied).snapshot(4)
    assert main(["measure", "--run", str(copied), "--measures", "WeightNorms"]) == 2
    assert "it is damaged" in capsys.readouterr().err
    assert load_run(copied).measured["step"].tolist() == [0, 2], "what was measured before is kept"


# The table


def test_the_last_checkpoint_is_measured_too_and_a_second_call_adds_to_the_table(copied, capsys):
    found = afterwards(copied, measures=["WeightNorms"])
    shown = capsys.readouterr()
    assert f"5 steps measured on 40 examples; written to {copied / 'measures.csv'}" in shown.err
    assert [line.split(":")[0] for line in shown.out.splitlines()] == [f"step {k}" for k in (0, 2, 4, 8, 9)]
    more = afterwards(copied, "--at", "4,8", measures=["GradientNorm"])
    assert found.items() < more.items()
    assert {step for step, name in more if name == "measure/cost"} == {4, 8}
    again = afterwards(copied, "--at", "last", measures=["GradientNorm"])
    assert {step for step, name in again if name == "measure/cost"} == {9}, "a column is of one call"
    assert (0, "measure/weight_norm") in again
    assert main(["measure", "--run", str(copied), "--measures", "GradientNorm", "--examples", "50"]) == 0
    table = load_run(copied).measured
    assert set(table["examples"].tolist()) == {"40", "50"}
    assert table["step"].tolist() == sorted(table["step"].tolist())
    of_all = table["measure/cost"][table["examples"] == "50"]
    assert np.isfinite(of_all).all()
    assert len(of_all) == 5
    assert Run(copied.parent).measured == {}


def test_names_presets_and_lists(copied, capsys):
    assert main(["measure", "--run", str(copied), "--measures", "basic,gradient_norm", "--at", "2"]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "UpdateNorm is not available afterwards: it looks back at the update before a step" in said
    assert main(["measure", "--run", str(copied), "--measures", "UpdateNorm"]) == 0
    assert "UpdateNorm has no value at 3 of 4 steps after the start: it looks" in capsys.readouterr().err
    names = [name for name in load_run(copied).measured if name.startswith("measure/")]
    assert {"measure/distance_from_start", "measure/weight_norm", "measure/cost"} <= set(names)


def test_a_dry_run_writes_nothing_and_says_the_price(copied, capsys):
    given = ["--measures", "[GradientNorm, {class_path: Trace, init_args: {probes: 3}}]", "--examples", "50"]
    assert main(["measure", "--run", str(copied), *given, "--dry-run"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "5 steps: 0, 2, 4, 8, 9; 50 examples"
    price = {line.split(":")[0].strip(): float(line.split()[1]) for line in shown[1:-1]}
    network = load_run(copied).network()
    found = prices_of(
        network, loss_by_name("cross_entropy"), torch.zeros(4, 1, 28, 28), torch.zeros(4).long()
    )
    gradient = found.gradient.of(50, 50) + found.call
    assert price["GradientNorm"] == pytest.approx(gradient / found.of_step(10, 1), abs=0.01)
    probe = found.product.of(50, 50) + found.call + DRAWN * found.vector + 2 * found.call
    assert price["Trace"] == pytest.approx(price["GradientNorm"] + 3 * probe / found.of_step(10, 1), rel=0.1)
    assert set(price) == {"GradientNorm", "Trace"}
    assert not (copied / "measures.csv").exists()


def test_examples_of_its_own_are_said_since_the_table_has_one_column(copied, capsys):
    given = ["--measures", "[GradientNorm, {class_path: Trace, init_args: {probes: 3, examples: 20}}]"]
    assert main(["measure", "--run", str(copied), *given, "--examples", "50", "--at", "last"]) == 0
    shown = capsys.readouterr().err
    assert "Trace has examples: 20 of its own" in shown
    assert "GradientNorm has" not in shown
    assert "1 step measured on 50 examples" in shown


def test_numbers_are_told_where_no_measure_has_a_headline(copied, capsys):
    assert main(["measure", "--run", str(copied), "--measures", "[GradientNorm]", "--at", "last"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("step 9: ")]
    row = load_run(copied).measured
    names = [name for name in row if name.startswith("measure/")]
    assert len(names) >= 1
    for name in names[:3]:
        assert f"{name.partition('/')[2].replace('_', ' ')} {row[name][-1]:.4g}" in line
    assert (f"and {len(names) - 3} more in the table" in line) == (len(names) > 3)


def test_members_are_measured_one_or_all(runs, capsys):
    both = ["--ensemble=[{seed_everything: [0, 3]}]", *SPACED, *with_measures(runs, CHEAP)]
    assert runs.fit("both", *both) == 0
    folder = runs.path("both")
    one = afterwards(folder, "--member", "1", measures=CHEAP, member=1)
    assert set(load_run(folder).measured["member"].tolist()) == {1}
    every = afterwards(folder, measures=CHEAP, member=1)
    assert apart(every, one) == []
    kept = {key: value for key, value in during(folder, 1).items() if key[0] in (0, 2, 4, 8, 9)}
    assert apart({key: v for key, v in every.items() if key in kept}, kept) == []
    assert main(["measure", "--run", str(folder), "--measures", "WeightNorms", "--member", "2"]) == 2
    assert "member: 2 does not exist" in capsys.readouterr().err


def test_members_of_two_ranks_are_in_one_file(runs):
    members = ["--ensemble=[{seed_everything: [0, 3, 5]}]", "--model.engine=loop", *SPACED]
    members += ["--checkpoints.snapshots.optimizer=true"]
    assert runs.fit("one_rank", *members) == 0
    command = ["-m", "sgdlit", *runs.arguments("two_ranks", *members, *TWO)]
    (process,) = processes([command], [{}], runs.folder)
    assert process.wait(PATIENCE) == 0, (runs.folder / "out_0").read_text()
    assert files(runs.path("two_ranks")) == files(runs.path("one_rank"))
    for step in (0, 2, 4, 8):
        one, other = (load_snapshot(runs.path(each), step) for each in ("two_ranks", "one_rank"))
        assert not differences(one, other)
        assert len(one["optimizer_states"]) == 3


def test_a_diverged_run_is_measured_as_far_as_it_is_finite(runs):
    wild = ["--model.optimizer.lr=1e30", "--trainer.max_steps=9"]
    assert runs.fit("wild", *SPACED, *wild) == 0
    found = afterwards(runs.path("wild"), measures=["WeightNorms"])
    assert found
    assert all(math.isfinite(value) for value in found.values())


def test_adams_averages_are_needed_and_said(runs, capsys):
    adam = ["--model.optimizer=torch.optim.Adam", *SPACED]
    assert runs.fit("adam", *adam) == 0
    given = ["--measures", "PreconditionedSharpness,WeightNorms"]
    assert main(["measure", "--run", str(runs.path("adam")), *given, "--at", "2,4"]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert (
        "PreconditionedSharpness is not available afterwards: the state of the optimizer is not stored"
        in said
    )
    assert runs.fit("adam_kept", *adam, "--checkpoints.snapshots.optimizer=true") == 0
    assert main(["measure", "--run", str(runs.path("adam_kept")), *given]) == 0
    table = load_run(runs.path("adam_kept")).measured
    known = np.isfinite(table["measure/preconditioned_sharpness_converged"])
    assert table["step"][known].tolist() == [2, 4, 8, 9]


# What is refused


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (["--measures", "GradientNose"], "there is none called 'GradientNose'; did you mean GradientNoise?"),
        (
            ["--measures", "Trace", "--examples", "61"],
            "--examples: 61 is not possible for a training set of 60",
        ),
        (["--measures", "Trace", "--examples", "0"], "--examples: 0 is not possible"),
        (["--measures", "Trace", "--at", "5"], "--at: nothing is stored of step 5; did you mean 4 or"),
        (
            ["--measures", "Trace", "--at", "frist"],
            "--at: 'frist' is not allowed; allowed: all, last, or steps",
        ),
        (["--measures", "[Trace"], "--measures: '[Trace' is not valid YAML"),
        (["--measures", ""], "--measures: none"),
        (["--measures", "[{class_path: Trace, init_args: {probs: 3}}]"], "did you mean probes?"),
        (["--measures", "RelativeError"], "RelativeError: cannot look at MLP"),
        (
            ["--measures", "UpdateNorm", "--at", "4"],
            "--measures: none of them can be taken of this run afterwards",
        ),
        (["--measures", "Trace", "--mode", "tarin"], "--mode"),
        (["--measure", "Trace"], "did you mean --measures?"),
        (["--measures", "Trace", "--member", "1"], "member: 1 does not exist"),
    ],
)
def test_mistakes_are_said(runs, capsys, given, named):
    assert main(["measure", "--run", str(runs.path("spaced")), *given]) == 2
    assert named in " ".join(capsys.readouterr().err.split())


def test_folders_that_cannot_be_measured_are_named(runs, copied, tmp_path, capsys):
    def said(folder: Path) -> str:
        assert main(["measure", "--run", str(folder), "--measures", "WeightNorms"]) == 2
        return " ".join(capsys.readouterr().err.split())

    assert "not the folder of a run: config.yaml is missing" in said(tmp_path / "none")
    bare = Path(shutil.copytree(runs.path("bare"), tmp_path / "bare" / "version_0"))
    (bare / "checkpoints" / "resume.ckpt").unlink()
    assert "has no snapshots and no checkpoint" in said(bare)
    other = torch.load(snapshot_path(copied, 2), weights_only=True)
    torch.save(other | {"format": 2, "version": "9.1"}, snapshot_path(copied, 2))
    assert "was written by version 9.1 of sgdlit in format 2; allowed: format 1" in said(copied)
    shutil.copy(snapshot_path(runs.path("spaced"), 4), snapshot_path(copied, 2))
    config = (copied / "config.yaml").read_text()
    (copied / "config.yaml").write_text(config.replace("- 16\n", "- 17\n"))
    assert "belongs to another model" in said(copied)
    (copied / "config.yaml").write_text(config.replace("val_size: 10", "val_sise: 10"))
    assert "val_sise" in said(copied)
