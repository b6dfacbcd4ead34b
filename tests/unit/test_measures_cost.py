"""What measures cost: the work that they declare is what they do, shared work is done once, and a plan and a
budget follow from it.

Truth: passes through the network are counted as they are made, by a hook on the network and one on
``torch.autograd.grad``.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cache, partial
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from cases import MEASURES, seeded
from fake_trainer import attach
from torch import Tensor, nn

from sgdlit.algorithms import Member
from sgdlit.data.orders import RandomReshuffling
from sgdlit.data.teachers import MLPTeacher
from sgdlit.foundations.errors import UserError
from sgdlit.measures.curvature import CurvatureMeasure, top_of
from sgdlit.measures.lanczos import expected_products, work_of_lanczos
from sgdlit.measures.measure import AtSteps, Examples, LogSpaced, Measure, RunAtStep
from sgdlit.measures.micro_batches import MicroBatchNoise
from sgdlit.measures.presets import PRESETS, measures_by_name, preset
from sgdlit.measures.prices import OPERATION, Pass, Prices, prices_of
from sgdlit.measures.sharpness import Sharpness
from sgdlit.measures.trace import Trace
from sgdlit.measures.undisturbed import undisturbed
from sgdlit.measures.work import DRAWN, Sizes, Work, Works, not_yet_done
from sgdlit.models import MLP, WideResNet
from sgdlit.models.quadratic import Quadratic
from sgdlit.objectives import loss_by_name
from sgdlit.objectives.layer_factors import linear_layers
from sgdlit.training.measure_budget import _rounded_up, check_budget
from sgdlit.training.measure_plan import Plan, in_percent, plan_of, planned_share, prices_of_member
from sgdlit.training.measure_views import View

N, TEST, CHUNK, B, CLASSES = 11, 7, 4, 3, 4
NETWORKS = {
    "MLP": (lambda: MLP([6, 8, CLASSES], activation="tanh"), (6,)),
    "WRN": (lambda: WideResNet(10, 1, CLASSES, in_channels=1, image_size=28, activation="gelu"), (1, 28, 28)),
}


def vmapped(tensor: Tensor) -> int | None:
    """How many tensors one inside of vmap stands for; None outside."""
    inside = torch._C._functorch
    while inside.is_functorch_wrapped_tensor(tensor):
        if inside.is_batchedtensor(tensor):
            return inside.get_unwrapped(tensor).shape[inside.maybe_get_bdim(tensor)]
        tensor = inside.get_unwrapped(tensor)
    return None


class Passes:
    """Counts passes of single examples while it is entered."""

    def __init__(self, network: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
        self.forwards = self.gradients = self.products = 0
        self._latest = 0
        self._of_graph: dict[int, tuple[Tensor, int]] = {}  # gradients with a graph; alive, so that ids stay
        self._original = torch.autograd.grad
        network.register_forward_hook(self._forward)
        monkeypatch.setattr(torch.autograd, "grad", self._grad)

    def __deepcopy__(self, _: dict[int, Any]) -> "Passes":
        """Copies of the network are counted with it."""
        return self

    def _forward(self, _: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if vmapped(inputs[0]) is None:
            self.forwards += len(inputs[0])
            self._latest = len(inputs[0])

    def _grad(self, outputs: Any, inputs: Any, grad_outputs: Any = None, *args: Any, **named: Any) -> Any:
        found = self._original(outputs, inputs, grad_outputs, *args, **named)
        first = next(g for g in found if g is not None)
        together = vmapped(first)
        if together is not None:  # the gradient of one example, of several at a time
            self.gradients += together
        elif grad_outputs is not None and not isinstance(outputs, Tensor):
            self.products += max(self._of_graph[id(g)][1] for g in outputs if id(g) in self._of_graph)
        else:
            self.gradients += self._latest
            self.forwards -= self._latest
            self._of_graph |= {id(g): (g, self._latest) for g in found if g is not None and g.requires_grad}
        return found


def run_at_step(name: str, needs: set[str], network: nn.Module) -> RunAtStep:
    """A run at step 3 with N of N examples, after updates of 0.01 in each parameter."""
    shape = NETWORKS[name][1]
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(N + TEST, *shape, generator=generator, dtype=torch.float64)
    y = torch.randint(CLASSES, (N + TEST,), generator=generator)
    sets = {"train_set": slice(0, N), "test": slice(N, N + TEST)}

    def batches(split: str, size: int | None) -> Iterator[tuple[Tensor, Tensor]]:
        own, size = sets[split], size or 5
        yield from zip(x[own].split(size), y[own].split(size), strict=True)

    before = [{n: p.detach() - 0.01 * k for n, p in network.named_parameters()} for k in (1, 2)]
    optimizer = torch.optim.Adam(network.parameters())
    network.zero_grad()
    loss_by_name("cross_entropy")(network(x[:N]), y[:N]).backward()
    optimizer.step()
    data = SimpleNamespace(seed=0, batch_size=B, training_size=N, order=RandomReshuffling())
    return RunAtStep(
        3, network, loss_by_name("cross_entropy"), data, batches,
        Examples(lambda part: (x[:N][part], y[:N][part]), N, CHUNK, N), optimizer, needs, before[1], before,
        step_batch=lambda: (x[torch.arange(B) % N], y[torch.arange(B) % N]),
    )  # fmt: skip


SIZES = Sizes(3, N, CHUNK, B, N, TEST, 0)
OWN_LANCZOS = "PreconditionedSharpness"  # beside those that ask for top_of: their products are expectations
OTHER_GRAPH = "GaussNewtonSharpness"  # passes through another graph than that of gradients


def checked(name: str, network: str) -> Measure:
    measure, made = MEASURES[name](), NETWORKS[network][0]()
    measure.check(made, run()[1])
    measure.check_optimizer(torch.optim.Adam(made.parameters()))
    return measure


def accepted(name: str, network: str) -> bool:
    try:
        checked(name, network)
    except UserError:
        return False
    return True


def works_of(measures: list[Measure], sizes: Sizes) -> Works:
    done: set = set()
    return {
        what: one for measure in measures for what, one in not_yet_done(measure.work(sizes), done).items()
    }


def planned(measures: list[Measure], sizes: Sizes) -> Work:
    works = works_of(measures, sizes).values()
    return (
        Work(*(sum(column) for column in zip(*works, strict=True)))._replace(together=0) if works else Work()
    )


def counted(name: str, measures: list[Measure], monkeypatch: pytest.MonkeyPatch) -> tuple[Passes, RunAtStep]:
    network = seeded(NETWORKS[name][0])
    run = run_at_step(name, {need for m in measures for need in m.needs}, network)
    with monkeypatch.context() as patch, undisturbed(network):
        passes = Passes(network, patch)
        for measure in measures:
            measure.take(run, 0)
    return passes, run


def products_beside_lanczos(works: Works, passes: Passes, run: RunAtStep) -> tuple[float, float]:
    """Planned and counted, without those of ``top_of``, of which those that it made are subtracted."""
    top = [what for what in works if isinstance(what, tuple) and what[0] is top_of]
    made = sum(run.once(*what).products * N for what in top)
    return sum(one.products for what, one in works.items() if what not in top), passes.products - made


def sizes_of(name: str) -> Sizes:
    parameters = list(NETWORKS[name][0]().parameters())
    matrices = sum(p.dim() > 1 for p in parameters)
    linear = linear_layers(NETWORKS[name][0]()) is not None
    return replace(
        SIZES,
        parameters=sum(p.numel() for p in parameters),
        matrices=matrices,
        outputs=CLASSES,
        linear=linear,
    )


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("measure", MEASURES)
def test_a_measure_does_the_work_that_it_declares(measure, name, monkeypatch):
    """Also those that declare none."""
    if measure == OTHER_GRAPH or not accepted(measure, name):
        pytest.skip("it goes through another graph, or is taken of other runs")
    one = checked(measure, name)
    passes, run = counted(name, [one], monkeypatch)
    work = planned([one], sizes_of(name))
    assert passes.gradients == work.gradients + work.example_gradients
    assert passes.forwards == work.forwards
    if measure != OWN_LANCZOS:
        expected, found = products_beside_lanczos(works_of([one], sizes_of(name)), passes, run)
        assert found == expected


@pytest.mark.parametrize("name", NETWORKS)
def test_what_several_need_is_done_once(name, monkeypatch):
    """All of them together: the declared work, nothing of it twice."""
    others = (OWN_LANCZOS, OTHER_GRAPH)
    measures = [checked(one, name) for one in MEASURES if accepted(one, name) and one not in others]
    passes, run = counted(name, measures, monkeypatch)
    work = planned(measures, sizes_of(name))
    alone = [planned([one], sizes_of(name)) for one in measures]
    assert passes.gradients == work.gradients + work.example_gradients
    assert work.gradients < sum(one.gradients for one in alone)
    assert passes.forwards == work.forwards
    expected, found = products_beside_lanczos(works_of(measures, sizes_of(name)), passes, run)
    assert found == expected


def test_the_expectation_of_lanczos_is_what_was_found():
    """Between the fewest and most products found on seven networks; each further digit takes one."""
    assert 3 <= expected_products(1) <= 12
    assert 13 <= expected_products(5) <= 36
    assert expected_products(1, 1e-5) - expected_products(1, 1e-3) == pytest.approx(2)
    assert expected_products(5, 1e-3, size=4) == 4
    for count, mean in ((2, 12.7), (3, 15.0), (5, 19.0)):  # of 64 Hessians, from random starts
        assert expected_products(count) == pytest.approx(mean, abs=0.4)


def test_no_work_where_there_is_nothing_to_measure_yet():
    for name in ("StepRatio", "PreconditionedSharpness"):
        assert MEASURES[name]().work(replace(SIZES, step=0)) == {}


def test_what_cannot_be_differentiated_twice_is_refused_before_the_run():
    compiled = nn.Sequential(torch.compile(nn.Linear(6, 3)))
    curved = [MEASURES[name]() for name in MEASURES]
    curved = [one for one in curved if isinstance(one, CurvatureMeasure)]
    assert {"Sharpness", "Trace", "BatchSharpness", "StepRatio"} <= {type(one).__name__ for one in curved}
    for one in curved:
        with pytest.raises(
            UserError, match=f"{type(one).__name__}.* cannot differentiate a network that torch"
        ):
            one.check(compiled, run()[1])


# A plan


def run(batch_size: int = 4, shard_size: int | None = 20, **model: Any) -> tuple[Member, Any]:
    network = seeded(lambda: MLP([6, 8, 3]))
    data = attach(MLPTeacher(
        widths=[6, 8, 3], labels="hard", shard_size=shard_size, batch_size=batch_size, steps=100,
        test_size=10, last_batch="short" if shard_size else "error", seed=0,
    ))  # fmt: skip
    data.setup()
    return Member(network, loss_by_name("cross_entropy"), partial(torch.optim.SGD, lr=0.1), **model), data


def plan(measures: list[Measure], view: View, steps: int = 100, members: int = 1, **given: Any) -> Plan:
    pairs = [run(**given) for _ in range(members)]
    return plan_of(measures, view, [m for m, _ in pairs], [d for _, d in pairs], steps)


VIEW = View(10, None, 20, "eval", 8)


MULTIPLICATIONS = {"first": 6 * 8, "second": 8 * 3}
"""Of the layers of the MLP 6-8-3, for one example forwards."""
GRADIENT = 2 * MULTIPLICATIONS["first"] + 3 * MULTIPLICATIONS["second"]
"""Nothing is differentiated by the inputs of the first layer."""
PRODUCT = (2 * MULTIPLICATIONS["first"] + 6 * MULTIPLICATIONS["second"]) / GRADIENT
"""Of each product of matrices in the gradient's graph the derivative has two, of the first layer's one."""


@cache
def prices() -> Prices:
    """Of the MLP 6-8-3."""
    return prices_of_member(*run())


def price(gradients: float, products: float, n: int = 20) -> float:
    """Of passes of single examples of n, in chunks of 8, each call of a measure with n of them."""
    found, chunks = prices(), [math.ceil(seen / 8 - 1e-9) for seen in (gradients, products)]
    calls = math.ceil(gradients / n - 1e-9) + math.ceil(products / n - 1e-9)
    fixed = chunks[0] * found.gradient.fixed + chunks[1] * found.product.fixed + calls * found.call
    return fixed + gradients + found.product.each * products


def draws(probes: int) -> float:
    """Of the vectors of a trace."""
    return probes * (DRAWN * prices().vector + 2 * prices().call)


def of_step(products: int = 0, alike: int = 1) -> float:
    """Of a step of 4 examples."""
    found = prices()
    each = 1 + products * found.product.each
    return 4 * each + (found.gradient.fixed + products * found.product.fixed + found.step) / alike


def test_multiplications_are_counted(monkeypatch):
    """A linear network's are known; a network without any has the prices of convolutions."""
    monkeypatch.setattr("sgdlit.measures.prices.OPERATION", 0.0)
    monkeypatch.setattr("sgdlit.measures.prices._VIEW", 0.0)
    monkeypatch.setattr("sgdlit.measures.prices.BYTE", 0.0)
    member, data = run()
    inputs, targets = data.chosen(torch.zeros(4, dtype=torch.int64), torch.device("cpu"))
    found = prices_of(member.network, member.loss, inputs.double(), targets)
    assert found.forward == pytest.approx((0, sum(MULTIPLICATIONS.values()) / GRADIENT))
    assert found.gradient == pytest.approx((0, 1))
    assert found.product == pytest.approx((0, PRODUCT))
    x, y = torch.zeros(4, 2), torch.zeros(4)
    assert prices_of(Quadratic(2), loss_by_name("network_output"), x, y) == Prices()
    pictures, classes = torch.zeros(4, 3, 32, 32), torch.ones(4, dtype=torch.int64)
    convolutions = prices_of(WideResNet(10, 1), loss_by_name("cross_entropy"), pictures, classes)
    assert convolutions.product == pytest.approx((0, 2), rel=0.02)
    assert convolutions.example_gradient.each == 1.5


