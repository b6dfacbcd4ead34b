"""One number, the fifth way: what a run on two ranks measures, against its snapshots and one process."""

import math

import pytest
from fit_runs import Runs
from measured_runs import NETWORKS, SNAPSHOTS, Values, afterwards, apart, during, with_measures
from two_ranks import TWO, fit_on_two_ranks

MODELS = [name for name in NETWORKS if name != "dropout"]
# 60 training examples at B = 8 leave a short last minibatch of 4, which is the last step of each epoch.
RAGGED = ["--data.batch_size=8", "--data.last_batch=short", "--trainer.max_steps=8"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("measured_ranks"))


DIFFERENCES = (
    *("step_change", "step_ratio", "sharpness_residual", "train_test_gap", "overlap"),
    *("sharpness_beyond_gauss_newton", "signal_to_noise", "signal_to_noise_median"),
    *(f"margin_q{percent:03}" for percent in range(101)),
    *("_low", "_high"),
)
PRECISIONS = {"single": [], "double": ["--trainer.precision=64-true"]}


def of_ranks(runs: Runs, name: str, precision: str) -> list[str]:
    return [
        *RAGGED,
        *PRECISIONS[precision],
        *NETWORKS[name],
        *SNAPSHOTS,
        *with_measures(runs, network=name),
    ]


CASES = {f"{name}_{precision}": (name, precision) for name in MODELS for precision in PRECISIONS}
SLOW = ("wrn_single", "transformer_single")
"""In double precision the same is held to 1e-12; what single precision is by itself, the MLP shows."""


@pytest.fixture(scope="module")
def two(runs: Runs, request: pytest.FixtureRequest) -> Runs:
    """Every case that is asked for, on two processes with gloo."""
    asked = {item.callspec.params["case"] for item in request.session.items if item.fspath == request.fspath}
    lists = [
        runs.arguments(f"{case}_two", *of_ranks(runs, *own), *TWO)
        for case, own in CASES.items()
        if case in asked
    ]
    codes = fit_on_two_ranks(runs, lists)
    assert codes == [0] * len(lists), (runs.folder / "out_0").read_text()
    return runs


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=[pytest.mark.slow] * (case in SLOW)) for case in CASES]
)
def test_on_two_ranks(two, case):
    """Of its own snapshots, and of one process' run, up to the rounding of sums over examples."""
    name, precision = CASES[case]
    found = during(two.path(f"{case}_two"))
    again = afterwards(two.path(f"{case}_two"), network=name)
    assert apart_over_ranks(found, again, precision) == []
    assert apart(found, again) != [], "the two ranks have summed over their own examples"
    assert two.fit(f"{case}_one", *of_ranks(two, name, precision)) == 0
    assert apart_over_ranks(found, during(two.path(f"{case}_one")), precision) == []


def apart_over_ranks(found: Values, alone: Values, precision: str) -> list[str]:
    """In float64 all to 1e-12, but the residual, which is rounding itself; an end of an interval, which is a
    difference, to 1e-12 of the largest of the interval. In float32 to 1e-6 what is no difference of almost
    equal numbers, and not of one layer, whose gradient may be 0 up to rounding."""
    assert found.keys() == alone.keys()
    if precision == "double":
        keys = [key for key in found if key[1] != "measure/sharpness_residual"]
        return apart(*({key: scaled(own, key) for key in keys} for own in (found, alone)), 1e-12)
    keys = [key for key in found if key[1].count("/") == 1 and not key[1].endswith(DIFFERENCES)]
    return apart(*({key: own[key] for key in keys} for own in (found, alone)), 1e-6)


def scaled(values: Values, key: tuple[int, str]) -> float:
    """A value; an end of an interval plus the interval's size, so that its errors are relative to that."""
    step, name = key
    whole = name.removesuffix("_low").removesuffix("_high")
    own = [values.get((step, f"{whole}{end}"), 0.0) for end in ("", "_low", "_high")]
    size = max(abs(value) for value in own if math.isfinite(value))
    return values[key] + (math.copysign(size, values[key]) if whole != name else 0.0)
