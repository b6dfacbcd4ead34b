"""Workers that exchange their parameters: against SGD on the joint batch, and against loops by hand."""

import copy

import pytest
import torch
from engine_runs import member, parameters, sgd
from torch import Tensor

from sgdlit.algorithms import EngineGroup, Member
from sgdlit.algorithms.graphs import GRAPHS
from sgdlit.algorithms.mixing import AsynchronousSGD, Gossip, LocalSGD, Mixing, consensus
from sgdlit.data.batches import Batch, Batches, Block
from sgdlit.foundations.errors import UserError
from sgdlit.models import MLP

RUNS, EXAMPLES, STEPS = 3, 4, 10
RING = [[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.25, 0.25, 0.5]]
LOPSIDED = [[0.5, 0.5, 0.0], [0.25, 0.25, 0.5], [0.0, 0.1, 0.9]]


class Part(Batches):
    """Batches of normal inputs and their signs: those of one run, or the joint ones of all."""

    def __init__(self, which: slice) -> None:
        self.which = which
        super().__init__(EXAMPLES * len(range(RUNS)[which]), STEPS)

    def batch(self, step: int, part: slice) -> Batch:
        drawn = torch.Generator().manual_seed(step)
        x = torch.randn(RUNS, EXAMPLES, 5, dtype=torch.float64, generator=drawn)[self.which].flatten(0, 1)
        return x[part], (x[:, 0] > 0).long()[part]


OWN = [Part(slice(k, k + 1)) for k in range(RUNS)]


def run(seed: int = 0, **optimizer: float) -> Member:
    return member(lambda: MLP([5, 7, 2], "tanh"), seed, optimizer=sgd(0.3, **optimizer))


def trained(members: list[Member], mixing: Mixing, cuts: list[int], engine: str) -> list[Tensor]:
    """Every run's parameters after blocks that end at ``cuts``."""
    engines, start = EngineGroup(members, engine, mixing=mixing), 0
    for end in cuts:
        engines.run(Block(start, end - start, OWN))
        start = end
    return [parameters(each) for each in members]


