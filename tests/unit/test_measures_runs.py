"""Measures as a run takes them: at which steps, of which examples, and that neither the run, nor a restart,
nor other members are noticed."""

import math
from typing import Any

import pytest
import torch
import yaml
from fit_runs import Runs, datamodule, differences

from sgdlit.data.batches import Block
from sgdlit.data.streams import StreamData
from sgdlit.data.teachers import XOR, LinearTeacher
from sgdlit.foundations.errors import UserError
from sgdlit.measures import c_reg_parts, gradient_noise, gradient_norm, weight_norms
from sgdlit.measures.measure import LogSpaced
from sgdlit.measures.update_norm import UpdateNorm
from sgdlit.measures.weight_norms import WeightNorms
from sgdlit.models import MLP
from sgdlit.objectives import loss_by_name
from sgdlit.runs.metrics_file import MetricsFile
from sgdlit.training.measuring import Measures

ALL = [
    *("GradientNorm", "GradientNoise", "ExpectedCReg", "ExampleNorms", "Distance", "UpdateNorm"),
    *("WeightNorms", "SingularValues", "TrainTestGap", "FeatureRanks"),
]


@pytest.fixture
def runs(tmp_path) -> Runs:
    return Runs(tmp_path)


def measured(
    runs: Runs, name: str, *more: str, measures: list[Any] = ALL, steps: int = 20, **init_args: Any
) -> int:
    """A run with measures at log-spaced steps."""
    at = {} if "every_n_steps" in init_args else {"at": {"first": 1, "per_doubling": 2}}
    taken = [{"class_path": m} if isinstance(m, str) else m for m in measures]
    init = {"measures": taken, "examples": 60, **at, **init_args}
    callbacks = [{"class_path": "sgdlit.training.measuring.Measures", "init_args": init}]
    path = runs.folder / "measures.yaml"
    path.write_text(yaml.safe_dump({"trainer": {"callbacks": callbacks}}))
    return runs.fit(name, "--config", str(path), f"--trainer.max_steps={steps}", *more)


def values(runs: Runs, name: str, column: str, member: str | None = None) -> dict[int, float]:
    rows = [row for row in runs.rows(name) if member is None or row["member"] == member]
    return {int(row["step"]): float(row[column]) for row in rows if row.get(column)}


def network_of(runs: Runs, name: str) -> MLP:
    network, state = MLP([784, 16, 10]), runs.checkpoint(name)["state_dict"]
    network.load_state_dict({n.removeprefix("networks.0."): v for n, v in state.items()})
    return network


def test_a_run_does_not_notice_its_measures_and_they_are_those_of_its_networks(runs):
    assert measured(runs, "measured", examples=None, chunk_size=7) == 0
    assert runs.fit("plain") == 0
    for part in ("state_dict", "optimizer_states", "sgdlit_best", "global_step"):
        assert not differences(runs.checkpoint("measured")[part], runs.checkpoint("plain")[part])
    of_training = [{k: v for k, v in row.items() if k.startswith(("train/", "val/", "test/"))}
                   for row in runs.rows("measured") if row["train/loss"] or row["val/loss"]]  # fmt: skip
    plain = [{k: v for k, v in row.items() if k in of_training[0]} for row in runs.rows("plain")]
    assert [row for row in of_training if row["train/loss"]] == [row for row in plain if row["train/loss"]]

    data, network, loss = datamodule(runs), network_of(runs, "measured"), loss_by_name("cross_entropy")
    images, labels = data.subsets["train"].take(torch.arange(60))
    batches = [(data.standardise(images), labels)]
    steps = list(values(runs, "measured", "measure/squared_gradient_norm"))
    assert steps == [0, 1, 2, 3, 4, 6, 8, 11, 16, 20]
    last = {name: values(runs, "measured", f"measure/{name}")[20] for name in
            ("squared_gradient_norm", "squared_gradient_norm/layers.1", "noise_scale", "noise_scale_high",
             "C_reg_at_10", "weight_norm/layers.3", "train_test_gap")}  # fmt: skip
    of_layers = gradient_norm(network, loss, batches)
    assert last["squared_gradient_norm"] == pytest.approx(sum(of_layers.values()), rel=1e-5)
    assert last["squared_gradient_norm/layers.1"] == pytest.approx(of_layers["layers.1"], rel=1e-5)
    noise = gradient_noise(network, loss, batches, population=60)
    assert last["noise_scale"] == pytest.approx(noise.noise_scale, rel=1e-4)
    assert last["noise_scale_high"] == pytest.approx(noise.noise_scale, rel=1e-4)
    parts = c_reg_parts(network, loss, batches, [10])
    assert last["C_reg_at_10"] == pytest.approx(parts.of_gradient + parts.of_noise[10], rel=1e-5)
    assert last["weight_norm/layers.3"] == pytest.approx(weight_norms(network)["layers.3"], rel=1e-6)
    row = [row for row in runs.rows("measured") if row["test/loss"]][-1]
    with torch.no_grad():
        cost = float(loss(network(batches[0][0]), labels))
    assert last["train_test_gap"] == pytest.approx(float(row["test/loss"]) - cost, rel=1e-4)


