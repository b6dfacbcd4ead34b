"""Runs that exchange their parameters: against SGD on the joint batch, and against one step at a time."""

import copy

import pytest
import torch
from engine_runs import member, parameters, sgd
from torch import Tensor

from sgdlit.algorithms import EngineGroup, Member
from sgdlit.algorithms.mixing import Mixing
from sgdlit.data.batches import Batch, Batches, Block
from sgdlit.foundations.errors import UserError
from sgdlit.models import MLP

RUNS, EXAMPLES, STEPS = 3, 4, 10
RING = torch.tensor([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.25, 0.25, 0.5]], dtype=torch.float64)


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
def test_averaging_at_every_step_is_sgd_on_the_joint_batch(engine):
    """Σ_k (w − lr·g_k)/K = w − lr·ḡ, where ḡ is the gradient of the mean over the batches of all."""
    joint = run()
    EngineGroup([joint], "loop").run(Block(0, STEPS, [Part(slice(None))]))
    for own in trained([run() for _ in range(RUNS)], Mixing.averaging(RUNS), [STEPS], engine):
        torch.testing.assert_close(own, parameters(joint), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("matrix", [Mixing.averaging(RUNS).matrix, RING], ids=["averaging", "ring"])
def test_what_is_mixed_is_the_matrix_times_the_parameters_at_every_hth_step(matrix):
    members = [run(seed=k) for k in range(RUNS)]
    by_hand = copy.deepcopy([each.network for each in members])
    found = trained(members, Mixing(matrix, every=4), [STEPS], "loop")
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


@pytest.mark.parametrize("engine", ["loop", "stacked"])
@pytest.mark.parametrize("cuts", [[1, 2, 3, 9, 10], [4, 8, 10], [5, 10], list(range(1, STEPS + 1))])
def test_how_blocks_are_cut_changes_no_bit(engine, cuts):
    def found(cuts: list[int]) -> list[Tensor]:
        members = [run(seed=k, momentum=0.9) for k in range(RUNS)]
        return trained(members, Mixing(RING, every=4), cuts, engine)

    for cut, whole in zip(found(cuts), found([STEPS]), strict=True):
        assert torch.equal(cut, whole)


def test_a_block_is_cut_where_an_exchange_is_due_and_has_a_loss_for_each_step():
    mixing = Mixing.averaging(RUNS, every=4)
    assert [(part.start, len(part)) for part in mixing.parts(Block(2, 8, OWN))] == [(2, 2), (4, 4), (8, 2)]
    losses = EngineGroup([run() for _ in range(RUNS)], mixing=mixing).run(Block(0, STEPS, OWN))
    assert losses.cost.shape == losses.loss.shape == (STEPS, RUNS)


@pytest.mark.parametrize(
    ("matrix", "every", "message"),
    [
        (torch.tensor([[0.5, 0.4], [0.5, 0.5]]), 1, "lines that sum to 1"),
        (torch.ones(2, 3) / 3, 1, "square"),
        (torch.ones(2) / 2, 1, "square"),
        (torch.eye(2), 0, "mixing.every: 0 is not possible; allowed: 1 or more"),
    ],
)
def test_a_matrix_that_does_not_average_is_refused(matrix, every, message):
    with pytest.raises(UserError, match=message):
        Mixing(matrix, every)


def test_runs_and_blocks_that_do_not_fit_each_other_are_refused():
    three, odd = [run() for _ in range(RUNS)], member(lambda: MLP([5, 9, 2], "tanh"))
    for make, words in (
        (lambda: Mixing.averaging(0), r"mixing\.members: 0 is not possible; allowed: 1 or more"),
        (
            lambda: EngineGroup(three, mixing=Mixing.averaging(2)),
            r"mixing\.matrix: shape \(2, 2\) for 3 members",
        ),
        (lambda: EngineGroup([]), "members: none; allowed: one or more"),
        (lambda: EngineGroup([three[0], three[0]]), "members: one of them, or its network, is there twice"),
        (
            lambda: EngineGroup([three[0], odd], mixing=Mixing.averaging(2)),
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
