"""Many runs as one: parameters stacked, and a step as a pure function that is recorded once as a graph.

The step is a function of (parameters, optimizer state, batch, numbers) for all runs. It is traced into a
graph of plain tensor operations, which is then played, compiled, or captured in a CUDA graph: autograd and
``torch.func`` do not run again. One run alone is the same without the dimension of runs.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd
from torch.utils._pytree import tree_map_only

from sgdlit.algorithms import update_rules
from sgdlit.algorithms.engines.base import Engine, Losses, Member, Observation
from sgdlit.data.loaders import Batch, Block
from sgdlit.objectives import ExactPenalty
from sgdlit.objectives.functional import costs_of, modified_gradient, squared_lengths

aten = torch.ops.aten
Step = Callable[..., tuple[Tensor, Tensor]]
"""(parameters, rest, state, inputs, targets, numbers) -> (C, modified loss); changes parameters and state.

``numbers`` has a row for each name in :attr:`StackedEngine.number_names`, ``[names, K]`` or ``[names]``.
"""


class StackedEngine(Engine):
    """Takes each step for all its runs at once.

    From its making on, the parameters and the optimizer state of the runs are views of stacked tensors.

    Args:
        members: runs that :func:`refusal` has nothing against.
        where: which of the block's members they are.
        trainer: of the run.
        finish: what is made of a recorded step: something to call in its place.
    """

    always_stacked = False  # also where there is one run

    def __init__(
        self,
        members: Sequence[Member],
        where: slice,
        trainer: Trainer,
        finish: Callable[[Step], Step] = lambda step: step,
    ) -> None:
        super().__init__(members, where, trainer)
        self.first, self.finish = members[0].run, finish
        self.stacked = self.always_stacked or len(members) > 1
        optimizers = [member.optimizer for member in members]
        self.rule = update_rules.rule_of(optimizers)
        self.names = [n for n, p in self.first.network.named_parameters() if p.requires_grad]
        values = share_storage([member.run.network for member in members], self.stacked)
        self.parameters = [values.pop(name) for name in self.names]
        self.rest = values
        stacks = self.parameters if self.stacked else [p.unsqueeze(0) for p in self.parameters]
        state = update_rules.gather_state(self.rule, optimizers, stacks)
        self.state = state if self.stacked else {n: [t[0] for t in ts] for n, ts in state.items()}
        self.plays: dict[Any, Step] = {}

    def run(self, block: Block) -> Losses:
        numbers, penalized = self.numbers(self.members, block.start, len(block))
        found = []
        with torch.no_grad():
            for batch, own, is_penalized in zip(self.batches(block), numbers, penalized, strict=True):
                values = (self.parameters, self.rest, self.state, *batch, own)
                found.append(self.play(is_penalized, batch, values)(*values))
        update_rules.write_step([member.optimizer for member in self.members], block.start + len(block))
        shape = (len(block), len(self.members))
        return Losses(*(torch.stack(part).reshape(shape) for part in zip(*found, strict=True)))

    def prepare(self, block: Block) -> None:
        """Record the step that the block begins with.

        Raises:
            Exception: whatever a network raises that cannot be recorded.
        """
        as_it_is = [member._replace(scheduler=None) for member in self.members]
        (numbers, penalized), batch = self.numbers(as_it_is, block.start, 1), next(self.batches(block))
        values = (self.parameters, self.rest, self.state, *batch, numbers[0])
        self.play(penalized[0], batch, values)

    def batches(self, block: Block) -> Iterator[Batch]:
        for inputs, targets in super().batches(block):
            if self.stacked:
                yield inputs, targets
            else:
                yield self.first.in_memory_format(inputs[0]), targets[0]

    def numbers(self, members: Sequence[Member], start: int, count: int) -> tuple[Tensor, list[bool]]:
        """What some updates need, and whether any member is penalized in each.

        Returns:
            ``[count, names, K]``, or ``[count, names]`` without a dimension of runs; ``count`` booleans.
        """
        each = [member.numbers(self.rule, start, count) for member in members]
        self.number_names = list(each[0])
        table = torch.stack([torch.stack(list(m.values())) for m in each]).permute(2, 1, 0)
        penalized = (table[:, self.number_names.index("reg_strength")] > 0).any(1).tolist()
        return (table if self.stacked else table[..., 0]).to(self.parameters[0]), penalized

    def play(self, penalized: bool, batch: Batch, values: tuple) -> Step:
        """The recorded step for batches like this one."""
        key = (penalized, *((t.shape, t.dtype) for t in batch))
        if key not in self.plays:
            self.plays[key] = self.finish(self.record(penalized, batch, values))
        return self.plays[key]

    def record(self, penalized: bool, batch: Batch, values: tuple) -> Step:
        """The graph of a step, made on copies of everything, so that recording changes nothing."""
        copies = tree_map_only(Tensor, torch.clone, values)
        factor = self.first.factor(batch[0].shape[int(self.stacked)])
        with torch.enable_grad(), self.precision.forward_context():
            graph = make_fx(self.step(penalized, factor))(*copies)
        contiguous_products(graph)
        return graph

    def step(self, penalized: bool, factor: int) -> Step:
        """The step as a pure function but for the parameters and the state, which it changes in place."""
        costs = costs_of(self.first.network, self.first.loss, self.stacked)
        size, names, rule = self.first.objective.penalty_batch_size, self.names, self.rule
        number_names = self.number_names

        def step(parameters, rest, state, inputs, targets, numbers):
            leaves = [p.detach().requires_grad_() for p in parameters]
            values = rest | dict(zip(names, leaves, strict=True))
            numbers = dict(zip(number_names, numbers.unbind(), strict=True))
            strength = numbers["reg_strength"] if penalized else None
            gradient, cost, squared, _ = modified_gradient(costs, values, inputs, targets, strength, size)
            if factor != 1:
                gradient = [factor * g for g in gradient]
            with torch.no_grad():
                rule.update(parameters, gradient, state, numbers)
            return cost, cost if squared is None else cost + strength / 4 * squared

        return step

    def observe(self, block: Block) -> Observation:
        inputs, targets = next(self.batches(block))
        run, runs = self.first, (len(self.members),) if self.stacked else ()
        strengths = [m.run.strength(block.start, m.rate()) for m in self.members]
        strength = torch.tensor(strengths).to(self.parameters[0]).reshape(runs) if any(strengths) else None
        leaves = [p.detach().requires_grad_() for p in self.parameters]
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
            run.factor(inputs.shape[batch_dim]) * lengths.sqrt().reshape(-1),
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


def refusal(members: Sequence[Member]) -> str | None:
    """Why these runs cannot be stacked, in words; None if they can."""
    runs = [member.run for member in members]
    first = runs[0]
    reason = update_rules.refusal([member.optimizer for member in members])
    if reason is not None:
        return reason
    for kind, things in (
        ("networks", [type(run.network).__name__ for run in runs]),
        ("losses", [type(run.loss).__name__ for run in runs]),
        ("reductions", [run.reduction for run in runs]),
        ("batches of the penalty", [run.objective.penalty_batch_size for run in runs]),
    ):
        if len(set(things)) > 1:
            return f"the runs have different {kind} ({', '.join(sorted(set(map(str, things))))})"
    if any(type(run.objective) is not ExactPenalty for run in runs):
        return f"the objective is {type(first.objective).__name__}, not ExactPenalty"
    if any(p.dtype not in (torch.float32, torch.float64) for p in first.network.parameters()):
        return "the parameters are of half precision"
    for module in first.network.modules():
        if isinstance(module, _NormBase | _DropoutNd):
            return f"the network has {type(module).__name__}, which changes its state or draws random numbers"
        if module._compiled_call_impl is not None or "_orig_mod" in module._modules:
            return "torch.compile was applied to the network"
    return None


def contiguous_products(graph: GraphModule) -> None:
    """Write the transpose of a batched product as the product of the transposes, in the other order.

    Autograd gives the gradient of a stacked weight as (xᵀδ)ᵀ, whose strides are not those of the weight, and
    the update then costs more than the product. δᵀx has them. The two are the same sums.
    """
    for node in list(graph.graph.nodes):
        product = _product_transposed_by(node)
        if product is None:
            continue
        left, right = product.args
        with graph.graph.inserting_before(node):
            swapped = [graph.graph.call_function(aten.transpose.int, (m, 1, 2)) for m in (right, left)]
            contiguous = graph.graph.call_function(aten.bmm.default, tuple(swapped))
        node.replace_all_uses_with(contiguous)
        graph.graph.erase_node(node)
    graph.graph.eliminate_dead_code()
    graph.recompile()


def _product_transposed_by(node: Node) -> Node | None:
    """The batched product of which ``node`` is the transpose, seen through views that change no shape."""
    if node.target is not aten.transpose.int or sorted(d % 3 for d in node.args[1:]) != [1, 2]:
        return None
    source = node.args[0]
    while source.target is aten.view.default and list(_shape(source)) == list(_shape(source.args[0])):
        source = source.args[0]
    return source if source.target is aten.bmm.default else None


def _shape(node: Node) -> Sequence[int]:
    return node.meta["tensor_meta"].shape if "tensor_meta" in node.meta else node.meta["val"].shape


def has_convolutions(network: nn.Module) -> bool:
    return any(isinstance(module, nn.modules.conv._ConvNd) for module in network.modules())
