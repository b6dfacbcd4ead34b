"""What is done to a recorded step: fewer operations, the same step."""

import torch
from engine_runs import batches, machine, member, sgd
from torch.fx.experimental.proxy_tensor import make_fx

from sgdlit.algorithms.engines.recording import updates_by_products
from sgdlit.algorithms.engines.stacked import StackedEngine
from sgdlit.data.batches import Block
from sgdlit.data.teachers import MLPTeacher
from sgdlit.models import MLP

aten = torch.ops.aten


def targets(graph):
    return [node.target for node in graph.graph.nodes]


def recorded(**optimizer):
    """The graph of a step of three MLPs."""
    data = [batches(MLPTeacher([6, 3], steps=9, batch_size=4, seed=seed, test_size=1)) for seed in range(3)]
    runs = [member(lambda: MLP([6, 5, 3]), seed=seed, optimizer=sgd(0.1, **optimizer)) for seed in range(3)]
    engine = StackedEngine(runs, slice(0, 3), machine())
    engine.prepare(Block(0, 1, data))
    (graph,) = engine.plays.values()
    return graph


def test_plain_sgd_makes_no_matrix_of_gradients():
    assert targets(recorded()).count(aten.baddbmm_.default) == 2  # the weights; biases have no product
    assert targets(recorded()).count(aten.bmm.default) == 3  # forward twice, back once
    assert aten.baddbmm_.default not in targets(recorded(momentum=0.5))


def test_a_product_stays_where_one_of_its_factors_changes_before_the_update():
    def step(w, v, x, rate):
        used = torch.bmm(w.transpose(1, 2).detach(), x)
        w.addcmul_(torch.bmm(x, x), rate.view(-1, 1, 1), value=-1)
        v.addcmul_(used.detach(), rate.view(-1, 1, 1), value=-1)
        return w.sum() + v.sum()

    given = [torch.randn(2, 3, 3, dtype=torch.float64) for _ in range(3)] + [
        torch.tensor([0.1, 0.2]).double()
    ]
    graph = make_fx(step)(*(t.clone() for t in given))
    updates_by_products(graph)
    assert targets(graph).count(aten.baddbmm_.default) == 1
    played, expected = ([t.clone() for t in given] for _ in range(2))
    graph(*played)
    step(*expected)
    for a, b in zip(played, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_a_gradient_that_is_used_again_stays():
    def step(w, x, rate):
        gradient = torch.bmm(x, x)
        w.addcmul_(gradient, rate.view(-1, 1, 1), value=-1)
        return gradient.square().sum()

    graph = make_fx(step)(torch.randn(2, 3, 3), torch.randn(2, 3, 3), torch.ones(2))
    updates_by_products(graph)
    assert aten.baddbmm_.default not in targets(graph)