def test_what_is_called_is_counted_whatever_the_number_of_examples(monkeypatch):
    """Each layer more adds as much as the one before; and so does a dearer operation."""

    def fixed(layers: int) -> float:
        network = MLP([6, *([8] * layers), 3])
        found = prices_of(network, loss_by_name("cross_entropy"), torch.zeros(4, 6), torch.zeros(4).long())
        return found.product.fixed / found.call  # the unit is another for each network

    monkeypatch.setattr("sgdlit.measures.prices.BYTE", 0.0)
    two, three, four = map(fixed, (2, 3, 4))
    assert four > three > two > 0
    assert four - three == pytest.approx(three - two, rel=0.05)
    monkeypatch.setattr("sgdlit.measures.prices.OPERATION", 2 * OPERATION)
    monkeypatch.setattr("sgdlit.measures.prices._VIEW", OPERATION / 2)
    assert fixed(2) == pytest.approx(2 * two)


def test_a_step_of_many_runs_calls_each_operation_once_and_compiled_code_calls_none():
    found = Prices(gradient=Pass(10.0, 1.0), product=Pass(40.0, 2.0), step=20.0, fused_step=0.5)
    assert found.of_step(4, 1) == 34
    assert found.of_step(4, 1, 1, alike=2) == 12 + (10 + 40 + 20) / 2
    assert found.of_step(4, 1, fused=True) == 4.5


