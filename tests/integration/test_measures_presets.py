"""``fit --measures``: presets, own cadences, a table before the run, a budget, and a run that does not notice
any of it."""

from typing import Any

import pytest
import torch
import yaml
from fit_runs import Runs, differences
from lightning.pytorch import Callback, LightningModule, Trainer

from sgdlit.cli.main import main
from sgdlit.runs.reading import load_run
from sgdlit.training.clock import planned_steps

ALIKE = ("state_dict", "optimizer_states", "lr_schedulers", "sgdlit_best", "global_step")
DROPOUT = "--model.network=test_measures_presets.WithDropout"
ENSEMBLE = ["--ensemble=[{seed_everything: [0, 1]}]"]
TWO = pytest.param(ENSEMBLE, id="two", marks=pytest.mark.slow)


class WithDropout(torch.nn.Sequential):
    def __init__(self) -> None:
        layers = (torch.nn.Linear(784, 12), torch.nn.Tanh(), torch.nn.Dropout(0.5), torch.nn.Linear(12, 10))
        super().__init__(torch.nn.Flatten(), *layers)


class WithBatchNorm(torch.nn.Sequential):
    def __init__(self) -> None:
        layers = (torch.nn.Linear(784, 6), torch.nn.BatchNorm1d(6), torch.nn.Tanh(), torch.nn.Linear(6, 10))
        super().__init__(torch.nn.Flatten(), *layers)


@pytest.fixture
def runs(tmp_path) -> Runs:
    return Runs(tmp_path)


def with_yaml(runs: Runs, name: str, *more: str, **init_args: Any) -> int:
    callbacks = [{"class_path": "sgdlit.training.measuring.Measures", "init_args": init_args}]
    path = runs.folder / "measures.yaml"
    path.write_text(yaml.safe_dump({"trainer": {"callbacks": callbacks}}))
    return runs.fit(name, "--config", str(path), *more)


def measured_at(runs: Runs, name: str, column: str) -> list[int]:
    return [int(row["step"]) for row in runs.rows(name) if row.get(column)]


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("more", [[DROPOUT], ENSEMBLE], ids=["one", "two"])
def test_a_run_ends_bitwise_where_it_ends_without_measures(runs, more):
    assert runs.fit("plain", *more) == 0
    assert runs.fit("measured", *more, "--measures", "full") == 0
    for part in ALIKE:
        assert not differences(runs.checkpoint("measured")[part], runs.checkpoint("plain")[part])
    assert measured_at(runs, "measured", "measure/sharpness_5")[-1] == 20


@pytest.mark.parametrize("more", [pytest.param([DROPOUT], id="one"), TWO])
def test_so_does_a_resumed_run(runs, more):
    for name, measures in {"plain": [], "measured": ["--measures=full"]}.items():
        assert runs.fit(name, *more, *measures, "--trainer.max_steps=8") == 0
        assert runs.resume(name, "--trainer.max_steps=20") == 0
    for part in ALIKE:
        assert not differences(runs.checkpoint("measured")[part], runs.checkpoint("plain")[part])


@pytest.mark.parametrize("more", [pytest.param([], id="one"), TWO])
def test_a_resumed_run_measures_what_the_whole_one_measures(runs, more):
    assert runs.fit("whole", *more, "--measures=full") == 0
    assert runs.fit("part", *more, "--measures=full", "--trainer.max_steps=8") == 0
    assert runs.resume("part", "--trainer.max_steps=20") == 0
    for part in ALIKE:
        assert not differences(runs.checkpoint("part")[part], runs.checkpoint("whole")[part])
    for column in [c for c in runs.rows("whole")[0] if c.startswith("measure/")]:
        found, expected = (
            [(row["step"], row.get("member"), row[column]) for row in runs.rows(name) if row.get(column)]
            for name in ("part", "whole")
        )
        assert found == expected


def test_the_option_gives_a_callback_its_measures(runs):
    assert with_yaml(runs, "given", "--measures=basic", every_n_steps=10, budget=0) == 0
    assert measured_at(runs, "given", "measure/distance_from_start") == [0, 10, 20]


