"""What ``scripts/bench.py`` makes of the times that it takes; it is hardly run here."""

import json
import sys

import pytest
import torch
from conftest import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "scripts"))

from benchmarks import ensembles, limits, record, sensing
from benchmarks.common import Row, Timing, medians, relative_to_first
from benchmarks.limits import Limits

from sgdlit.foundations.errors import UserError
from sgdlit.models import MLP, WideResNet

MACHINE = Limits(bytes_per_second=1e10, cached_bytes_per_second=1e11, flops_per_second=1e12)


@pytest.fixture(autouse=True)
def _machine(monkeypatch):
    monkeypatch.setattr(limits, "limits", lambda: MACHINE)


def test_a_slow_round_counts_for_neither_time_nor_ratio():
    clock = {"script": iter([1.0, 1.1, 10.0]), "fit": iter([0.5, 5.0, 5.0])}
    rows = relative_to_first(
        medians({name: lambda t=times: next(t) for name, times in clock.items()}, 3),
        "a step",
        0.1,
        {"fit": 0.6},
    )
    assert [(row.work, float(row.seconds), row.ratio) for row in rows] == [
        ("script", 1.1, 1.0),
        ("fit", 5.0, 0.5),
    ]
    assert [row.limit for row in rows] == [0.1, 0.1]
    assert [row.verdict for row in rows] == ["", "     0.6  holds"]


def test_a_run_is_kept_and_found_again(tmp_path):
    rows = [Row("a", "one", Timing([3.0, 1.0, 2.0]), 1.0, None, 0.5), Row("a", "two", 4.0, 2.0)]
    for name, device in (("1", "a CPU"), ("2", "a CPU"), ("3", "another")):
        record.write(tmp_path / f"{name}.json", {"device": device}, MACHINE, rows)
    kept = json.loads((tmp_path / "1.json").read_text())
    first = {"group": "a", "work": "one", "seconds": 2.0, "ratio": 1.0, "target": None, "limit": 0.5}
    assert kept["rows"][0] == first | {"rounds": [3.0, 1.0, 2.0]}
    assert kept["limits"]["flops_per_second"] == 1e12
    assert record.earlier(tmp_path, "a CPU") == tmp_path / "2.json"
    assert record.earlier(tmp_path, "a third") is None
    assert record.seconds_of_rows(tmp_path / "2.json") == {("a", "one"): 2.0, ("a", "two"): 4.0}
    (tmp_path / "4.json").write_text("[]")
    with pytest.raises(UserError, match=r"--against: .*4\.json: not what a run"):
        record.seconds_of_rows(tmp_path / "4.json")


@pytest.mark.filterwarnings("ignore")  # Lightning's
def test_what_is_timed_runs():
    """A few steps of a fit, of its steps in Lightning's loop, and of products alone."""
    assert sensing.fitted(8, 121, 1e-6) > 0
    assert sensing.in_lightnings_loop(8, 121, 1e-6, sensing.Cuts()) > 0
    assert ensembles.products_alone([4, 3, 2], 2, steps=1) > 0


def test_the_limit_counts_the_products_of_a_step():
    """By hand: forward and gradient of the weights for both layers, gradient of the inputs for the second."""
    network, batch = MLP([784, 256, 10]), (torch.rand(32, 784), torch.randint(0, 10, (32,)))
    cost = torch.nn.functional.cross_entropy
    operations = 2 * 32 * (2 * 784 * 256 + 3 * 256 * 10)
    moved = 5 * 4 * (784 * 256 + 256 + 256 * 10 + 10)
    assert limits.limit_of_step(network, cost, *batch) == max(moved / 1e10, operations / 1e12)
    assert limits.limit_of_step(network, cost, *batch, members=7) == 7 * max(moved / 1e10, operations / 1e12)
    assert limits.limit_of_sensing(256) == 8 * 256**2 / 1e12
    images = torch.rand(4, 3, 32, 32), torch.randint(0, 10, (4,))
    plain, penalized = (limits.limit_of_step(WideResNet(), cost, *images, penalty=p) for p in (False, True))
    assert 1.9 < penalized / plain < 3.5  # 9 products for 3 where operations decide, 2 where bytes do


def test_the_network_in_jax_is_ours():
    """Skipped where the extra ``bench`` is not installed."""
    jax = pytest.importorskip("jax")
    from benchmarks import peers

    torch.manual_seed(0)
    ours = WideResNet(10, 1)
    for parameter in ours.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    theirs = peers.wide_resnet_parameters(jax.random.key(0))
    assert sum(x.size for x in jax.tree.leaves(theirs)) == sum(p.numel() for p in ours.parameters()) == 77_709

    def copied(layer):
        return layer.weight.detach().permute(2, 3, 1, 0).numpy(), layer.bias.detach().numpy()

    theirs["convolutions"]["stem"] = copied(ours.stem)
    for k, block in enumerate(ours.blocks):
        theirs["convolutions"] |= {f"{k}a": copied(block.conv1), f"{k}b": copied(block.conv2)}
        if block.projection is not None:
            theirs["convolutions"][f"{k}s"] = copied(block.projection)
        theirs["scales"][k] = block.scale.detach().numpy()
    theirs["head"] = ours.head.weight.detach().T.numpy(), ours.head.bias.detach().numpy()
    images = torch.rand(3, 3, 32, 32)
    found = torch.from_numpy(
        jax.device_get(peers.wide_resnet(theirs, images.permute(0, 2, 3, 1).numpy())).copy()
    )
    torch.testing.assert_close(found, ours(images).detach(), rtol=1e-4, atol=1e-5)
