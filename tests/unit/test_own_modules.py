"""Measures of LightningModules that were not written for them, under a plain Trainer and under ``fit``."""

import copy
import warnings
from typing import Any

import pytest
import torch
import yaml
from fit_runs import Runs
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import Logger
from own_modules import ByName, Counting, Knowing, KnowingManual, Manual, Named, examples, loader
from torch.utils.data import DataLoader, IterableDataset

from sgdlit.foundations.errors import UserError
from sgdlit.foundations.philox import derive_key, permutation
from sgdlit.measures import (
    Alignment,
    BatchSharpness,
    CReg,
    Distance,
    ExampleNorms,
    ExpectedCReg,
    GradientNoise,
    GradientNorm,
    Measure,
    PreconditionedSharpness,
    Sharpness,
    StepRatio,
    Trace,
    TrainTestGap,
    UpdateNorm,
    WeightNorms,
    gradient_noise,
    gradient_norm,
    sharpness,
    trace,
)
from sgdlit.objectives import CrossEntropy
from sgdlit.training.measuring import Measures

OF_MEANS: list[type[Measure]] = [
    *(GradientNorm, Sharpness, Alignment, StepRatio, Distance, UpdateNorm, WeightNorms, BatchSharpness, Trace)
]
OF_EXAMPLES: list[type[Measure]] = [GradientNoise, ExpectedCReg, ExampleNorms]
EVERY = [*OF_MEANS, *OF_EXAMPLES]


