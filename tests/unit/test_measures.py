"""Every measure of the runs that it accepts: finite, the same each time, and nothing of the run is changed.

Measures are found by themselves; each is taken as ``training.measuring.Measures`` takes it, after a few
steps.
"""

import copy
import inspect
import math
import sys
from collections.abc import Iterable
from functools import cache, cached_property, partial
from typing import Any, NamedTuple

import pytest
import torch
from cases import MEASURES, RUNS, seeded
from engine_runs import machine
from fake_trainer import attach
from torch import Tensor, nn

from sgdlit.algorithms import EngineGroup, Member
from sgdlit.data.keyed_data import KeyedData
from sgdlit.data.loaders import Batch, Block
from sgdlit.foundations.errors import UserError
from sgdlit.measures.curvature import hessian_of
from sgdlit.measures.measure import Examples, Measure, Parameters, RunAtStep
from sgdlit.measures.relative_squared_error import squared_sums
from sgdlit.measures.trace import Trace, trace_of
from sgdlit.measures.undisturbed import undisturbed
from sgdlit.objectives import loss_by_name

STEPS = 5
FORMULA_SIGNS = set("=Σ∇‖½¼²√⟨⟩ᵀ∂∫")
WHOLE = slice(0, 1)


@pytest.fixture(autouse=True)
def _warn_each_time():
    """Torch says most things once per process, which would be the first test's fault alone."""
    torch.set_warn_always(True)
    yield
    torch.set_warn_always(False)


class Trained(NamedTuple):
    """A run of RUNS after some steps, and what each of them showed: cost and targets ``[1, B]``."""

    member: Member
    data: KeyedData
    costs: Tensor
    targets: list[Tensor]
    parameters: list[Parameters]  # before each step, and after the last


@cache
def trained(case: str) -> Trained:
    network, data = seeded(RUNS[case].network), attach(RUNS[case].data())
    data.setup()
    member = Member(network.train(), loss_by_name(RUNS[case].loss), partial(RUNS[case].optimizer, lr=0.01))
    batches, where = data.batches(torch.device("cpu")), machine()
    block = Block(0, STEPS, [batches])
    targets = [where.precision.convert_input(block.batch(k, WHOLE))[1] for k in range(STEPS)]
    engines, costs, parameters = EngineGroup([member], "loop", where), [], [copied(network)]
    for k in range(STEPS):
        costs.append(engines.run(Block(k, 1, [batches])).cost)
        parameters.append(copied(network))
    data.trainer.global_step = STEPS
    return Trained(member, data, torch.cat(costs), targets, parameters)


def copied(network: nn.Module) -> Parameters:
    return {name: p.detach().clone() for name, p in network.named_parameters()}


class Watched(RunAtStep):
    """Notes which properties are looked at from outside."""

    properties = frozenset(
        name for name, value in vars(RunAtStep).items() if isinstance(value, property | cached_property)
    )

    def __init__(self, *given: Any, **named: Any) -> None:
        self.seen: set[str] = set()
        self.inside = 0
        super().__init__(*given, **named)

    def __getattribute__(self, name: str) -> Any:
        if name not in Watched.properties:
            return super().__getattribute__(name)
        if not self.inside:
            self.seen.add(name)
        self.inside += 1
        try:
            return super().__getattribute__(name)
        finally:
            self.inside -= 1


def at_step(case: str, *measures: str) -> Watched:
    """The run as it is for some measures, with batches in its precision and 17 examples in chunks of 5."""
    run, precision = trained(case), machine().precision
    chosen = run.data.choose(17, "measures")

    def batches(split: str, batch_size: int | None) -> Iterable[Batch]:
        loader = run.data.evaluation_loader(split, batch_size)
        return (precision.convert_input(batch) for batch in loader)

    def examples(part: slice) -> Batch:
        return precision.convert_input(run.data.chosen(chosen[part], torch.device("cpu")))

    return Watched(
        STEPS,
        run.member.network,
        run.member.loss,
        run.data,
        batches,
        examples=Examples(examples, 17, 5, run.data.training_size or math.inf),
        optimizer=run.member.optimizer,
        needs={need for name in measures for need in MEASURES[name]().needs},
        initial_parameters=run.parameters[0],
        previous_parameters=(run.parameters[-2], run.parameters[-3]),
        step_batch=lambda: examples(slice(0, run.data.batch_size)),
    )


def accepts(measure: Measure, case: str) -> bool:
    try:
        check(measure, case)
    except UserError:
        return False
    return True


def check(measure: Measure, case: str) -> None:
    measure.check(trained(case).member.network, trained(case).data)
    measure.check_optimizer(trained(case).member.optimizer)


def begun(name: str, case: str) -> Measure:
    """A new measure that has seen the steps of a run."""
    measure, run = MEASURES[name](), trained(case)
    measure.begin(1, torch.device("cpu"))
    measure.note(lambda k: squared_sums(run.costs[k], run.targets[k]), 0, STEPS, WHOLE)
    return measure


def taken(measure: Measure, run: RunAtStep, seed: int = 0) -> dict[str, float]:
    """As the callback does it, at some state of torch's random generator."""
    torch.manual_seed(seed)
    with undisturbed(run.network):
        return measure.take(run, 0)


def state_of(network: nn.Module) -> dict[str, Any]:
    """All that a measure must leave: parameters, buffers, gradients, modes, the random generator."""
    return {
        "values": copy.deepcopy(network.state_dict()),
        "grad": {n: None if p.grad is None else p.grad.clone() for n, p in network.named_parameters()},
        "requires_grad": {name: p.requires_grad for name, p in network.named_parameters()},
        "training": {name: module.training for name, module in network.named_modules()},
        "hooks": {name: len(module._forward_hooks) for name, module in network.named_modules()},
        "random": torch.get_rng_state(),
        "grad_enabled": torch.is_grad_enabled(),
    }


