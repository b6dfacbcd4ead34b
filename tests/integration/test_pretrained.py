"""A run that begins where another ended, with all of its parameters trained, or with some frozen."""

import pytest
import torch
from fit_runs import Runs

from sgdlit.foundations.errors import UserError
from sgdlit.runs.reading import load_run
from sgdlit.training.pretrained import Pretrained

PRETRAINED = "sgdlit.training.pretrained.Pretrained"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    found = Runs(tmp_path_factory.mktemp("pretrained"))
    assert found.fit("first") == 0
    return found


def test_it_has_the_parameters_of_the_run(runs):
    first, network = load_run(runs.path("first")).network(), Pretrained(str(runs.path("first")))
    assert network.training
    for p, q in zip(first.parameters(), network.parameters(), strict=True):
        assert torch.equal(p, q)
    x = torch.randn(3, 1, 28, 28)
    assert torch.equal(network.eval()(x), first(x))
    with pytest.raises(UserError, match=r"run: nowhere: there is no such folder; allowed"):
        Pretrained("nowhere")


def test_a_run_goes_on_from_it_and_what_is_frozen_stays(runs):
    arguments = [
        "--model.network=sgdlit.models.frozen.Frozen", f"--model.network.network={PRETRAINED}",
        f"--model.network.network.run={runs.path('first')}", "--model.network.names=[network.layers.1]",
        "--seed_everything=5",
    ]  # fmt: skip
    assert runs.fit("second", *arguments) == 0
    before, after = (
        dict(load_run(runs.path(name)).network().named_parameters()) for name in ("first", "second")
    )
    moved = {name.removeprefix("network.network."): p for name, p in after.items()}
    assert before.keys() == moved.keys()
    assert {name for name, p in before.items() if torch.equal(p, moved[name])} == {
        "layers.1.weight",
        "layers.1.bias",
    }