def test_a_plan_by_hand():
    """Every 10 of 100 steps, 11 times: a graph, also of two examples more, and 3 products of 20 examples."""
    found = plan([Trace(probes=3)], VIEW)
    assert found.per_step == pytest.approx(of_step())
    ((times, examples, gradients),) = [(line.times, line.examples, line.gradients) for line in found.lines]
    assert (times, examples) == (11, 20)
    each = price(22, 60) + draws(3)
    assert gradients == pytest.approx(11 * each)
    assert found.share == pytest.approx(11 * each / (100 * of_step()))
    in_steps, in_all = f"{each / of_step():.2g}", in_percent(found.share).split()
    assert found.table()[1].split() == ["Trace", "every", "10", "steps", "11", "20", in_steps, *in_all]
    args = [Trace(probes=3)], VIEW, *([one] for one in run())
    assert planned_share(*args, 100) == found.share


def test_a_gradient_that_the_loop_shows_is_paid_by_nobody():
    """Of 100 steps the first is measured before any was shown."""
    (member, data), noise = run(), MicroBatchNoise(parts=2, first=1)

    def paid(**given: Any) -> float:
        return plan_of([noise], VIEW, [member], [data], 100, **given).lines[0].gradients

    whole, shown = paid(engine="loop", shows=False), paid(engine="loop")
    assert whole == paid(engine="stacked")
    times = len(VIEW.steps(100))
    of_batch = prices().of(Work(gradients=4, together=4), 20, 8)
    assert whole - shown == pytest.approx((times - 1) * of_batch)