ACCEPTED = [(name, case) for name, make in MEASURES.items() for case in RUNS if accepts(make(), case)]


@pytest.mark.parametrize("name", MEASURES)
def test_some_run_is_accepted(name):
    """Else nothing below is tested; a new kind of run is added to RUNS in cases.py."""
    assert name in {accepted for accepted, _ in ACCEPTED}


@pytest.mark.parametrize("name", MEASURES)
def test_a_run_that_is_refused_is_told_what_is_allowed(name):
    measure = MEASURES[name]()
    for case in (case for case in RUNS if (name, case) not in ACCEPTED):
        with pytest.raises(UserError, match=f"^{type(measure).__name__}: .*allowed"):
            check(measure, case)


@pytest.mark.parametrize(("name", "case"), ACCEPTED)
def test_it_is_finite_and_the_same_each_time(name, case):
    """Also after draws of others from torch's generator, and taken twice by the same measure."""
    measure = begun(name, case)
    values = taken(measure, at_step(case, name))
    assert values, "a value at a step at which the run is finite"
    for key, value in values.items():
        assert isinstance(value, int | float)
        of_no_upper_end = key.endswith("_high") and value == math.inf
        of_no_interval = value == -math.inf and values.get(key.replace("_low", "_high")) == math.inf
        assert math.isfinite(value) or of_no_upper_end or (key.endswith("_low") and of_no_interval)
    assert all("/" in key for key in values), "a value's name begins with its group"
    assert taken(measure, at_step(case, name), seed=1) == values
    assert taken(begun(name, case), at_step(case, name), seed=2) == values


@pytest.mark.parametrize(("name", "case"), ACCEPTED)
def test_it_leaves_the_run_as_it_was(name, case):
    """Parameters with a gradient, and, every other one, without."""
    measure, run = begun(name, case), at_step(case, name)
    for k, p in enumerate(run.network.parameters()):
        p.grad = torch.ones_like(p) if k % 2 and p.requires_grad else None
    torch.manual_seed(0)
    before = state_of(run.network)
    taken(measure, run)
    torch.testing.assert_close(state_of(run.network), before, rtol=0, atol=0)


@pytest.mark.parametrize(("name", "case"), ACCEPTED)
def test_it_looks_only_at_what_it_declares(name, case):
    measure, run = begun(name, case), at_step(case, name)
    taken(measure, run)
    assert set(measure.needs) <= Watched.properties, "needs names properties of RunAtStep"
    assert run.seen <= set(measure.needs)


@pytest.mark.parametrize("case", RUNS)
def test_what_is_shared_is_not_changed(case):
    """Beside all others, in both orders, each measure has the values that it has alone."""
    names = [name for name, accepted in ACCEPTED if accepted == case]
    alone = {name: taken(begun(name, case), at_step(case, name)) for name in names}
    for order in (names, names[::-1]):
        run = at_step(case, *names)
        assert {name: taken(begun(name, case), run) for name in order} == alone


@pytest.mark.parametrize(("name", "case"), ACCEPTED)
def test_a_resumed_run_goes_on_with_its_state(name, case):
    measure, again = begun(name, case), MEASURES[name]()
    values = taken(measure, at_step(case, name))
    again.restore([copy.deepcopy(measure.state(0))])
    again.begin(1, torch.device("cpu"))
    assert taken(again, at_step(case, name)) == values


@pytest.mark.parametrize("kind", ["ClassLosses", "RowAlignment"])
def test_what_looks_at_classes_refuses_sequences(kind):
    (name,) = [name for name in MEASURES if name.split()[0] == kind]
    with pytest.raises(UserError, match=r"class.* per example"):
        check(MEASURES[name](), "transformer")


@pytest.mark.parametrize("name", MEASURES)
def test_its_file_states_a_formula(name):
    cls = type(MEASURES[name]())
    module = sys.modules[cls.__module__]
    functions = [value for value in vars(module).values() if inspect.isfunction(value)]
    own = [thing for thing in functions if thing.__module__ == module.__name__]
    texts = [inspect.getdoc(thing) or "" for thing in (module, *own)] + [cls.__doc__ or ""]
    assert cls.__doc__, "the class says what it logs"
    assert cls.__doc__ != Measure.__doc__
    assert any(FORMULA_SIGNS & set(text) for text in texts)


@pytest.mark.parametrize("name", MEASURES)
def test_its_headline_is_one_of_its_values(name):
    case = next(case for other, case in ACCEPTED if other == name)
    measure = begun(name, case)
    assert measure.headline is None or measure.headline in taken(measure, at_step(case, name))


def test_traces_of_layers_are_those_of_their_parameters():
    run = at_step("MLP")
    found = taken(Trace(), run)
    of_layers = {name: value for name, value in found.items() if name.startswith("measure/trace/")}
    blocks = trace_of(run.once(hessian_of), seed=run.data.seed, step=run.step).by_parameter
    expected: dict[str, float] = {}
    for (name, _), block in zip(run.network.named_parameters(), blocks, strict=True):
        layer = f"measure/trace/{name.rpartition('.')[0]}"
        expected[layer] = expected.get(layer, 0) + block.value
    assert of_layers == pytest.approx(expected)
    assert len(of_layers) > 1
    assert sum(of_layers.values()) == pytest.approx(found["measure/trace"])