@pytest.mark.parametrize("engine", ["loop", "stacked"])
@pytest.mark.parametrize("make", [Gossip, LocalSGD])
def test_a_complete_graph_and_one_local_step_are_sgd_on_the_joint_batch(make, engine):
    """Σ_k (w − lr·g_k)/K = w − lr·ḡ, where ḡ is the gradient of the mean over the batches of all."""
    joint = run()
    EngineGroup([joint], "loop").run(Block(0, STEPS, [Part(slice(None))]))
    for own in trained([run() for _ in range(RUNS)], make(), [STEPS], engine):
        torch.testing.assert_close(own, parameters(joint), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("nesterov", [True, False])
def test_one_local_step_and_outer_momentum_are_momentum_on_the_joint_batch(nesterov):
    """Δ = lr·ḡ, so that the outer rate o makes steps of o·lr."""
    joint = member(
        lambda: MLP([5, 7, 2], "tanh"), 0, optimizer=sgd(0.3 * 0.5, momentum=0.8, nesterov=nesterov)
    )
    EngineGroup([joint], "loop").run(Block(0, STEPS, [Part(slice(None))]))
    mixing = LocalSGD(lr=0.5, momentum=0.8, nesterov=nesterov)
    for own in trained([run() for _ in range(RUNS)], mixing, [STEPS], "stacked"):
        torch.testing.assert_close(own, parameters(joint), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("at", ["round", "arrival"])
@pytest.mark.parametrize("time", [1, 3])
def test_one_asynchronous_worker_is_nesterov(at, time):
    """With one worker nothing is stale, and a round has one arrival; it moves at every so many steps."""
    alone = member(lambda: MLP([5, 7, 2], "tanh"), 0, optimizer=sgd(0.3 * 0.5, momentum=0.8, nesterov=True))
    steps = range(0, 9, time)
    for t, step in enumerate(steps):
        x, y = OWN[0].batch(step, slice(None))
        alone.optimizer.zero_grad()
        alone.loss(alone.network(x), y).backward()
        alone.optimizer.step()
        assert t <= step
    mixing = AsynchronousSGD([time], lr=0.5, momentum=0.8, momentum_at=at)
    own = run()
    EngineGroup([own], mixing=mixing).run(Block(0, 9, OWN[:1]))
    torch.testing.assert_close(parameters(own), parameters(alone), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("at", ["round", "arrival"])
def test_asynchronous_workers_arrive_when_they_are_ready(at):
    """Against an event queue that knows nothing of rounds: times 1, 2 and 3, two steps each."""
    times, every, lr, beta = [1, 2, 3], 2, 0.7, 0.9
    members = [run() for _ in range(RUNS)]
    model = copy.deepcopy(members[0].network)

    def local(start: list[Tensor], j: int, begun: int) -> list[Tensor]:
        for p, value in zip(model.parameters(), start, strict=True):
            p.data.copy_(value)
        for step in range(begun * every, (begun + 1) * every):
            x, y = OWN[j].batch(step, slice(None))
            gradient = torch.autograd.grad(members[0].loss(model(x), y), list(model.parameters()))
            for p, g in zip(model.parameters(), gradient, strict=True):
                p.data -= 0.3 * g
        return [p.detach().clone() for p in model.parameters()]

    server = [p.detach().clone() for p in model.parameters()]
    velocity, total = ([torch.zeros_like(p) for p in server] for _ in range(2))
    queue = [(times[j], j, 0, [p.clone() for p in server]) for j in range(RUNS)]
    seen, rounds = 0, 6
    while (event := min(queue))[0] <= rounds:
        now, j, begun, start = event
        queue.remove(event)
        seen += 1
        end = local(start, j, begun)
        for i in range(len(server)):
            g = (start[i] - end[i]) / RUNS
            if at == "arrival":
                velocity[i] = beta * velocity[i] + g
                server[i] = server[i] - lr * (g + beta * velocity[i])
                continue
            server[i], total[i] = server[i] - lr * g, total[i] + g
            if seen % RUNS == 0:
                velocity[i] = beta * velocity[i] + total[i]
                server[i], total[i] = server[i] - lr * beta * velocity[i], torch.zeros_like(g)
        queue.append((now + times[j], j, now, [p.clone() for p in server]))
    mixing = AsynchronousSGD(times, every, lr, beta, at)
    trained(members, mixing, [5, rounds * every], "stacked")
    assert seen == 6 + 3 + 2
    for own, expected in zip(mixing.state()["server"], server, strict=True):
        torch.testing.assert_close(own, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("graph", [RING, LOPSIDED, "ring"])
def test_the_gradient_is_taken_at_the_unmixed_point_where_starts_are_mixed(graph):
    """w_j ← Σ_k P_jk w_k − lr·g_j(w_j)."""
    members = [run(seed=k) for k in range(RUNS)]
    by_hand, mixing = copy.deepcopy([each.network for each in members]), Gossip(graph, mixes="starts")
    matrix = mixing.matrix(RUNS)
    found = trained(members, mixing, [3, STEPS], "stacked")
    for step in range(STEPS):
        gradients = []
        for network, seen in zip(by_hand, OWN, strict=True):
            x, y = seen.batch(step, slice(None))
            gradients.append(torch.autograd.grad(members[0].loss(network(x), y), list(network.parameters())))
        for own, gs in zip(
            zip(*(n.parameters() for n in by_hand), strict=True), zip(*gradients, strict=True), strict=True
        ):
            mixed = torch.einsum("jk,k...->j...", matrix, torch.stack([p.data for p in own]))
            for p, new, g in zip(own, mixed, gs, strict=True):
                p.data.copy_(new - 0.3 * g)
    for own, network in zip(found, by_hand, strict=True):
        expected = torch.cat([p.detach().flatten() for p in network.parameters()])
        torch.testing.assert_close(own, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("workers", [1, 2, 3, 4, 7, 12, 16])
@pytest.mark.parametrize("graph", GRAPHS)
def test_graphs_are_doubly_stochastic_and_connected(graph, workers):
    matrix = GRAPHS[graph](workers)
    ones = torch.ones(workers, dtype=torch.float64)
    torch.testing.assert_close(matrix.sum(0), ones)
    torch.testing.assert_close(matrix.sum(1), ones)
    assert (torch.linalg.matrix_power(matrix, workers) > 0).all()


def test_the_graphs_of_the_field():
    """The eigenvalues (1 + 2cos 2πk/m)/3 of a ring; neighbours on a torus and an exponential graph."""
    k = torch.arange(8, dtype=torch.float64)
    expected = ((1 + 2 * torch.cos(2 * torch.pi * k / 8)) / 3).sort().values
    torch.testing.assert_close(torch.linalg.eigvalsh(GRAPHS["ring"](8)), expected)
    assert GRAPHS["grid"](12)[5].nonzero().flatten().tolist() == [1, 4, 5, 6, 9]
    assert GRAPHS["exponential"](8)[6].nonzero().flatten().tolist() == [0, 2, 6, 7]


def test_consensus_is_the_mean_squared_distance_from_the_mean():
    networks = [run(seed=k).network for k in range(RUNS)]
    w = torch.stack([torch.cat([p.detach().flatten() for p in n.parameters()]) for n in networks])
    assert consensus(networks) == pytest.approx(float((w - w.mean(0)).square().sum(1).mean()), rel=1e-12)


@pytest.mark.parametrize("graph", ["complete", RING, LOPSIDED], ids=["complete", "ring", "lopsided"])
def test_what_is_mixed_is_the_matrix_times_the_parameters_at_every_hth_step(graph):
    matrix = Gossip(graph).matrix(RUNS)
    members = [run(seed=k) for k in range(RUNS)]
    by_hand = copy.deepcopy([each.network for each in members])
    found = trained(members, Gossip(graph, every=4), [STEPS], "loop")
    for step in range(STEPS):
        for network, seen in zip(by_hand, OWN, strict=True):
            x, y = seen.batch(step, slice(None))
            gradient = torch.autograd.grad(members[0].loss(network(x), y), list(network.parameters()))
            for p, g in zip(network.parameters(), gradient, strict=True):
                p.data -= 0.3 * g
        if step in (3, 7):
            for own in zip(*(network.parameters() for network in by_hand), strict=True):
                mixed = torch.einsum("jk,k...->j...", matrix, torch.stack([p.data for p in own]))
                for p, new in zip(own, mixed, strict=True):
                    p.data.copy_(new)
    for own, network in zip(found, by_hand, strict=True):
        expected = torch.cat([p.detach().flatten() for p in network.parameters()])
        torch.testing.assert_close(own, expected, rtol=1e-12, atol=1e-12)


MIXINGS = {
    "results": lambda: Gossip(RING, every=4),
    "starts": lambda: Gossip(RING, every=4, mixes="starts"),
    "local": lambda: LocalSGD(every=4, lr=0.7, momentum=0.9),
    "asynchronous": lambda: AsynchronousSGD([1, 2, 1], every=2, lr=0.7, momentum=0.9),
}


@pytest.mark.parametrize("engine", ["loop", "stacked"])
@pytest.mark.parametrize("make", MIXINGS.values(), ids=MIXINGS)
@pytest.mark.parametrize("cuts", [[1, 2, 3, 9, 10], [4, 8, 10], [5, 10], list(range(1, STEPS + 1))])
def test_how_blocks_are_cut_changes_no_bit(engine, make, cuts):
    def found(cuts: list[int]) -> list[Tensor]:
        members = [run(seed=k) for k in range(RUNS)]
        return trained(members, make(), cuts, engine)

    for cut, whole in zip(found(cuts), found([STEPS]), strict=True):
        assert torch.equal(cut, whole)


def test_a_block_is_cut_where_an_exchange_is_due_and_has_a_loss_for_each_step():
    mixing = LocalSGD(every=4)
    block = Block(2, 8, OWN)
    assert [(part.start, len(part)) for part in block.cut(mixing.due_in(block))] == [(2, 2), (4, 4), (8, 2)]
    losses = EngineGroup([run() for _ in range(RUNS)], mixing=mixing).run(Block(0, STEPS, OWN))
    assert losses.cost.shape == losses.loss.shape == (STEPS, RUNS)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Gossip([[0.5, 0.4], [0.5, 0.5]]), "mixing.graph: .* lines that sum to 1"),
        (lambda: Gossip([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]), "mixing.graph: .* a square matrix"),
        (lambda: Gossip(every=0), "mixing.every: 0 is not possible; allowed: 1 or more"),
        (lambda: LocalSGD(momentum=1.0), "mixing.momentum: 1.0 is not possible"),
        (lambda: LocalSGD(lr=0.0), "mixing.lr: 0.0 is not possible"),
        (lambda: AsynchronousSGD([1, 0]), r"mixing.times: \[1, 0\] is not possible"),
        (lambda: EngineGroup([run(), run()], mixing=AsynchronousSGD([1])), "mixing.times: 1 for 2 members"),
        (
            lambda: EngineGroup([run(momentum=0.9)], mixing=AsynchronousSGD([2])),
            "model.optimizer: SGD has a state that would go on while a worker waits",
        ),
    ],
)
def test_what_cannot_be_mixed_is_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_runs_and_blocks_that_do_not_fit_each_other_are_refused():
    three, odd = [run() for _ in range(RUNS)], member(lambda: MLP([5, 9, 2], "tanh"))
    for make, words in (
        (
            lambda: EngineGroup(three, mixing=Gossip([[0.5, 0.5], [0.5, 0.5]])),
            r"mixing\.graph: 2 lines for 3 members",
        ),
        (lambda: EngineGroup([]), "members: none; allowed: one or more"),
        (lambda: EngineGroup([three[0], three[0]]), "members: one of them, or its network, is there twice"),
        (
            lambda: EngineGroup([three[0], odd], mixing=Gossip()),
            r"mixing: .* 0 and 1 have different",
        ),
        (
            lambda: EngineGroup(three[:2]).run(Block(0, 2, OWN)),
            "3 Batches for 2 members; allowed: one for each",
        ),
        (lambda: EngineGroup(three[:2]).observe(Block(0, 2, OWN[:1])), "1 Batches for 2 members"),
        (lambda: Block(0, 0, OWN), "block: 0 steps from step 0 on; allowed: 1 or more"),
        (lambda: Block(-1, 2, OWN), "block: 2 steps from step -1 on"),
    ):
        with pytest.raises(UserError, match=words):
            make()


def test_networks_of_different_shapes_are_trained_one_at_a_time_or_refused():
    two = [run(), member(lambda: MLP([5, 9, 2], "tanh"))]
    with pytest.raises(UserError, match=r"engine: stacked is not possible: .* 0 and 1 have different shapes"):
        EngineGroup(two, "stacked").run(Block(0, 2, OWN[:2]))
    engines = EngineGroup(two)
    assert engines.run(Block(0, 2, OWN[:2])).cost.shape == (2, 2)
    assert engines.note == (
        "members are trained one at a time: the parameters of members 0 and 1 have different shapes"
    )
