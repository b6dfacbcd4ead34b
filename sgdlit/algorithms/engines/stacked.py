"""Many runs as one: parameters stacked, and a step as a pure function that is recorded once as a graph.

The step is a function of (parameters, optimizer state, batch, numbers) for all runs. It is traced into a
graph of plain tensor operations, which is then played, compiled, or captured in a CUDA graph: autograd and
``torch.func`` do not run again. One run alone is the same without the dimension of runs.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import tree_map_only

from sgdlit.algorithms import rules
from sgdlit.algorithms.engines.base import NO_LOOK, Engine, Look, Losses, Machine, Observation
from sgdlit.algorithms.engines.captured import CapturedStep
from sgdlit.algorithms.engines.recording import contiguous_products, updates_by_products
from sgdlit.algorithms.member import Member
from sgdlit.data.batches import Batch, Block, begins_aligned
from sgdlit.objectives.factor_products import norms_of_batch
from sgdlit.objectives.layer_factors import (
    WEIGHTS,
    Factors,
    NoPlainLayers,
    check_examples,
    check_factors,
    factors_in_order,
    linear_layers,
    recorded,
    spread,
)
from sgdlit.objectives.penalty import costs_of, modified_gradient, modified_value, squared_lengths
from sgdlit.objectives.step_shown import Kind, StepNorms

Step = Callable[..., tuple[Tensor, ...]]
"""(parameters, rest, state, inputs, targets, hyperparameters) -> (C, modified loss), and norms.

