"""What is done to a recorded step before it is played."""

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch.fx import GraphModule, Node

aten = torch.ops.aten


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


def updates_by_products(graph: GraphModule) -> None:
    """Add the gradient of a stacked weight to it as the product that it is: W ← W − (lr · δᵀ) x.

    Where SGD's update W ← W − lr · g is all that becomes of a gradient g = δᵀx, no matrix of gradients is
    written and read.
    """
    changed = {node.args[0] for node in graph.graph.nodes if _is_in_place(node)}
    for node in list[Any](graph.graph.nodes):
        product = _product_added_by(node)
        if product is None or any(_source(factor) in changed for factor in product.args):
            continue
        weight, _, rate = node.args
        left, right = product.args
        with graph.graph.inserting_before(node):
            scaled = graph.graph.call_function(aten.mul.Tensor, (left, rate))
            added = graph.graph.call_function(aten.baddbmm_.default, (weight, scaled, right), {"alpha": -1})
        node.replace_all_uses_with(added)
        graph.graph.erase_node(node)
    graph.graph.eliminate_dead_code()
    graph.recompile()


def _product_added_by(node: Any) -> Any:
    """The batched product that is all that an update subtracts, times the rates of the runs."""
    if node.target is not aten.addcmul_.default or node.kwargs != {"value": -1}:
        return None
    _, gradient, rate = node.args
    if gradient.target is aten.detach.default and len(gradient.users) == 1:
        gradient = gradient.args[0]
    if gradient.target is not aten.bmm.default or len(gradient.users) > 1:
        return None
    return gradient if list(_shape(rate))[1:] == [1, 1] else None


def _is_in_place(node: Any) -> bool:
    schema = getattr(node.target, "_schema", None)
    return schema is not None and schema.is_mutable


def _source(node: Any) -> Any:
    """What a view shows, through views of views."""
    while node.op == "call_function" and _is_view(node):
        node = node.args[0]
    return node


def _is_view(node: Any) -> bool:
    if node.target is operator.getitem:  # one of several views
        return True
    schema = getattr(node.target, "_schema", None)
    return schema is not None and any(value.alias_info is not None for value in schema.returns)


def _product_transposed_by(node: Any) -> Any:
    """The batched product of which ``node`` is the transpose, seen through views that change no shape."""
    if node.target is not aten.transpose.int or sorted(d % 3 for d in node.args[1:]) != [1, 2]:
        return None
    source = node.args[0]
    while source.target is aten.view.default and list(_shape(source)) == list(_shape(source.args[0])):
        source = source.args[0]
    return source if source.target is aten.bmm.default else None


def _shape(node: Node) -> Sequence[int]:
    return node.meta["tensor_meta"].shape if "tensor_meta" in node.meta else node.meta["val"].shape
