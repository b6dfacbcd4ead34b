"""Arrays of measures: files of a run, read back, dropped by a resume; histograms in TensorBoard."""

import json

import numpy as np
import pytest
import torch
from fit_runs import Runs, datamodule
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import sgdlit
from sgdlit.foundations.errors import UserError
from sgdlit.measures import example_norms, load, spectral_density
from sgdlit.models import MLP
from sgdlit.objectives import loss_by_name

MEASURED = [
    "--trainer.callbacks=sgdlit.training.measuring.Measures",
    "--trainer.callbacks.measures=[ExampleNorms, SpectralDensity]",
    "--trainer.callbacks.every_n_steps=8",
]


@pytest.fixture
def runs(tmp_path) -> Runs:
    return Runs(tmp_path)


def test_what_is_kept_is_that_of_the_network_and_is_read_back(runs):
    """Against the functions of a script on the last network, and the integral of a density, which is 1."""
    assert runs.fit("run", *MEASURED) == 0
    found = load(sgdlit.load_run(runs.path("run")))
    assert sorted(found) == ["example_gradient_norms", "spectral_density", "spectrum"]
    norms, curve, spectrum = (found[name] for name in sorted(found))
    assert norms.steps.tolist() == [0, 8, 16, 20]
    assert norms.values.shape == (4, 60)
    assert {k: norms.about[k] for k in ("measure", "examples", "mode", "dtype", "seed", "version")} == {
        "measure": "ExampleNorms", "examples": 60, "mode": "eval", "dtype": "float64", "seed": 0,
        "version": sgdlit.__version__,
    }  # fmt: skip

    data, network = datamodule(runs), MLP([784, 16, 10])
    state = runs.checkpoint("run")["state_dict"]
    network.load_state_dict({n.removeprefix("networks.0."): v for n, v in state.items()})
    batches = [data.chosen(data.choose(None, "measures"), torch.device("cpu"))]
    loss = loss_by_name("cross_entropy")
    expected = example_norms(network, loss, batches).sqrt().numpy()
    np.testing.assert_allclose(norms.values[-1], expected, rtol=1e-4)

    for grid, density, _ in curve.values:
        assert np.trapezoid(density, grid) == pytest.approx(1, abs=0.01)
    nodes, weights = spectrum.values[-1]
    assert nodes.shape == (10, 40)
    np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-6)
    largest = float(spectral_density(network, loss, batches, starts=2).nodes.max())
    assert nodes.max() == pytest.approx(largest, rel=1e-3)


def test_a_resume_drops_what_came_after_its_step(runs):
    assert runs.fit("whole", *MEASURED) == 0
    assert runs.fit("part", *MEASURED, "--trainer.max_steps=10") == 0
    stale = runs.path("part") / "measures" / "spectrum" / "step_000000015.npy"
    np.save(stale, np.zeros(3))
    assert runs.resume("part", "--trainer.max_steps=20") == 0
    assert not stale.exists()
    found, whole = load(runs.path("part")), load(str(runs.path("whole")))
    for name in whole:
        kept = found[name].steps != 10
        assert found[name].steps[kept].tolist() == whole[name].steps.tolist()
        np.testing.assert_array_equal(found[name].values[kept], whole[name].values)


def test_of_an_ensemble_each_member_has_its_own(runs):
    assert runs.fit("two", *MEASURED, "--ensemble=[{seed_everything: [3, 0]}]") == 0
    assert runs.fit("one", *MEASURED) == 0
    with pytest.raises(UserError, match="name the member"):
        load(runs.path("two"))
    found, single = load(runs.path("two"), member=1), load(runs.path("one"))
    name = "example_gradient_norms"
    np.testing.assert_allclose(found[name].values, single[name].values, rtol=1e-3)
    assert found[name].about["seed"] == [3, 0]
    assert load(runs.path("two"), member=0)[name].steps.tolist() == [0, 8, 16, 20]


def test_tensorboard_draws_histograms(runs):
    assert runs.fit("run", *MEASURED) == 0
    events = EventAccumulator(str(runs.path("run")), size_guidance={"histograms": 0})
    events.Reload()
    assert events.Tags()["histograms"] == ["measure/example_gradient_norms"]
    drawn = events.Histograms("measure/example_gradient_norms")
    assert [one.step for one in drawn] == [0, 8, 16, 20]
    assert drawn[-1].histogram_value.num == 60


def test_without_tensorboard_there_are_files_alone(runs):
    assert runs.fit("run", *MEASURED, "--trainer.logger=false") == 0
    assert load(runs.path("run"))["spectrum"].steps.tolist() == [0, 8, 16, 20]


def test_a_damaged_file_is_named(runs):
    folder = runs.path("run") / "measures" / "spectrum"
    folder.mkdir(parents=True)
    (folder / "about.json").write_text(json.dumps({}))
    (folder / "step_000000000.npy").write_bytes(b"\x93NUMPY half")
    with pytest.raises(UserError, match=r"step_000000000\.npy: not an array of numbers"):
        load(runs.path("run"))
    assert load(runs.folder) == {}