It changes parameters and state. ``hyperparameters`` are ``[names, K]`` or ``[names]``, in the order of
:attr:`StackedEngine.hyperparameter_names`.
"""


class StackedEngine(Engine):
    """Takes each step for all its runs at once.

    From its making on, the parameters and the optimizer state of the runs are views of stacked tensors.

    Args:
        members: runs that are alike, see :class:`Support`.
        where: which of the block's members they are.
        machine: where the steps are computed.
        finish: what is made of a recorded step: something to call in its place. Where it is given, a step
            may round otherwise than the network does, and shows nothing.
    """

    always_stacked = False  # also where there is one run

    def __init__(
        self,
        members: Sequence[Member],
        where: slice,
        machine: Machine,
        finish: Callable[[Step], Step] | None = None,
    ) -> None:
        super().__init__(members, where, machine)
        self.first, self.finish = members[0], finish
        self.stacked = self.always_stacked or len(members) > 1
        optimizers = [member.optimizer for member in members]
        self.rule = rules.rule_of(optimizers)
        self.hyperparameter_names: list[str] = []
        self.names = [n for n, p in self.first.network.named_parameters() if p.requires_grad]
        values = share_storage([member.network for member in members], self.stacked)
        self.parameters = [values.pop(name) for name in self.names]
        self.rest = values
        stacks = self.parameters if self.stacked else [p.unsqueeze(0) for p in self.parameters]
        state = rules.gather_state(self.rule, optimizers, stacks)
        self.state = state if self.stacked else {n: [t[0] for t in ts] for n, ts in state.items()}
        self.plays: dict[Any, Step] = {}
        plain = not (self.stacked or machine.mixed or finish) and machine.device.type == "cpu"
        self.layers = (linear_layers(self.first.network) if plain else None) or {}
        self._shows: bool | None = None  # whether a step shows norms by these

    def run(self, block: Block) -> Losses:
        return self.run_looking(block, NO_LOOK)

    def run_looking(self, block: Block, look: Look) -> Losses:
        each = [member.hyperparameters(self.rule, block.start, len(block)) for member in self.members]
        hyperparameters, penalized = self.table(each)
        found = []
        with torch.no_grad():
            steps = zip(self.batches(block), hyperparameters, penalized, strict=True)
            for step, (batch, own, is_penalized) in enumerate(steps, block.start + 1):
                values = (self.parameters, self.rest, self.state, *batch, own)
                shows = step - 1 in look.shown_steps
                cost, loss, *norms = self.play(is_penalized, batch, values, shows)(*values)
                found.append((cost, loss))
                if shows:
                    look.shown(step - 1, StepNorms(*norms))
                if step in look.steps:
                    look.call(step)
        rules.write_step(self.rule, [member.optimizer for member in self.members], block.end)
        shape = (len(block), len(self.members))
        return Losses(*(torch.stack(part).reshape(shape) for part in zip(*found, strict=True)))

    def prepare(self, block: Block) -> None:
        """Record, and capture, the step that the block begins with.

        Raises:
            torch.OutOfMemoryError: the memory is too small for so many members.
            Exception: whatever a network raises that cannot be recorded.
        """
        each = [member.next_hyperparameters(self.rule, block.start) for member in self.members]
        (hyperparameters, penalized), batch = self.table(each), next(self.batches(block.first))
        values = (self.parameters, self.rest, self.state, *batch, hyperparameters[0])
        play = self.play(penalized[0], batch, values)
        if isinstance(play, CapturedStep):
            play.prepare(*values)

    def batches(self, block: Block) -> Iterator[Batch]:
        for inputs, targets in super().batches(block):
            if self.stacked:
                yield inputs, targets
            else:
                yield self.first.in_memory_format(inputs[0]), targets[0]

    def table(self, each: Sequence[dict[str, Tensor]]) -> tuple[Tensor, list[bool]]:
        """The hyper-parameters of some updates, and whether any member is penalized in each.

        Args:
            each: those of every member, ``[count]`` by name.

        Returns:
            ``[count, names, K]``, or ``[count, names]`` without a dimension of runs; ``count`` booleans.
        """
        self.hyperparameter_names = list(each[0])
        table = torch.stack([torch.stack(list(own.values())) for own in each]).permute(2, 1, 0)
        penalized = (table[:, self.hyperparameter_names.index("reg_strength")] > 0).any(1).tolist()
        return (table if self.stacked else table[..., 0]).to(self.parameters[0]), penalized

    def shows(self, block: Block) -> Kind | None:
        """Norms, where all that is trained are linear layers of one run, and no step is penalized.

        Batches begin at multiples of 64 bytes, as one that is made alone does: products round by their place.
        """
        if self._shows is None:
            each = [member.next_hyperparameters(self.rule, block.start) for member in self.members]
            (own, _), batch = self.table(each), next(self.batches(block))
            fit = (
                bool(self.layers)
                and begins_aligned(batch)
                and not self.first.is_penalized
                and self._explain(*batch)
            )
            if fit:
                values = (self.parameters, self.rest, self.state, *batch, own[0])
                self.play(False, batch, values, shows=True)  # is recorded here
            self._shows = fit
        return "norms" if self._shows else None

    def _explain(self, inputs: Tensor, targets: Tensor) -> bool:
        """Whether the gradient of a batch is what the factors of the layers make of it."""
        leaves = [p.detach().requires_grad_() for p in self.parameters]
        values = self.rest | dict(zip(self.names, leaves, strict=True))
        costs = costs_of(self.first.network, self.first.loss, self.stacked)
        try:
            with recorded(self.layers, len(inputs)) as found, torch.enable_grad():
                gradient = modified_gradient(costs, values, inputs, targets, None).gradient
            weighted = [k for k, w in zip(spread(len(inputs)), WEIGHTS, strict=False) for _ in range(w)]
            with torch.enable_grad():
                some = modified_gradient(costs, values, inputs[weighted], targets[weighted], None).gradient
            trained: list[Tensor] = [p for p in self.first.network.parameters() if p.requires_grad]
            factors = self._by_layer(factors_in_order(self.layers, *found))
            check_factors(factors.values(), dict(zip(trained, gradient, strict=True)))
            of_sum = {p: len(weighted) * g for p, g in zip(trained, some, strict=True)}
            check_examples(factors.values(), of_sum, 1 / len(inputs))
        except NoPlainLayers:
            return False
        return True

    def _by_layer(self, factors: Sequence[Tensor]) -> dict[str, Factors]:
        pairs = zip(self.layers.items(), factors[::2], factors[1::2], strict=True)
        return {name: Factors(layer, a, delta) for (name, layer), a, delta in pairs}

    def play(self, penalized: bool, batch: Batch, values: tuple, shows: bool = False) -> Step:
        """The recorded step for batches like this one."""
        key = (penalized, shows, *((t.shape, t.dtype) for t in batch))
        if key not in self.plays:
            recorded_step = self.record(penalized, batch, values, shows)
            self.plays[key] = self.finish(recorded_step) if self.finish else recorded_step
        return self.plays[key]

    def record(self, penalized: bool, batch: Batch, values: tuple, shows: bool = False) -> Step:
        """The graph of a step, made on copies of everything, so that recording changes nothing."""
        copies = tree_map_only(Tensor, torch.clone, values)
        factor = self.first.gradient_factor(batch[0].shape[int(self.stacked)])
        step = self.step(penalized, factor, shows)
        with torch.enable_grad(), self.precision.forward_context():
            graph = make_fx(step)(*copies)
        contiguous_products(graph)
        updates_by_products(graph)
        self._check(graph, step, values)
        return graph

    def _check(self, graph: Step, step: Step, values: tuple) -> None:
        """Play a graph once on copies: whatever it leaves out of the step shows.

        Raises:
            ValueError: it ends elsewhere than the step itself.
        """
        played, made = (tree_map_only(Tensor, torch.clone, values) for _ in range(2))
        with torch.no_grad(), self.precision.forward_context():
            found = graph(*played)
        with torch.enable_grad(), self.precision.forward_context():
            expected = step(*made)
        pairs = zip((*found, *played[0]), (*expected, *made[0]), strict=True)
        if not all(torch.allclose(a, b, rtol=1e-3, atol=1e-5, equal_nan=True) for a, b in pairs):
            raise ValueError("the graph does not compute what the network does")

    def step(self, penalized: bool, factor: int, shows: bool = False) -> Step:
        """The step as a pure function but for the parameters and the state, which it changes in place.

        Where it ``shows`` them it returns the norms of the gradients of examples after the losses.
        """
        costs = costs_of(self.first.network, self.first.loss, self.stacked)
        size, names, rule = self.first.objective.penalty_batch_size, self.names, self.rule
        hyperparameter_names = self.hyperparameter_names
        layers = self.layers if shows else {}

        def step(parameters, rest, state, inputs, targets, hyperparameters):
            leaves = [p.detach().requires_grad_() for p in parameters]
            values = rest | dict(zip(names, leaves, strict=True))
            given = dict(zip(hyperparameter_names, hyperparameters.unbind(), strict=True))
            strength = given["reg_strength"] if penalized else None
            with recorded(layers, len(inputs)) as seen:
                gradient, cost, squared, _ = modified_gradient(costs, values, inputs, targets, strength, size)
            norms = norms_of_batch(self._by_layer(factors_in_order(layers, *seen))) if shows else ()
            if factor != 1:
                gradient = [factor * g for g in gradient]
            with torch.no_grad():
                rule.update(parameters, gradient, state, given)
            loss = cost if squared is None else modified_value(cost, squared, strength)
            return cost, loss, *norms

        return step

    def observe(self, block: Block) -> Observation:
        inputs, targets = next(self.batches(block.first))
        run, runs = self.first, (len(self.members),) if self.stacked else ()
        leaves = [p.detach().requires_grad_() for p in self.parameters]
        strengths = torch.tensor([m.reg_strength(block.start) for m in self.members], dtype=torch.float64)
        strength = strengths.to(leaves[0]).reshape(runs) if strengths.any() else None
        values = self.rest | dict(zip(self.names, leaves, strict=True))
        costs, size = costs_of(run.network, run.loss, self.stacked), run.objective.penalty_batch_size
        zero = torch.zeros(runs).to(leaves[0])
        with torch.enable_grad(), self.precision.forward_context():
            found = modified_gradient(costs, values, inputs, targets, strength, size)
            squared = found.squared_norm
            if squared is None and size is not None:
                squared = modified_gradient(costs, values, inputs, targets, zero, size).squared_norm
        lengths = squared_lengths(found.gradient, torch.Size(runs))
        batch_dim = len(runs)
        outputs, labels = (t.flatten(0, batch_dim) for t in (found.outputs, targets))
        correct = run.loss.correct(outputs, labels)
        return Observation(
            found.cost.reshape(-1),
            (lengths if squared is None else squared).reshape(-1),
            run.gradient_factor(inputs.shape[batch_dim]) * lengths.sqrt().reshape(-1),
            None if correct is None else correct.float().reshape(len(self.members), -1).mean(1),
        )


def share_storage(networks: Sequence[nn.Module], stacked: bool) -> dict[str, Tensor]:
    """Parameters and buffers by name, stacked ``[K, ...]``; those of the networks become views of the stacks.

    Without a dimension of runs they are those of the only network.
    """
    each = [dict(network.named_parameters()) | dict(network.named_buffers()) for network in networks]
    if len(networks) == 1:
        return {n: t.detach().unsqueeze(0) if stacked else t.detach() for n, t in each[0].items()}
    stacks = {}
    for name in each[0]:
        stacks[name] = torch.stack([tensors[name].detach() for tensors in each])
        for tensors, view in zip(each, stacks[name], strict=True):
            tensors[name].data = view
    return stacks


def has_convolutions(network: nn.Module) -> bool:
    return any(isinstance(module, nn.modules.conv._ConvNd) for module in network.modules())
