"""Runs that start from the weights of another, with groups of parameters: fine-tuning, as a user calls it.

What takes more runs is in tests/long/test_fine_tuning.py.
"""

import pytest
import torch
from fine_tuning import BASE, FIRST, FROZEN, HEAD, write_own_arrays
from torch import nn

import sgdlit
from sgdlit.foundations.errors import UserError
from sgdlit.models import MLP
from sgdlit.training.starting import start_from


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A working folder with own arrays and an ensemble of two; the first of them is a run of its own too."""
    folder = tmp_path_factory.mktemp("starting")
    write_own_arrays(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        sgdlit.fit(BASE, name="first")
        sgdlit.fit(BASE, name="pair", ensemble=[{"seed_everything": [0, 1]}])
    return folder


@pytest.fixture(autouse=True)
def there(folder, monkeypatch):
    monkeypatch.chdir(folder)


def equal(network: nn.Module, other: nn.Module) -> bool:
    pairs = zip(network.parameters(), other.parameters(), strict=True)
    return all(torch.equal(p, q) for p, q in pairs)


def test_a_head_is_fresh_a_frozen_layer_stays_and_both_are_said(capsys):
    first = dict(sgdlit.load_run(FIRST).network().named_parameters())
    tuned = sgdlit.fit(BASE, HEAD, FROZEN, name="tuned", init_from=FIRST, init_fresh="layers.3")
    said = capsys.readouterr().err
    assert "83 parameters (56 of them frozen: layers.1.weight, layers.1.bias)" in said
    assert f"weights from {FIRST} (step 6); fresh: layers.3.weight, layers.3.bias" in said
    found = dict(tuned.network().named_parameters())
    for name in ("layers.1.weight", "layers.1.bias"):
        assert torch.equal(found[name], first[name])
    assert found["layers.3.weight"].shape == (3, 8)


def test_networks_are_given_the_weights_of_their_member():
    alone, pair = sgdlit.load_run(FIRST), sgdlit.load_run("logs/pair/version_0")
    for place, member, expected in (
        (FIRST, None, [alone.network(), alone.network()]),
        (f"{FIRST}/checkpoints/resume.ckpt", None, [alone.network(), alone.network()]),
        ("logs/pair/version_0", None, [pair.network(0), pair.network(1)]),
        ("logs/pair/version_0", 1, [pair.network(1), pair.network(1)]),
    ):
        networks = [MLP([6, 8, 4]), MLP([6, 8, 4])]
        assert f"from {place} (step 6)" in start_from(networks, place, member=member)
        assert all(equal(a, b) for a, b in zip(networks, expected, strict=True))
    assert not equal(pair.network(0), pair.network(1))


@pytest.mark.parametrize(
    ("place", "given", "words"),
    [
        ("logs/frist/version_0", {}, f"allowed: {FIRST}"),
        ("logs/first", {}, f"allowed: {FIRST}"),
        ("nowhere", {}, "allowed: the folder of a run, or a checkpoint file"),
        (
            FIRST,
            {"widths": [6, 8, 3]},
            r"in 2 parameters: layers.3.weight: \(4, 8\) there.*--init_fresh layers.3",
        ),
        (FIRST, {"widths": [6, 4]}, r"in 4 parameters: .*--init_fresh '\[layers.1, layers.3\]'"),
        (FIRST, {"fresh": ["layers.4"]}, "init_fresh: 'layers.4' matches no parameter; did you mean layers"),
        ("logs/pair/version_0", {}, "an ensemble of 2; allowed with init_member: 0 to 1"),
        ("logs/pair/version_0", {"member": 2}, "init_member: 2 does not exist.*allowed: 0 to 1"),
    ],
)
def test_what_does_not_fit_is_said(place, given, words):
    network = MLP(given.pop("widths", [6, 8, 4]))
    before = [p.detach().clone() for p in network.parameters()]
    with pytest.raises(UserError, match=f"(?s){words}"):
        start_from([network], place, **given)
    assert all(torch.equal(p, old) for p, old in zip(network.parameters(), before, strict=True))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"init_fresh": "layers.3"}, "init_fresh: layers.3 without init_from"),
        ({"model.groups": {"a": {"mach": "x"}}}, "model.groups.a.mach: .*did you mean match"),
        ({"model.groups.a.match": "x"}, r"not understood on a command line; allowed: --model.groups '\{a:"),
    ],
)
def test_a_mistake_in_the_config_is_said_before_anything_is_written(given, words, folder):
    before = sorted(folder.rglob("*"))
    with pytest.raises(UserError, match=f"(?s){words}"):
        sgdlit.fit(BASE, given, name="wrong")
    assert sorted(folder.rglob("*")) == before
