"""What the measures of a run will cost, known before it begins.

All of it is counted, in passes through the network (``sgdlit.measures.work``), and nothing is timed. So which
steps are measured, and whether a budget allows it, is the same on every machine.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from sgdlit.algorithms import EngineName, Member
from sgdlit.algorithms.engines.group import likely_engine
from sgdlit.algorithms.network_draws import has_a_state
from sgdlit.data.keyed_data import KeyedData
from sgdlit.foundations.errors import UserError
from sgdlit.measures.mean_gradient import trained_parameters
from sgdlit.measures.measure import OF_EXAMPLES, Measure
from sgdlit.measures.prices import Prices, prices_of
from sgdlit.measures.undisturbed import Mode, has_batchnorm, outputs_of, undisturbed
from sgdlit.measures.work import Sizes, Works, not_yet_done
from sgdlit.objectives.layer_factors import linear_layers
from sgdlit.objectives.step_shown import Kind
from sgdlit.training.measure_views import Count, View

_COUNTED: dict[str, Prices] = {}  # by what decides them
_OUTPUTS: dict[str, int] = {}  # numbers of the output for one example, by the same
_EARLY = 2  # steps, from 0, at which some measures have nothing to do yet


class PlannedMeasure(NamedTuple):
    """A line of the plan.

    Attributes:
        measure: what is taken.
        view: how.
        times: at how many steps.
        examples: n; 0 where it looks at none.
        gradients: in the whole run and of all members, without what a measure above it pays.
    """

    measure: Measure
    view: View
    times: int
    examples: int
    gradients: float


class Plan(NamedTuple):
    """What the measures of a run will cost, in gradients of one example.

    Attributes:
        lines: measure by measure.
        per_step: what a step costs, of all members.
        steps: of the run.
    """

    lines: list[PlannedMeasure]
    per_step: float
    steps: int

    @property
    def share(self) -> float:
        """The gradients for measures over those of the run's steps."""
        return sum(line.gradients for line in self.lines) / (self.per_step * self.steps)

    def table(self) -> list[str]:
        """The plan in lines of text; the last is the sum."""
        rows = [("measure", "when", "times", "examples", "steps each", "share")]
        for line in self.lines:
            each = line.gradients / line.times / self.per_step
            share = line.gradients / (self.per_step * self.steps)
            name, when = type(line.measure).__name__, line.view.in_words()
            rows.append(
                (name, when, str(line.times), str(line.examples or "-"), _price(each), in_percent(share))
            )
        rows.append(("together", "", "", "", "", in_percent(self.share)))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return [
            "  ".join(
                word.ljust(width) if k < 2 else word.rjust(width)
                for k, (word, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]


def in_percent(share: float) -> str:
    """A share in words."""
    if share >= 9.95:
        return f"{share:.0f} times"
    return "0" if share == 0 else f"{100 * share:.2g} %" if share < 0.995 else f"{100 * share:.0f} %"


def _price(steps: float) -> str:
    return "0" if steps == 0 else f"{steps:.2g}" if steps < 99.5 else f"{steps:.0f}"


def planned_share(
    measures: Sequence[Measure],
    view: View,
    members: Sequence[Member],
    data: Sequence[KeyedData],
    steps: int,
    engine: EngineName = "auto",
) -> float:
    """The gradients that measures take over those that a run's steps take; see :func:`plan_of`."""
    return plan_of(measures, view, members, data, steps, engine).share


def plan_of(
    measures: Sequence[Measure],
    view: View,
    members: Sequence[Member],
    data: Sequence[KeyedData],
    steps: int,
    engine: EngineName = "auto",
    shows: bool = True,
) -> Plan:
    """The plan of a run.

    A step of a member costs B gradients, three times as many with the explicit regularizer (see
    ``Objective.gradients``), and what it calls; prices are those of
    :func:`sgdlit.measures.prices.prices_of`. How many products
    the Lanczos iteration takes is an expectation, see :func:`sgdlit.measures.lanczos.expected_products`; all
    else is what is computed, as long as the graphs of all examples fit into memory
    (``Products.graph_memory``).

    Args:
        measures: in the order in which they are taken: the first that needs something pays for it.
        view: how those are taken that do not say so themselves.
        members: the runs.
        data: of each.
        steps: of the run, 1 or more.
        engine: what takes the steps.
        shows: whether measures are taken in calls of many steps, which can show what they find.
    """
    views = [view.of(measure) for measure in measures]
    due = [own.steps(steps) for own in views]
    paid = [0.0] * len(measures)
    together: Counter[tuple[int, ...]] = Counter()  # how often some measures are taken at the same step
    early: dict[int, tuple[int, ...]] = {}
    kinds: Counter[tuple[Sizes, Prices]] = Counter()
    for step in set().union(*due):
        those = tuple(i for i, own in enumerate(due) if step in own)
        if step < _EARLY:
            early[step] = those
        else:
            together[those] += 1
    occasions = [(step, those, 1) for step, those in early.items()]
    occasions += [(_EARLY, those, times) for those, times in together.items()]
    shown = _shown(measures, members, data[0], engine) if shows else None
    some = _sizes(view, members[0], data[0], shown)
    free = not any(
        _work(measures[i], views[i], _at(some, step)) for step, those, _ in occasions for i in those
    )
    prices = [Prices() if free else prices_of_member(*both) for both in zip(members, data, strict=True)]
    for member, own_data, own_prices in zip(members, data, prices, strict=True):
        kinds[_sizes(view, member, own_data, shown), own_prices] += 1
    for (sizes, of_kind), number in kinds.items():
        for step, those, times in occasions:
            for i, price in _paid(measures, views, those, _at(sizes, step), of_kind):
                paid[i] += number * times * price
    lines = [
        PlannedMeasure(measure, own, len(when), _looked_at(measure, own, data[0]), price)
        for measure, own, when, price in zip(measures, views, due, paid, strict=True)
    ]
    taker = engine if free or engine != "auto" else _engine_of(members, data[0])
    alike = len(members) if taker in ("rank_one", "stacked", "compiled") else 1
    per_step = 0.0
    for member, own_data, own_prices in zip(members, data, prices, strict=True):
        gradients = member.objective.gradients if member.is_penalized else 1
        products, gradients = (gradients - 1) // 2, 2 - gradients % 2  # a product is two gradients
        per_step += own_prices.of_step(own_data.batch_size, gradients, products, alike, taker == "fused")
    return Plan(lines, per_step, steps)


def prices_of_member(member: Member, data: KeyedData) -> Prices:
    """Those for its network, counted once for all networks that are alike."""
    inputs, targets = _seen(member, data, 4)
    key = _kind(member, inputs)
    if key not in _COUNTED:
        _COUNTED[key] = prices_of(member.network, member.loss, inputs, targets)
    return _COUNTED[key]


def _kind(member: Member, inputs: Tensor) -> str:
    """What networks have in common that cost the same on such inputs."""
    network = member.network
    return str((repr(network), inputs.shape, type(member.loss), [q.shape for q in network.parameters()]))


def _engine_of(members: Sequence[Member], data: KeyedData) -> EngineName:
    """What takes the steps where that is left open."""
    inputs, targets = (one.expand(data.batch_size, *one.shape[1:]) for one in _seen(members[0], data, 1))
    return likely_engine(members, inputs, targets)


def _seen(member: Member, data: KeyedData, count: int) -> tuple[Tensor, Tensor]:
    """Inputs and targets, ``[count, ...]``, as the network sees them: of the first example, so many times."""
    p = next(member.network.parameters())
    inputs, targets = data.chosen(torch.zeros(count, dtype=torch.int64), p.device)
    return (inputs.to(p.dtype) if inputs.is_floating_point() else inputs), targets


def _paid(
    measures: Sequence[Measure],
    views: Sequence[View],
    those: Sequence[int],
    sizes: Sizes,
    prices: Prices,
) -> Iterator[tuple[int, float]]:
    """What each of those measures pays at a step."""
    done: dict[tuple[Count, Mode], set] = {}
    for i in those:
        new = not_yet_done(_work(measures[i], views[i], sizes), done.setdefault(views[i].looks_at, set()))
        examples = views[i].count(sizes.training) or 0
        yield i, sum(prices.of(one, examples, sizes.chunk_size) for one in new.values())


def _work(measure: Measure, view: View, sizes: Sizes) -> Works:
    """What a measure has to compute of as many examples as it looks at."""
    return measure.work(replace(sizes, examples=view.count(sizes.training) or 0))


def _shown(
    measures: Sequence[Measure], members: Sequence[Member], data: KeyedData, engine: EngineName
) -> Kind | None:
    """What steps show to measures that ask for it, as far as that can be said before."""
    asked, member = {measure.found_in_a_step for measure in measures} - {None}, members[0]
    if not asked or len(members) > 1 or member.is_penalized:
        return None
    taker = _engine_of(members, data) if engine == "auto" else engine
    on_host = all(p.device.type == "cpu" for p in member.network.parameters())
    if taker == "stacked" and on_host and linear_layers(member.network) is not None:
        return "norms"
    whole = member.transform is None and member.gradient_factor(data.batch_size) == 1
    if taker != "loop" or not whole:
        return None
    inputs, _ = _seen(member, data, 4)
    return None if has_a_state(member, inputs) else "gradient"


def _sizes(view: View, member: Member, data: KeyedData, shown: Kind | None) -> Sizes:
    """What the work of a measure depends on, at step 0."""
    trained = trained_parameters(member.network).values()
    training = data.training_size
    return Sizes(
        step=0,
        examples=view.count(training) or 0,
        chunk_size=view.chunk_size,
        batch_size=data.batch_size,
        training=training,
        test=data.size("test"),
        parameters=sum(p.numel() for p in trained),
        matrices=sum(p.dim() > 1 for p in trained),
        normalized=has_batchnorm(member.network),
        linear=linear_layers(member.network) is not None,
        outputs=_outputs(member, data),
        shown=shown,
    )


def _outputs(member: Member, data: KeyedData) -> int:
    """How many numbers the network's output for one example has; 1 where it is no tensor."""
    inputs, _ = _seen(member, data, 1)
    key = _kind(member, inputs)
    if key not in _OUTPUTS:
        try:
            with undisturbed(member.network), torch.no_grad():
                found = outputs_of(member.network, inputs)
        except (UserError, RuntimeError, NotImplementedError):
            found = None
        _OUTPUTS[key] = found.numel() if isinstance(found, Tensor) else 1
    return _OUTPUTS[key]


def _at(sizes: Sizes, step: int) -> Sizes:
    """Those at a step; before the first one nothing has been shown."""
    return replace(sizes, step=step, shown=sizes.shown if step else None)


def _looked_at(measure: Measure, view: View, data: KeyedData) -> int:
    return (view.count(data.training_size) or 0) if set(measure.needs) & OF_EXAMPLES else 0