def test_the_option_completes_the_callback_of_the_config(runs):
    own = [{"class_path": "Sharpness", "init_args": {"count": 2, "examples": 10}}]
    assert with_yaml(runs, "both", "--measures=standard,trace", measures=own, every_n_steps=10) == 0
    config = yaml.safe_load((runs.path("both") / "config.yaml").read_text())
    callback = config["trainer"]["callbacks"][0]["init_args"]
    names = [m if isinstance(m, str) else m["class_path"].rpartition(".")[2] for m in callback["measures"]]
    assert names == ["Sharpness", "standard", "Trace"]
    assert config["measures"] is None
    assert measured_at(runs, "both", "measure/sharpness_2") == [0, 10, 20]
    assert measured_at(runs, "both", "measure/noise_scale") == [0, 10, 20]
    assert measured_at(runs, "both", "measure/trace") == [0, 10, 20]
    assert not any("measure/sharpness_3" in row for row in runs.rows("both"))


def test_a_measure_has_a_cadence_examples_and_a_mode_of_its_own(runs):
    """Against a run in which the same is that of all measures."""
    given = {"examples": 13, "mode": "train", "at": {"steps": [5, 17]}}
    trace = {"class_path": "Trace", "init_args": {"probes": 2}}
    own = {"class_path": "Trace", "init_args": {"probes": 2, **given}}
    network = ["--model.network=test_measures_presets.WithBatchNorm"]
    assert with_yaml(runs, "own", *network, measures=["DirectionalSharpness", own], every_n_steps=10) == 0
    assert with_yaml(runs, "all", *network, measures=[trace], **given) == 0
    assert with_yaml(runs, "other", *network, measures=["DirectionalSharpness"], every_n_steps=10) == 0
    for column, name in {"measure/trace": "all", "measure/directional_sharpness": "other"}.items():
        found, expected = (
            {r["step"]: r[column] for r in runs.rows(n) if r.get(column)} for n in ("own", name)
        )
        assert found == expected
    assert measured_at(runs, "own", "measure/trace") == [0, 5, 17, 20]


def test_what_a_preset_cannot_measure_is_left_out_and_said(runs, capsys):
    network = ["--model.network=test_measures_presets.WithBatchNorm"]
    assert with_yaml(runs, "left", *network, measures=["standard"], mode="train") == 0
    words = said(capsys)
    assert "GradientNoise is left out of the measures: network.2: BatchNorm1d takes the statistics" in words
    assert "ExpectedCReg is left out" in words
    assert "measure/sharpness" in runs.rows("left")[-1]
    assert not any("noise_scale" in column for column in runs.rows("left")[-1])
    named = {"measures": ["standard", "GradientNoise"], "mode": "train"}
    assert with_yaml(runs, "named", *network, **named) == 2
    assert "BatchNorm1d takes the statistics of the batch" in said(capsys)
    assert not runs.path("named").exists()


def test_the_price_is_said_before_and_the_time_after(runs, capsys):
    assert runs.fit("priced", "--measures=standard") == 0
    lines = capsys.readouterr().err.splitlines()
    heads = [i for i, line in enumerate(lines) if line.split()[:2] == ["measure", "when"]]
    (head,) = heads
    begun = next(i for i, line in enumerate(lines) if "writing to" in line)
    assert head < begun
    row = next(line for line in lines if line.startswith("BatchSharpness"))
    assert "from 1 on, 1 per doubling" in row
    # A gradient and a product of 10 times 10 examples, at B = 10: more than twenty steps, and, as a network
    # of this size costs by its operations most of all, not many times as much.
    *_, times, examples, price, share, words = row.split()
    assert (times, examples, words) == ("7", "60", "times")
    assert 20 < float(price) < 100
    steps, shares = load_run(runs.path("priced")).column("measures/time_share")
    assert float(share) == pytest.approx(7 * float(price) / steps[-1], abs=0.6)
    assert shares[-1] > 0
    end = next(line for line in lines if line.startswith("time of measures"))
    planned = next(line for line in lines if line.startswith("together")).split(maxsplit=1)[1]
    assert end.endswith(f"planned {planned}")


