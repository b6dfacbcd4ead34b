"""What is done to a recorded step before it is played."""

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
