"""Gradients by the single layers of networks without biases, for every example."""

from collections.abc import Callable

import torch
from torch import Tensor

from sgdlit.foundations.philox import derive_key, normal
from sgdlit.models.groupsort import GroupSortMLP, OrthonormalLinear, orthonormal, sort_pairs


def _normal(seed: int, purpose: str, rows: int, columns: int) -> Tensor:
    return normal(derive_key(seed, f"L12 {purpose}"), torch.arange(rows), columns, dtype=torch.float64)


def _unit(x: Tensor) -> Tensor:
    return x / torch.linalg.vector_norm(x, dim=-1, keepdim=True)


def ratios(kind: str, width: int, depth: int, seed: int, x: Tensor) -> list[Tensor]:
    """‖h_{l−1}‖‖∂f/∂z_l‖ of each example, ``[n]`` for each hidden layer."""
    if kind == "GroupSort":
        torch.manual_seed(derive_key(seed, f"L12 orthogonal {depth}").lo)
        network = GroupSortMLP([width] * (depth + 1) + [1]).double()
        weights = [orthonormal(layer.weight).detach() for layer in network.layers
                   if isinstance(layer, OrthonormalLinear)]  # fmt: skip
        return layer_gradients(weights, sort_pairs, x)
    drawn = [_normal(seed, f"depth {depth} layer {layer}", width, width) for layer in range(depth)]
    weights = [w / torch.linalg.matrix_norm(w, 2) for w in drawn]
    weights.append(_unit(_normal(seed, f"depth {depth} output", 1, width)))
    return layer_gradients(weights, torch.relu, x)


def layer_gradients(weights: list[Tensor], activation: Callable[[Tensor], Tensor], x: Tensor) -> list[Tensor]:
    """‖∂f/∂W_l‖_F of every example for each W_l but the last, which is ``[1, d]``: ``[n]`` each."""
    h, before, sums = x, [], []
    with torch.enable_grad():
        for weight in weights[:-1]:
            z = (h @ weight.T).requires_grad_()
            before.append(torch.linalg.vector_norm(h.detach(), dim=1))
            sums.append(z)
            h = activation(z)
        gradients = torch.autograd.grad((h @ weights[-1].T).sum(), sums)
    return [a * torch.linalg.vector_norm(g, dim=1) for a, g in zip(before, gradients, strict=True)]


def unit_inputs(seed: int, count: int, width: int) -> Tensor:
    """Random inputs of length 1, float64 ``[n, d]``."""
    return _unit(_normal(seed, "inputs", count, width))
