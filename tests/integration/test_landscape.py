"""``measure barrier`` and ``measure plane`` as a user calls them: the loss between and around networks."""

import json
from pathlib import Path

import numpy as np
import pytest
from fit_runs import Runs
from measured_runs import afterwards

from sgdlit.cli.main import main
from sgdlit.foundations.files import read_table
from sgdlit.runs.landscape_files import LandscapeFiles
from sgdlit.runs.reading import load_run

SPACED = [
    "--trainer.max_steps=4",
    "--checkpoints.snapshots.first=1",
    "--checkpoints.snapshots.per_doubling=1",
]
COST = "measure/cost"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    runs = Runs(tmp_path_factory.mktemp("landscape"))
    assert runs.fit("one", *SPACED) == 0
    assert runs.fit("other", *SPACED, "--init_seed=5") == 0
    return runs


def files(folder: Path, ending: str) -> list[Path]:
    return sorted((folder / "landscape").glob(f"*.{ending}"))


def measure(*arguments: object) -> int:
    return main(["measure", *map(str, arguments), "--examples", "40", "--chunk_size", "16"])


def costs(folder: Path) -> dict[int, float]:
    """Those that the measure of the gradient finds, of the same examples."""
    found = afterwards(folder, measures=["GradientNorm"])
    return {step: value for (step, name), value in found.items() if name == COST}


def test_a_barrier_between_two_runs(runs, capsys):
    """Its ends are the costs of the networks, and the barrier is what rises above the chord."""
    one, other = runs.path("one"), runs.path("other")
    assert measure("barrier", "--run", one, "--run", other, "--points", 5) == 0
    said = capsys.readouterr().out
    (path,) = files(one, "csv")
    losses = np.array([float(row["loss"]) for row in read_table(path)])
    assert losses[0] == pytest.approx(costs(one)[4], rel=1e-6)
    assert losses[-1] == pytest.approx(costs(other)[4], rel=1e-6)
    chord = np.linspace(losses[0], losses[-1], 5)
    assert said.startswith(f"barrier of the loss {(losses - chord).max():.4g}, of the error")
    assert files(one, "png")[0].read_bytes().startswith(b"\x89PNG")
    assert json.loads(files(one, "json")[0].read_text())["networks"][1] == "other/version_0, step 4"


def test_a_barrier_between_steps_on_another_set(runs):
    folder = runs.path("other")
    assert measure("barrier", "--run", folder, "--at", "0,last", "--points", 3, "--set", "test") == 0
    (path,) = files(folder, "csv")
    assert path.name == "barrier_0_4.csv"
    error = float(read_table(path)[-1]["error"])
    _, accuracies = load_run(folder).column("test/accuracy")
    assert error == pytest.approx(1 - accuracies[-1], abs=1e-6)


def test_a_plane_goes_on_where_it_stopped(runs, capsys):
    """The middle is the network, the path's projections are its own, and what is there is not run again."""
    folder = runs.path("one")
    plane = ("plane", "--run", folder, "--directions", "path", "--points", 3)
    assert measure(*plane) == 0
    (path,) = files(folder, "npz")
    found = dict(np.load(path))
    assert np.isfinite(found["losses"]).all()
    assert found["points"].shape == (4, 2)
    assert found["points"][-1] == pytest.approx([0, 0])
    spoiled = found["losses"].copy()
    spoiled[0], spoiled[1] = np.nan, 7
    np.savez(path, **(found | {"losses": spoiled}))
    assert measure(*plane) == 0
    assert "2 of 3 rows were there" in capsys.readouterr().err
    again = np.load(path)["losses"]
    assert np.array_equal(again[0], found["losses"][0])
    assert (again[1] == 7).all()
    another = LandscapeFiles(folder, path.stem, {"mode": "train"})
    assert np.isnan(another.losses((3, 3))).all(), "of another mode nothing is there"


def test_the_middle_of_a_random_plane_is_the_network(runs):
    folder = runs.path("other")
    assert measure("plane", "--run", folder, "--points", 3, "--at", 2) == 0
    found = np.load(folder / "landscape" / "plane_random_2.npz")
    assert found["losses"][1, 1] == pytest.approx(costs(folder)[2], rel=1e-6)
    assert found["losses"].std() > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["barrier"], "networks are needed, and one/version_0, step 4 is given twice"),
        (["barrier", "--at", "0,3"], "--at: nothing is stored of step 3; did you mean 2 or 4?"),
        (["barrier", "--at", "0,1,2"], "--at: 3 values are given for 2 networks; allowed: 1 or 2"),
        (["barrier", "--at", "all"], "--at: 'all' stands for 4 steps; allowed: last, or a single step"),
        (["barrier", "--at", "0,1", "--points", "2"], "--points: 2 is not allowed; allowed: 3 or more"),
        (["plane", "--directions", "paht"], "--directions: 'paht' is not allowed"),
        (["plane", "--member", "1"], "member: 1 does not exist"),
    ],
)  # fmt: skip
def test_mistakes(runs, capsys, arguments, message):
    command, *rest = arguments
    assert main(["measure", command, "--run", str(runs.path("one")), *rest]) == 2
    assert message in capsys.readouterr().err


def test_runs_of_two_networks(runs, capsys):
    assert runs.fit("wider", "--trainer.max_steps=1", "--model.network.widths=[784,9,10]") == 0
    given = ["--run", str(runs.path("one")), "--run", str(runs.path("wider"))]
    assert main(["measure", "barrier", *given]) == 2
    assert "allowed: runs of one network" in capsys.readouterr().err