def test_two_measures_pay_for_what_they_share_once():
    alone = [plan([one], VIEW).share for one in (Trace(probes=3), Sharpness())]
    both = plan([Trace(probes=3), Sharpness()], VIEW)
    assert both.share == pytest.approx(sum(alone) - 11 * price(22, 0) / (100 * of_step()))
    assert both.lines[0].gradients == pytest.approx(11 * (price(22, 60) + draws(3)))
    apart = plan([Trace(probes=3), Sharpness(every_n_steps=30)], VIEW)  # at steps 0, 30, 60, 90 and 100
    assert apart.lines[1].times == 5
    lanczos = work_of_lanczos(expected_products(1), 20)
    algebra = lanczos.vectors * prices().vector + lanczos.calls * prices().call
    assert apart.lines[1].gradients == pytest.approx(5 * (price(0, 20 * expected_products(1)) + algebra))


@pytest.mark.parametrize("own", [{"examples": 10}, {"mode": "train"}])
def test_other_examples_or_another_mode_share_nothing(own):
    measures = [Trace(probes=3), Trace(probes=3, **own)]
    found = plan(measures, VIEW)
    n = own.get("examples", 20)
    expected = [11 * (price(22, 60) + draws(3)), 11 * (price(n + 2, 3 * n, n) + draws(3))]
    assert [line.gradients for line in found.lines] == pytest.approx(expected)
    twice = plan([Trace(probes=3), Trace(probes=3)], VIEW)
    assert twice.lines[1].gradients == pytest.approx(11 * (price(0, 60) + draws(3)))
    assert plan([Sharpness(), Sharpness()], VIEW).lines[1].gradients == 0


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        (View(None, None, 20, "eval", 8), {100}),
        (View(30, None, 20, "eval", 8), {0, 30, 60, 90, 100}),
        (View(None, LogSpaced(3, 1), 20, "eval", 8), {0, 3, 6, 12, 24, 48, 96, 100}),
        (View(None, AtSteps([7, 300, 50]), 20, "eval", 8), {0, 7, 50, 100}),
    ],
)
def test_the_steps_of_a_plan_are_those_of_the_run(view, expected):
    assert view.steps(100) == expected
    if view.has_cadence:
        found = [0]
        while (step := view.next_step(found[-1])) is not None and step < 100:
            found.append(step)
        assert {*found, 100} == expected