class ComparesSteps(Callback):
    """Fails where a run has other steps than were planned."""

    def next_due(self, step: int) -> None:
        """Never."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        planned = planned_steps(trainer, trainer.datamodule.steps_per_epoch)
        assert planned == trainer.estimated_stepping_batches


@pytest.mark.parametrize(
    "settings",
    [
        ["--trainer.max_steps=4"],
        ["--trainer.max_steps=-1", "--trainer.max_epochs=2"],
        ["--trainer.max_steps=-1", "--trainer.max_epochs=2", "--trainer.limit_train_batches=3"],
        ["--trainer.max_steps=-1", "--trainer.max_epochs=1", "--trainer.limit_train_batches=0.5"],
        ["--trainer.max_steps=-1", "--trainer.max_epochs=1", "--trainer.accumulate_grad_batches=2"],
        ["--trainer.max_steps=9", "--trainer.max_epochs=1"],
    ],
    ids=" ".join,
)
def test_a_run_has_as_many_steps_as_are_planned(runs, settings):
    """Against Lightning's own number, which it has only once the folder is made."""
    assert runs.fit("run", "--trainer.callbacks=test_measures_presets.ComparesSteps", *settings) == 0


def test_nothing_is_measured_without_training(runs, capsys):
    assert runs.fit("run", "--trainer.max_steps=2") == 0
    assert main(["test", "--run", str(runs.path("run")), "--measures=basic"]) == 2
    assert "--measures: test trains nothing" in said(capsys)


def test_free_measures_have_no_price(runs, capsys):
    assert with_yaml(runs, "free", measures=["WeightNorms"], every_n_steps=10, budget=0) == 0
    assert "time of measures" not in said(capsys)
    assert "measures/time_share" not in load_run(runs.path("free")).metrics


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"measures": ["Trace"], "every_n_steps": 1, "budget": 20}, "cheapest change: "),
        ({"measures": ["Trace"], "budget": 1e-9}, "no single change makes it fit"),
        ({"measures": ["Trace"], "budget": -0.1}, "budget: -0.1 is not possible; allowed: 0 or more"),
        ({"measures": ["Trace"], "examples": 61}, "Measures.examples: 61 is not possible"),
        ({"measures": [{"class_path": "Trace", "init_args": {"examples": 61}}]}, "Trace.examples: 61"),
        ({"measures": [{"class_path": "Trace", "init_args": {"examples": 0}}]}, "Trace.examples: 0"),
        (
            {"measures": [{"class_path": "Trace", "init_args": {"at": {"steps": [-1]}}}]},
            "AtSteps.steps: [-1]",
        ),
        ({"measures": ["Trace"], "at": {"step": [3]}}, "at.step: there is no such option"),
        ({"measures": ["Trace"], "at": {"step": [3]}}, "did you mean steps?"),
        ({"measures": ["standrad"]}, "did you mean standard?"),
        ({"measures": ["standard", "Shrapness"]}, "did you mean Sharpness?"),
    ],
)
def test_what_is_not_possible_is_said_before_a_folder_is_made(runs, capsys, given, words):
    assert with_yaml(runs, "wrong", **given) == 2
    assert words in said(capsys)
    assert not runs.path("wrong").exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("sharpnes", "did you mean Sharpness?"),
        ("noise_scale", "did you mean GradientNoise?"),  # which logs a value of this name
        ("ful", "did you mean full?"),
        ("", "none called ''"),
    ],
)
def test_a_name_that_there_is_not(runs, capsys, name, words):
    assert runs.fit("wrong", "--measures", name) == 2
    assert words in said(capsys)
    assert not runs.path("wrong").exists()


def test_a_resumed_run_may_begin_to_measure(runs, capsys):
    """Distances from the start are not known then, and left out."""
    assert runs.fit("late", "--trainer.max_steps=10") == 0
    assert runs.resume("late", "--trainer.max_steps=20", "--measures=standard") == 0
    assert "Distance is left out of the measures: the checkpoint has no parameters of the start" in said(
        capsys
    )
    assert measured_at(runs, "late", "measure/sharpness") == [16, 20]
    assert runs.fit("plain") == 0
    assert not differences(runs.checkpoint("late")["state_dict"], runs.checkpoint("plain")["state_dict"])
