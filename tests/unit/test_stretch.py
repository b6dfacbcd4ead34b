"""Updates that are put off: what a run shows at a step depends on nothing but the step."""

import copy

import pytest
import torch
from engine_runs import batches, machine, member, parameters, sgd, train

from sgdlit.algorithms import EngineGroup
from sgdlit.algorithms.engines.group import check_engine
from sgdlit.algorithms.engines.stretch import ROWS, steps_of_stretch
from sgdlit.data.batches import Block
from sgdlit.data.sensing import MatrixSensing
from sgdlit.foundations import native
from sgdlit.foundations.errors import UserError
from sgdlit.models import DeepLinear
from sgdlit.models.sensing import BilinearForm


@pytest.fixture(params=["fused", "put_off"])
def engine(request):
    """In C, and in tensor operations."""
    if request.param == "fused" and native.compiler() is None:
        pytest.skip("no C compiler on this machine")
    return request.param


STEPS = 47
SHAPES = [(1, 40, 33), (1, 70, 96), (2, 13, 8), (3, 37, 70), (ROWS, 9, 5)]  # B, d, h


def data(batch_size, d, dtype):
    name = str(dtype).removeprefix("torch.")
    return MatrixSensing(d=d, r=2, gamma=0.5, steps=400, batch_size=batch_size, dtype=name)


def run(d, h, dtype, **settings):
    settings = {"optimizer": sgd(0.1 / d**2, weight_decay=0.3), "loss": "half_squared_error"} | settings
    return member(lambda: BilinearForm(DeepLinear([d, h, d])), dtype=dtype, **settings)


def taken(engine, one, seen, start, end, dtype):
    engines = EngineGroup([one], engine, machine(dtype))
    return engines.run(Block(start, end - start, [seen])).cost


def kept(one):
    """What a checkpoint holds of an open stretch."""
    return [
        {name: v.tolist() if isinstance(v, torch.Tensor) else v for name, v in own["put_off"].items()}
        for own in one.optimizer.state_dict()["state"].values()
        if own
    ]


def test_a_stretch_has_as_many_examples_as_are_worth_it():
    assert [steps_of_stretch(size) for size in (1, 2, 3, 4, 5, 8, 11, ROWS)] == [20, 10, 5, 5, 4, 2, 1, 1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("batch_size", "d", "h"), SHAPES)
def test_what_is_seen_at_a_step_does_not_depend_on_the_calls_before_it(engine, batch_size, d, h, dtype):
    """Each prefix of a run in one call, against the run in calls of one step and of some steps."""
    seen = batches(data(batch_size, d, dtype))
    step_by_step, in_pieces = run(d, h, dtype), run(d, h, dtype)
    costs = []
    for end in range(1, STEPS + 1):
        costs.append(taken(engine, step_by_step, seen, end - 1, end, dtype))
        if end % 7 in (0, 3):
            taken(engine, in_pieces, seen, end - (3 if end % 7 == 3 else 4), end, dtype)
            whole = run(d, h, dtype)
            assert torch.equal(taken(engine, whole, seen, 0, end, dtype), torch.cat(costs))
            assert torch.equal(parameters(whole), parameters(step_by_step))
            assert torch.equal(parameters(whole), parameters(in_pieces))
            assert kept(whole) == kept(in_pieces)


@pytest.mark.parametrize(("dtype", "rel"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize(("batch_size", "d", "h"), SHAPES)
def test_it_is_step_by_step_up_to_rounding(engine, batch_size, d, h, dtype, rel):
    seen, put_off, plain = batches(data(batch_size, d, dtype)), run(d, h, dtype), run(d, h, dtype)
    begun = parameters(plain)
    found, _, _ = train(engine, [put_off], [seen], [150, 333], dtype)
    costs, _, _ = train("loop", [plain], [seen], [333], dtype)
    assert (parameters(plain) - begun).norm() > 0.02 * begun.norm()
    assert (parameters(put_off) - parameters(plain)).norm() < rel * begun.norm()
    assert (found - costs).norm() < 10 * rel * costs.norm()


def test_a_copy_of_network_and_optimizer_goes_on_with_the_same_bits(engine):
    """What a checkpoint holds is enough, also within a stretch."""
    seen, one = batches(data(1, 40, torch.float32)), run(40, 33, torch.float32)
    taken(engine, one, seen, 0, 33, torch.float32)
    other = run(40, 33, torch.float32)
    other.network.load_state_dict(copy.deepcopy(one.network.state_dict()))
    other.optimizer.load_state_dict(copy.deepcopy(one.optimizer.state_dict()))
    for each in (one, other):
        taken(engine, each, seen, 33, 57, torch.float32)
    assert torch.equal(parameters(one), parameters(other))
    assert one.optimizer.state_dict()["state"][0]["put_off"]["lost"] > 0
    taken(engine, one, seen, 57, 60, torch.float32)
    assert not any(one.optimizer.state.values())  # nothing is left where a stretch ends


def test_an_open_stretch_of_an_earlier_version_goes_on(engine):
    """It kept the rows that are held, and no number of them."""
    seen, one = batches(data(1, 40, torch.float32)), run(40, 33, torch.float32)
    taken(engine, one, seen, 0, 33, torch.float32)
    other = run(40, 33, torch.float32)
    other.network.load_state_dict(copy.deepcopy(one.network.state_dict()))
    state = copy.deepcopy(one.optimizer.state_dict())
    for own in state["state"].values():
        held = own["put_off"].pop("held")
        own["put_off"] |= {name: own["put_off"][name][:held] for name in ("deltas", "inputs")}
    other.optimizer.load_state_dict(state)
    for each in (one, other):
        taken(engine, each, seen, 33, 57, torch.float32)
    assert torch.equal(parameters(one), parameters(other))


def test_parameters_that_were_changed_in_between_count(engine):
    """Workers that exchange, or a callback of one's own."""
    seen = batches(data(1, 12, torch.float64))

    def end(by, cuts):
        one = run(12, 8, torch.float64)
        for start, stop in zip([0, *cuts], cuts, strict=False):
            EngineGroup([one], by, machine()).run(Block(start, stop - start, [seen]))
            if stop == 13:
                with torch.no_grad():
                    next(iter(one.network.parameters())).mul_(1.1)
        return parameters(one)

    assert torch.equal(end(engine, [13, 30]), end(engine, [5, 13, 14, 30]))
    torch.testing.assert_close(end(engine, [13, 30]), end("loop", [13, 30]), rtol=0, atol=1e-12)


def test_a_decay_that_leaves_nothing_is_refused_before_a_step_and_by_auto_handed_on(engine):
    seen = batches(data(1, 12, torch.float64))
    whole = run(12, 8, torch.float64, optimizer=sgd(0.5, weight_decay=2))
    with pytest.raises(UserError, match=f"{engine} is not possible: learning rate times weight decay is 1"):
        check_engine(engine, [whole])
    engines = EngineGroup([whole], "auto", machine(torch.float64))
    engines.run(Block(0, 1, [seen]))
    assert engines.name == "rank_one"


def test_a_decay_that_leaves_nothing_at_a_later_step_is_refused_there(engine):
    """As a schedule may come to it."""
    seen = batches(data(1, 12, torch.float64))
    one = run(12, 8, torch.float64, optimizer=sgd(0.25, weight_decay=2))
    engines = EngineGroup([one], engine, machine(torch.float64))
    engines.run(Block(0, 1, [seen]))
    one.optimizer.param_groups[0]["lr"] = 0.5
    with pytest.raises(UserError, match="learning rate times weight decay is 1"):
        engines.run(Block(1, 4, [seen]))
