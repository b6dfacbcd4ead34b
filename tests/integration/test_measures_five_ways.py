"""One number, five ways: while a run trains, afterwards from its snapshots, as a member of an ensemble, after
a kill, and on two ranks (test_measures_two_ranks.py). The truth is always the first, of a run that nothing
disturbs."""

import json
from typing import Any

import pytest
from fit_runs import PATIENCE, Runs, differences, processes
from measured_runs import NETWORKS, SNAPSHOTS, Values, afterwards, apart, during, found_before, with_measures

STEPS = ["--trainer.max_steps=8", "--trainer.check_val_every_n_epoch=100"]
EVERY = [0, 4, 8]
NAMES = (
    *("cost", "squared_gradient_norm", "noise_scale", "C_reg_at_10", "example_gradient_norm_q050"),
    *("sharpness_2", "lr_times_sharpness", "batch_sharpness", "directional_sharpness", "alignment", "trace"),
    *("hessian_effective_rank", "step_ratio", "update_sharpness", "cosine_of_updates", "weight_norm"),
    *("distance_from_start", "train_test_gap"),
)
SECOND = (
    "covariance_eigenvalue_1",
    "signal_to_noise",
    "margin_q000",
    "gauss_newton_sharpness",
    "projection_3",
)
LOOP = ["--model.engine=loop"]  # the one engine whose numbers do not depend on how many members there are


def besides(*less: str) -> list[Any]:
    """All networks, with those marked as slow that keep nothing that another one does not keep too: "dropout"
    draws, and the loop takes its members as those of "wrn"; "mlp" and "transformer" keep parameters alone."""
    return [pytest.param(name, marks=[pytest.mark.slow] * (name in less)) for name in NETWORKS]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("five_ways"))


@pytest.fixture(scope="module")
def whole(runs: Runs) -> dict[str, Values]:
    """What each network's run measures while it trains."""
    for name, network in NETWORKS.items():
        assert runs.fit(f"{name}_whole", *STEPS, *LOOP, *network, *with_measures(runs, network=name)) == 0
    return {name: during(runs.path(f"{name}_whole")) for name in NETWORKS}


@pytest.mark.parametrize("name", NETWORKS)
def test_while_a_run_trains_every_measure_has_a_value_and_the_run_does_not_notice(runs, whole, name):
    steps = {step for step, _ in whole[name]}
    assert sorted(steps) == EVERY
    for each in NAMES if name == "wrn" else [*NAMES, *SECOND]:
        assert (8, f"measure/{each}") in whole[name]
    assert runs.fit(f"{name}_plain", *STEPS, *LOOP, *NETWORKS[name], *SNAPSHOTS) == 0
    one, other = runs.checkpoint(f"{name}_whole"), runs.checkpoint(f"{name}_plain")
    for part in ("state_dict", "optimizer_states", "lr_schedulers", "sgdlit_best", "global_step"):
        assert not differences(one[part], other[part])


@pytest.mark.parametrize("name", NETWORKS)
def test_afterwards(runs, whole, name):
    """Of the run that took no measures, from its snapshots."""
    found = afterwards(runs.path(f"{name}_plain"), network=name)
    assert apart(found, whole[name]) == []


@pytest.mark.parametrize("name", besides("transformer", "wrn"))
def test_as_a_member_of_an_ensemble(runs, whole, name):
    both = ["--ensemble=[{seed_everything: [3, 0]}]", *SNAPSHOTS]
    assert (
        runs.fit(f"{name}_both", *STEPS, *LOOP, *NETWORKS[name], *both, *with_measures(runs, network=name))
        == 0
    )
    folder = runs.path(f"{name}_both")
    assert apart(during(folder, 1), whole[name]) == []
    assert apart(during(folder, 0), whole[name], 1e-3) != []
    assert apart(afterwards(folder, network=name, member=1), whole[name]) == []
    assert apart(found_before(folder, 0), during(folder, 0)) == []


@pytest.mark.parametrize("name", besides("transformer", "mlp"))
def test_after_a_kill(runs, whole, name):
    """Killed after 5 updates, while those after 4 are what the last checkpoint has."""
    kill = {"steps": [5], "number": 9, "mark": str(runs.folder / f"{name}_mark")}
    fatal = ["--trainer.callbacks+=fit_runs.SignalAt", f"--trainer.callbacks.init_args={json.dumps(kill)}"]
    arguments = [*STEPS, *LOOP, *NETWORKS[name], *SNAPSHOTS, *with_measures(runs, network=name), *fatal]
    arguments += ["--checkpoints.every_n_steps=2"]
    (process,) = processes(
        [["-m", "sgdlit", *runs.arguments(f"{name}_killed", *arguments)]], [{}], runs.folder
    )
    assert process.wait(PATIENCE) == -9
    folder = runs.path(f"{name}_killed")
    assert runs.checkpoint(f"{name}_killed")["global_step"] == 4
    assert runs.resume(f"{name}_killed") == 0
    assert apart(during(folder), whole[name]) == []
    assert apart(afterwards(folder, network=name), whole[name]) == []
