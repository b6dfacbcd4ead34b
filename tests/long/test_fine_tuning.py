"""Fine-tuning in ensembles and after a stop: the numbers of a run that was trained alone, at one stretch."""

import pytest
import torch
from fine_tuning import BASE, FIRST, FROZEN, write_own_arrays

import sgdlit
from sgdlit.foundations.errors import UserError


@pytest.fixture(autouse=True)
def there(tmp_path, monkeypatch):
    """A working folder with own arrays and a run."""
    monkeypatch.chdir(tmp_path)
    write_own_arrays(tmp_path)
    sgdlit.fit(BASE, name="first")


def assert_equal(network, other):
    for p, q in zip(network.parameters(), other.parameters(), strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize("optimizer", ["torch.optim.SGD", "torch.optim.AdamW", "torch.optim.RMSprop"])
def test_members_end_as_they_would_alone(optimizer):
    given = {"model.optimizer": optimizer, "model.optimizer.lr": 0.05}
    axes = [{"model.groups.biases.rate": [0.5, 2.0]}]
    groups = {"model.groups": {**FROZEN["model.groups"], "biases": {"match": "*.bias", "rate": 2.0}}}
    both = sgdlit.fit(BASE, given, groups, name="both", init_from=FIRST, ensemble=axes)
    alone = sgdlit.fit(BASE, given, groups, name="alone", init_from=FIRST)
    assert_equal(both.network(1), alone.network())
    assert not torch.equal(both.network(0).layers[3].bias, both.network(1).layers[3].bias)


def test_a_resumed_run_goes_on_from_its_own_weights_with_its_own_groups():
    longer = {"trainer.max_steps": 12}
    straight = sgdlit.fit(BASE, FROZEN, longer, name="straight", init_from=FIRST)
    stopped = sgdlit.fit(BASE, FROZEN, name="stopped", init_from=FIRST)
    other = {"model.groups": {"first": {"match": "layers.1", "frozen": True}}}
    with pytest.raises(UserError, match=r"model\.groups: the checkpoint was made with other groups"):
        sgdlit.fit(other, resume=str(stopped.folder))
    resumed = sgdlit.fit(longer, resume=str(stopped.folder))
    assert_equal(straight.network(), resumed.network())


def test_a_run_in_phases_that_a_signal_stopped_ends_with_the_same_bits():
    given = {
        "model.optimizer": "AdamW",
        "model.scheduler": "Phases",
        "model.scheduler.phases": [{"shape": "linear", "start": 0.0, "end": 1.0, "share": 0.25},
                                   {"shape": "cosine", "end": 0.0}],
        "trainer.max_steps": -1,
        "trainer.max_epochs": 4,
    }  # fmt: skip
    straight = sgdlit.fit(BASE, FROZEN, given, name="straight")
    stop = {"trainer.callbacks": "fit_runs.SignalAt", "trainer.callbacks.steps": [6]}
    with pytest.raises(KeyboardInterrupt, match="stopped by a signal"):
        sgdlit.fit(BASE, FROZEN, given, stop, name="stopped")
    resumed = sgdlit.fit(resume="logs/stopped/version_0")
    assert resumed.status["step"] == 16
    assert_equal(straight.network(), resumed.network())