def test_updates_are_single_ones_however_many_steps_a_call_takes(runs):
    """Against the parameters of runs that end one and two steps before."""
    theta = {}
    for steps in (9, 10, 11):
        assert runs.fit(f"{steps}", f"--trainer.max_steps={steps}", "--trainer.val_check_interval=1") == 0
        state = runs.checkpoint(f"{steps}")["state_dict"]
        theta[steps] = torch.cat([v.double().flatten() for v in state.values()])
    last, before = theta[11] - theta[10], theta[10] - theta[9]
    for name, more in {"blocks": [], "single": ["--model.steps_per_call=1"]}.items():
        assert measured(runs, name, *more, measures=["UpdateNorm", "Distance"]) == 0
        assert values(runs, name, "measure/update_norm")[11] == pytest.approx(float(last.norm()), rel=1e-4)
        relative = float(last.norm() / theta[11].norm())
        assert values(runs, name, "measure/relative_update_norm")[11] == pytest.approx(relative, rel=1e-4)
        cosine = float(last @ before / last.norm() / before.norm())
        assert values(runs, name, "measure/cosine_of_updates")[11] == pytest.approx(cosine, rel=1e-4)
        assert 0 not in values(runs, name, "measure/update_norm")
        assert 1 not in values(runs, name, "measure/cosine_of_updates")
        assert values(runs, name, "measure/distance_from_start")[0] == 0
        first = values(runs, name, "measure/distance_from_start")[1]
        assert first == pytest.approx(values(runs, name, "measure/update_norm")[1], rel=1e-6)


@pytest.mark.parametrize("stop", [7, 10])
def test_a_resumed_run_measures_what_the_whole_one_measures(runs, stop):
    assert measured(runs, "whole", every_n_steps=4) == 0
    assert measured(runs, "part", every_n_steps=4, steps=stop) == 0
    assert runs.resume("part", "--trainer.max_steps=20") == 0
    for column in [c for c in runs.rows("whole")[0] if c.startswith("measure/")]:
        found, expected = values(runs, "part", column), values(runs, "whole", column)
        assert {step: v for step, v in found.items() if step != stop} == expected


@pytest.mark.parametrize("stop", [7, 12])
def test_warm_starts_and_spaces_go_on_in_a_resumed_run(runs, stop):
    """Bit for bit, also where the part ends at a step at which the whole run measures nothing."""
    taken = [{"class_path": "Sharpness", "init_args": {"count": 2, "warm": True}}, "EigenspaceOverlap"]
    assert measured(runs, "whole", measures=taken, every_n_steps=4) == 0
    assert measured(runs, "part", measures=taken, every_n_steps=4, steps=stop) == 0
    assert runs.resume("part", "--trainer.max_steps=20") == 0
    columns = [c for c in runs.rows("whole")[0] if c.startswith("measure/")]
    assert {"measure/sharpness_2", "measure/eigenspace_overlap", "measure/eigenspace_age"} <= set(columns)
    for column in columns:
        found, expected = values(runs, "part", column), values(runs, "whole", column)
        assert {step: v for step, v in found.items() if step != stop or stop % 4 == 0} == expected
    assert set(values(runs, "whole", "measure/eigenspace_age").values()) == {4.0}
    assert all(0 < v <= 1 + 1e-5 for v in values(runs, "whole", "measure/eigenspace_overlap").values())