def test_the_regularizer_makes_a_step_dearer_and_an_ensemble_all_of_it():
    from sgdlit.objectives import ConstantStrength

    assert plan([Trace()], VIEW, strength=ConstantStrength(0.1)).per_step == pytest.approx(of_step(1))
    one, three = plan([Trace()], VIEW), plan([Trace()], VIEW, members=3)
    assert three.per_step == pytest.approx(3 * of_step(alike=3))  # stacked
    assert three.lines[0].gradients == pytest.approx(3 * one.lines[0].gradients)
    members, data = zip(*(run() for _ in range(3)), strict=True)
    looped = plan_of([Trace()], VIEW, members, data, 100, "loop")
    assert looped.share == pytest.approx(one.share)


def test_auto_is_500_or_a_smaller_set():
    assert View(1, None, "auto", "eval", 8).count(20) == 20
    assert View(1, None, "auto", "eval", 8).count(2000) == 500
    assert View(1, None, "auto", "eval", 8).count(None) == 500
    assert View(1, None, None, "eval", 8).count(2000) == 2000


# A budget


def refusal(budget: float, measures: list[Measure], view: View, **given: Any) -> str:
    def again(those: Any, how: View) -> Plan:
        return plan(list(those), how, **given)

    with pytest.raises(UserError) as refused:
        check_budget(budget, again(measures, view), again, view)
    return str(refused.value)


LONG: dict[str, Any] = {"shard_size": 4000, "steps": 50_000}