class Table(Logger):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[int | None, dict[str, float]]] = []

    name = version = "table"

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """Nothing of them."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.rows.append((step, dict(metrics)))

    def of(self, prefix: str, without: bool = False) -> list[tuple[int | None, dict[str, float]]]:
        """The rows whose names begin alike, or those that have none such."""
        return [row for row in self.rows if any(name.startswith(prefix) for name in row[1]) != without]


def trained(
    module: type[LightningModule],
    measures: list[Measure] | None = None,
    data: DataLoader | None = None,
    steps: int = 5,
    **given: Any,
) -> tuple[LightningModule, Table]:
    """A module after some steps of a plain Trainer, and what was logged."""
    torch.manual_seed(0)
    built, table = module(), Table()
    callbacks = (
        [] if measures is None else [Measures(measures, **{"every_n_steps": 2, "examples": 20, **given})]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = Trainer(
            max_steps=steps, accelerator="cpu", logger=table, callbacks=callbacks, log_every_n_steps=1,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(built, loader() if data is None else data)
    return built, table


def values(table: Table, step: int) -> dict[str, float]:
    return {name: v for at, row in table.of("measure/") if at == step for name, v in row.items()}


@pytest.mark.parametrize("module", [Counting, Knowing, KnowingManual])
def test_training_does_not_notice(module):
    """Parameters, statistics, metrics, lists, gradients, modes, random generators and logs are as without."""
    bare, table = trained(module)
    state = torch.get_rng_state()
    measured, other = trained(module, [cls() for cls in EVERY])
    assert torch.equal(torch.get_rng_state(), state)
    assert (measured.calls, measured.seen) == (bare.calls, bare.seen)
    torch.testing.assert_close(measured.state_dict(), bare.state_dict(), rtol=0, atol=0)
    for one, two in zip(measured.parameters(), bare.parameters(), strict=True):
        assert (one.grad is None) == (two.grad is None)
        assert one.grad is None or torch.equal(one.grad, two.grad)
    assert [m.training for m in measured.modules()] == [m.training for m in bare.modules()]
    assert other.of("measure", without=True) == table.rows
    assert [step for step, _ in other.of("measure/")] == [0, 2, 4, 5]


@pytest.mark.parametrize(("module", "dataset"), [(Knowing, examples()), (ByName, Named())])
def test_values_are_those_of_the_functions_on_the_same_examples(module, dataset):
    module, table = trained(module, [cls() for cls in EVERY], loader(dataset))
    found = values(table, 5)
    chosen = permutation(derive_key(0, "measures"), 50)[:20]
    x, y = (tensor[chosen] for tensor in examples().tensors)
    network, loss = copy.deepcopy(module).eval(), CrossEntropy()
    norms = gradient_norm(network, loss, [(x, y)])
    assert found["measure/squared_gradient_norm"] == pytest.approx(sum(norms.values()), rel=1e-5)
    assert found["measure/squared_gradient_norm/first"] == pytest.approx(norms["first"], rel=1e-5)
    noise = gradient_noise(network, loss, [(x, y)], population=50)
    assert found["measure/noise_scale"] == pytest.approx(noise.noise_scale, rel=1e-4)
    assert found["measure/noise_scale_low"] == pytest.approx(noise.low, rel=1e-4)
    top = sharpness(network, loss, [(x, y)], tolerance=1e-6)
    assert found["measure/sharpness"] == pytest.approx(float(top.values[0]), rel=1e-3)
    assert found["measure/trace_low"] < float(trace(network, loss, [(x, y)], probes=300).trace.value)
    assert found["measure/lr_times_sharpness"] == pytest.approx(0.1 * found["measure/sharpness"])


def test_without_losses_of_examples_those_of_means_are_the_same_and_the_others_are_named(capsys):
    _, knowing = trained(Knowing, [cls() for cls in EVERY])
    capsys.readouterr()
    _, counting = trained(Counting, [cls() for cls in EVERY])
    said = " ".join(capsys.readouterr().err.split())
    assert "not taken: GradientNoise, ExpectedCReg, ExampleNorms, because Counting has no method" in said
    found, expected = values(counting, 5), values(knowing, 5)
    assert found.keys() < expected.keys()
    assert not any("noise" in name or "example" in name for name in found)
    for name, value in found.items():
        assert value == pytest.approx(expected[name], rel=1e-4), name


def test_prices_are_for_commands_and_not_for_scripts(capsys):
    trained(Knowing, [GradientNoise()])
    assert "steps each" not in capsys.readouterr().err


def test_what_looks_at_whole_sets_is_named(capsys):
    trained(Knowing, [WeightNorms(), TrainTestGap(), CReg()])
    said = " ".join(capsys.readouterr().err.split())
    assert (
        "not taken: TrainTestGap, CReg, because of Knowing only chosen training examples are looked at"
        in said
    )


class Endless(IterableDataset):
    def __iter__(self) -> Any:
        return iter(examples())


class TwoSizes(Knowing):
    def example_losses(self, batch: Any) -> torch.Tensor:
        return super().example_losses(batch).mean()


class Texts(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 50

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int, str]:
        return torch.zeros(6), 0, "text"


@pytest.mark.parametrize(
    ("module", "measures", "given", "named"),
    [
        (Manual, [WeightNorms()], {}, r"Manual optimizes in its training_step.*example_losses\(batch\)"),
        (Counting, [GradientNoise()], {}, "not taken: GradientNoise, because Counting has no method"),
        (Knowing, [GradientNorm()], {"examples": 51}, "Measures.examples: 51 is not possible.*1 to 50"),
        (
            Knowing,
            [GradientNorm()],
            {"data": loader(Endless(), shuffle=False)},
            "cannot choose training examples",
        ),
        (Knowing, [GradientNorm()], {"data": loader(Texts())}, "holds a str; allowed: tensors"),
        (TwoSizes, [GradientNorm()], {}, r"example_losses: shape \(\) for 20 examples; allowed: \(20,\)"),
        (Knowing, [PreconditionedSharpness()], {}, "PreconditionedSharpness: not known of SGD"),
    ],
)
def test_what_is_not_possible_is_said(module, measures, given, named):
    with pytest.raises(UserError, match=named):
        trained(module, measures, **given)


def test_under_fit_by_class_path(tmp_path):
    """On keyed data, whose examples are those of the same run of a Training."""
    runs = Runs(tmp_path)
    init = {"measures": ["GradientNorm", "ExampleNorms"], "examples": 20, "every_n_steps": 3}
    path = tmp_path / "measures.yaml"
    callback = {"class_path": "sgdlit.training.measuring.Measures", "init_args": init}
    model = {"class_path": "own_modules.Knowing", "init_args": {"inputs": 784, "classes": 10}}
    base = yaml.safe_load(runs.config.read_text()) | {"model": model}
    base["trainer"] |= {"callbacks": [callback], "max_steps": 7}
    path.write_text(yaml.safe_dump(base))
    runs.config = path
    assert runs.fit("own") == 0
    rows = [row for row in runs.rows("own") if row["measure/cost"]]
    assert [int(row["step"]) for row in rows] == [0, 3, 6, 7]
    assert all(float(row["measure/example_gradient_norm_q050"]) > 0 for row in rows)