def test_a_member_has_the_measures_of_the_single_run(runs):
    one = ["GradientNorm", "GradientNoise", "Distance", "UpdateNorm"]
    assert measured(runs, "both", "--ensemble=[{seed_everything: [3, 0]}]", measures=one) == 0
    assert measured(runs, "single", measures=one) == 0
    for column in ("squared_gradient_norm", "noise_scale", "distance_from_start", "cosine_of_updates"):
        found = values(runs, "both", f"measure/{column}", "1")
        assert found == pytest.approx(values(runs, "single", f"measure/{column}"), rel=1e-4)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"examples": 61}, "Measures.examples: 61 is not possible for a training set of 60 examples"),
        ({"examples": 0}, "Measures.examples: 0 is not possible; allowed: 1, 2, 3 and so on"),
        ({"measures": ["GradientNose"]}, "GradientNoise"),
        ({"at": {"first": 0}}, "LogSpaced.first: 0"),
        ({"at": {"first": 1}, "every_n_steps": 3}, "every_n_steps: 3 beside"),
        ({"mode": "test"}, "mode"),
    ],
)
def test_what_is_not_possible_is_said(runs, capsys, given, named):
    assert measured(runs, "wrong", **given) == 2
    assert named in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("name", ["ExampleNorms", "CovarianceSpectrum", "SignalToNoise"])
def test_batchnorm_in_training_mode_has_no_single_examples(runs, capsys, name):
    network = ["--model.network=sgdlit.models.sensing.BilinearForm", "--model.loss=half_squared_error"]
    network += ["--model.network.net=sgdlit.models.sensing.NormalizedStack", "--model.network.net.width=9"]
    data = ["--data=sgdlit.data.sensing.MatrixSensing", "--data.d=9", "--data.r=2", "--data.gamma=1"]
    data += ["--data.steps=20", "--data.batch_size=10"]
    assert measured(runs, "wrong", *network, *data, mode="train", measures=[name]) == 2
    assert "BatchNorm1d takes the statistics of the batch" in capsys.readouterr().err
    assert not runs.path("wrong").exists(), "it is refused before the run leaves a trace"


# Which examples, at which steps


def test_examples_are_the_first_of_a_permutation_or_of_a_stream_such_as_no_step_sees():
    data = XOR(d=5, steps=3, shard_size=40, batch_size=4, seed=1)
    chosen = data.choose(10, "measures")
    assert torch.equal(chosen, data.choose(None, "measures")[:10])
    assert sorted(data.choose(None, "measures").tolist()) == list(range(40))
    assert not torch.equal(chosen, data.choose(10, "others"))
    inputs, _ = data.chosen(chosen, torch.device("cpu"))
    assert torch.equal(inputs, data.examples("train_set", torch.device("cpu")).inputs[chosen])
    with pytest.raises(UserError, match="41 is not possible for a training set of 40 examples"):
        data.choose(41, "measures")
    stream: StreamData = LinearTeacher(d=5, steps=3, seed=1)
    inputs, targets = stream.chosen(stream.choose(6, "measures"), torch.device("cpu"))
    assert inputs.shape == (6, 5)
    assert targets.shape == (6,)
    seen = stream.draw("train", torch.arange(1000))[0]
    assert not any(bool((seen == one).all(1).any()) for one in inputs)
    with pytest.raises(UserError, match="null is not possible for a stream"):
        stream.choose(None, "measures")


@pytest.mark.parametrize(
    ("own", "every", "at", "expected"),
    [
        (WeightNorms(), 4, None, [4, 8, 12, 16]),
        (WeightNorms(), None, LogSpaced(3, 1), [3, 6, 12, 24]),
        (WeightNorms(every_n_steps=5), None, LogSpaced(3, 1), [5, 10, 15]),
        (WeightNorms(at=LogSpaced(2, 1)), 3, None, [2, 4, 8, 16]),
        (WeightNorms(), None, None, []),
        (UpdateNorm(), None, LogSpaced(10, 1), [8, 9, 10, 18, 19, 20, 38]),
        (UpdateNorm(every_n_steps=2), None, None, [1, 2, 3, 4]),
    ],
)
def test_parts_of_a_call_end_where_something_is_due_and_parameters_are_kept_before(own, every, at, expected):
    callback = Measures([own], every, at)
    callback._last_step = math.inf
    step, found = 0, []
    while len(found) < len(expected) and (due := callback.next_due(step)):
        kept = callback.looks_at(Block(step, due - step, []))
        assert kept == [s for s in range(step + 1, due) if callback.choice.is_looked_back_at(s, math.inf)]
        found += [*kept, due]
        step = due
    assert found[: len(expected)] == expected
    assert expected or callback.next_due(0) is None


def test_the_table_may_hold_an_infinite_end(tmp_path):
    table = MetricsFile(tmp_path, 0)
    table.log_metrics({"measure/noise_scale_high": math.inf}, 0)
    table.finalize("success")
    assert (tmp_path / "metrics.csv").read_text().endswith("inf\n")