def test_the_budget_that_a_refusal_allows_is_enough():
    """It is rounded up."""
    said = refusal(1e-9, [Trace()], View(None, None, 20, "eval", 8))
    allowed = float(re.search(r"allowed: (\S+) or more", said)[1])
    share = plan([Trace()], View(None, None, 20, "eval", 8)).share
    assert share <= allowed <= 1.1 * share
    for share, words in ((0.5131, "0.52"), (0.5, "0.5"), (28.4, "29"), (0.00999, "0.01"), (144.2, "1.5e+02")):
        assert _rounded_up(share) == words


@pytest.mark.parametrize("budget", [3.0, 8.0])
def test_over_budget_examples_are_the_most_that_fit(budget):
    """Against all numbers of two digits; it is the cheapest change, since it keeps the most of the plan."""
    view, measures = replace(VIEW, examples=1000), [Trace(probes=3)]
    said = refusal(budget, measures, view, **LONG)
    numbers = [*range(10, 100), *range(100, 1000, 10)]
    shares = [plan(measures, replace(view, examples=n), **LONG).share for n in numbers]
    assert all(a < b for a, b in pairwise(shares))
    best = max(n for n, share in zip(numbers, shares, strict=True) if share <= budget)
    share = plan(measures, replace(view, examples=best), **LONG).share
    assert f"examples: {best} ({in_percent(share)})" in said
    assert "planned share" in said


@pytest.mark.parametrize("budget", [0.3, 3.0, 8.0])
def test_whatever_is_named_keeps_to_the_budget(budget):
    view, measures = replace(VIEW, examples=1000), [Trace(probes=3), Sharpness()]
    said = refusal(budget, measures, view, **LONG)
    period = int(said.partition("every_n_steps: ")[2].partition(" ")[0])
    assert plan(measures, replace(view, every_n_steps=period), **LONG).share <= budget
    assert ("examples: " in said) == (plan(measures, replace(view, examples=10), **LONG).share <= budget)
    kept = [float(part.partition(" %")[0]) for part in said.partition("change: ")[2].split("(")[1:]]
    assert kept == sorted(kept, reverse=True)


def test_fewer_steps_and_a_measure_less_are_changes_too():
    view = View(None, LogSpaced(1, 4), 20, "eval", 8)
    share = plan([Trace(), MEASURES["WeightNorms"]()], view, steps=10_000).share
    said = refusal(share / 2, [Trace(), MEASURES["WeightNorms"]()], view, steps=10_000)
    per_doubling = int(said.partition("per_doubling: ")[2].partition("}")[0])
    measures, view = [Trace()], View(None, LogSpaced(1, per_doubling), 20, "eval", 8)
    assert plan(measures, view, steps=10_000).share <= share / 2
    assert "without Trace (0)" in said


def test_a_budget_that_nothing_fits():
    said = refusal(1e-9, [Trace()], View(None, None, 20, "eval", 8))
    assert "no single change makes it fit" in said
    assert "allowed: " in said


def test_a_budget_that_fits_is_kept():
    found = plan([Trace()], VIEW)
    check_budget(found.share, found, lambda *_: found, VIEW)
    check_budget(0, plan([MEASURES["WeightNorms"]()], VIEW), lambda *_: found, VIEW)


# Presets and names


def test_presets_grow():
    basic, standard, full = ({type(m).__name__: m for m in preset(name)} for name in PRESETS)
    assert basic.keys() < standard.keys() < full.keys()
    assert planned(list(basic.values()), SIZES) == Work()
    assert (standard["Sharpness"].count, full["Sharpness"].count) == (1, 5)
    assert standard["BatchSharpness"].minibatches == 10
    assert math.isfinite(plan(list(full.values()), VIEW).share)


def test_measures_go_by_several_spellings():
    path = "sgdlit.measures.batch_sharpness.BatchSharpness"
    for name in ("BatchSharpness", "batch_sharpness", "batchsharpness", "batch-sharpness"):
        assert measures_by_name([name]) == [path]
    assert measures_by_name(["full", "mine.Own"]) == ["full", "mine.Own"]
    with pytest.raises(UserError, match=r"'sharpnes'; did you mean Sharpness\?"):
        measures_by_name(["sharpnes"])
    with pytest.raises(UserError, match=r"'standrad'; did you mean standard\?"):
        measures_by_name(["standrad"])
    with pytest.raises(UserError, match=r"no preset called 'ful'; did you mean full\?"):
        preset("ful")
