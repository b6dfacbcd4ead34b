"""sgdlit's own optimizers through the command: stop and resume bitwise, alone and in an ensemble."""

import importlib
import pkgutil
from typing import Any

import pytest
from fit_runs import Runs, run_differences

import sgdlit.algorithms.rules as room
from sgdlit.algorithms.rules import RuleOptimizer

for module in pkgutil.iter_modules(room.__path__):
    importlib.import_module(f"{room.__name__}.{module.name}")
OPTIMIZERS = sorted(f"{cls.__module__}.{cls.__name__}" for cls in RuleOptimizer.__subclasses__()
                    if cls.__module__.startswith("sgdlit."))  # fmt: skip
MORE = {"SWATS": ["--model.optimizer.switch_step=9"]}
STOPS = {"SWATS": [7, 12]}  # before it switches, and after
TOGETHER = "--ensemble=[{seed_everything: [0, 1]}, {model.optimizer.lr: [0.001, 0.01]}]"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("own"))


KFAC = "sgdlit.algorithms.kfac.KFAC"  # looks into its network, and has no rule for stacked runs


def stopped(runs: Runs, tag: str, arguments: list[str], steps: list[int]) -> list[str]:
    """How a run that was stopped at steps, first at 7, and resumed, differs from the uninterrupted one."""
    assert runs.fit(f"{tag}_straight", *arguments) == 0
    stop = ["--trainer.callbacks=fit_runs.SignalAt", f"--trainer.callbacks.steps={steps}"]
    assert runs.fit(f"{tag}_stopped", *arguments, *stop) == 128 + 15
    assert runs.status(f"{tag}_stopped")["step"] == 7
    codes = [runs.resume(f"{tag}_stopped") for _ in steps]
    assert codes == [*[128 + 15] * (len(steps) - 1), 0]
    return run_differences(runs, f"{tag}_straight", f"{tag}_stopped")


def alone_and_together() -> list[Any]:
    """Each optimizer alone, and of two members, of which SWATS, with most state, is the default."""
    stacked = [TOGETHER, "--model.engine=stacked"]
    pairs: list[Any] = []
    for optimizer in OPTIMIZERS:
        name = optimizer.rsplit(".", 1)[1]
        marks = [] if name == "SWATS" else [pytest.mark.slow]
        pairs += [
            pytest.param(optimizer, [], id=f"{name}-alone"),
            pytest.param(optimizer, stacked, id=f"{name}-together", marks=marks),
        ]
    return pairs


@pytest.mark.parametrize(("optimizer", "extra"), alone_and_together())
def test_a_stopped_and_resumed_run_is_the_uninterrupted_one(runs, optimizer, extra):
    name = optimizer.rsplit(".", 1)[1]
    arguments = [f"--model.optimizer={optimizer}", "--model.optimizer.lr=0.01", *MORE.get(name, []), *extra]
    assert stopped(runs, f"{name}{len(extra)}", arguments, STOPS.get(name, [7])) == []


def test_kfac_goes_on_as_well(runs):
    """Stopped between two updates of its factors, whose inverses are made again."""
    settings = {"lr": 0.01, "momentum": 0.9, "every": 5}
    own = [f"--model.optimizer.{name}={value}" for name, value in settings.items()]
    assert stopped(runs, "kfac", [f"--model.optimizer={KFAC}", *own], [7, 12]) == []
