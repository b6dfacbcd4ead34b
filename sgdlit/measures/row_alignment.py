"""Alignment of a softmax layer's rows with the top eigenspaces of their blocks of the Hessian and of G."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sgdlit.data.keyed_data import KeyedData
from sgdlit.foundations.arguments import require_counts
from sgdlit.foundations.errors import UserError
from sgdlit.measures.features import activations, last_layer
from sgdlit.measures.measure import Measure, RunAtStep, Values
from sgdlit.measures.work import Sizes, Work, Works


class Blocks(NamedTuple):
    """For each class c a symmetric matrix over the layer's inputs y: ``[..., k, d, d]`` each.

    ``hessian`` E[p_c(1 − p_c)yyᵀ] is the block of row w_c in the Hessian of the cross-entropy, ``gradient``
    E[(p_c − q_c)²yyᵀ] that in the second moment G of the examples' gradients.
    """

    hessian: Tensor
    gradient: Tensor


def softmax_blocks(weight: Tensor, inputs: Tensor, targets: Tensor, bias: Tensor | None = None) -> Blocks:
    """Of the cross-entropy of softmax(Wy + b), in closed form.

    Args:
        weight: W, ``[..., k, d]``.
        inputs: y of n examples, ``[..., n, d]``.
        targets: q, their classes, int64 ``[..., n]``, or probabilities ``[..., n, k]``.
        bias: b, ``[..., k]``.
    """
    logits = inputs @ weight.mT
    p = torch.softmax(logits if bias is None else logits + bias.unsqueeze(-2), -1)
    q = targets if targets.is_floating_point() else nn.functional.one_hot(targets, p.shape[-1]).to(p)

    def moments(weights: Tensor) -> Tensor:
        each = [inputs.mT @ (inputs * own.unsqueeze(-1)) for own in weights.unbind(-1)]
        return torch.stack(each, -3) / inputs.shape[-2]

    return Blocks(moments(p * (1 - p)), moments((p - q).square()))


def row_alignment(rows: Tensor, blocks: Tensor, count: int) -> Tensor:
    """‖Uᵀw_c‖/‖w_c‖, with U the eigenvectors of the ``count`` largest eigenvalues of block c; ``[..., k]``.

    Source: Ben Arous et al. 2023, arXiv:2310.03010.

    Args:
        rows: w_c, ``[..., k, d]``.
        blocks: symmetric, ``[..., k, d, d]``.
        count: of the eigenvectors.
    """
    require_counts(count=count)
    top = torch.linalg.eigh(blocks).eigenvectors[..., -count:]
    along = (top.mT @ rows.unsqueeze(-1)).squeeze(-1)
    return torch.linalg.vector_norm(along, dim=-1) / torch.linalg.vector_norm(rows, dim=-1)


class RowAlignment(Measure):
    """``measure/row_alignment/hessian`` and ``.../gradient``: ‖Uᵀw_c‖/‖w_c‖ of the last layer, mean over
    classes.

    The blocks are those of the cross-entropy, whatever the run's loss is. There is no value where a row is 0.

    Args:
        count: eigenvectors of each block; None takes as many as there are classes.
        cadence: see :class:`Measure`.
    """

    formula = "‖Uᵀw_c‖/‖w_c‖, with U the top eigenvectors of E[p_c(1 − p_c)yyᵀ], or of E[(p_c − q_c)²yyᵀ]"
    answers = "do the rows of the softmax layer lie in the outlier eigenspaces of their Hessian blocks"
    price = "n/3, and eigenvalues of k matrices of the layer's width"
    logged = ("measure/row_alignment/hessian", "measure/row_alignment/gradient")
    needs = ("examples",)

    def __init__(self, count: int | None = None, **cadence: Any) -> None:
        super().__init__(**cadence)
        require_counts(type(self).__name__, count=count)
        self.count = count

    def check(self, network: nn.Module, data: KeyedData) -> None:
        name = last_layer(network)
        if name is None or len(weights_of(network, name)) < 2:
            raise UserError(
                f"RowAlignment: {type(network).__name__} does not end in a linear layer of two rows or "
                f"more; allowed: "
                "a classifier that does"
            )
        _, targets = data.example()
        row = targets[0].double()
        shares = row.dim() == 1 and row.min() >= 0 and abs(row.sum() - 1) < 1e-4
        if not (shares if targets.is_floating_point() else row.dim() == 0):
            raise UserError(
                "RowAlignment: the targets are neither one class per example nor its probabilities; "
                "allowed: data that have these"
            )

    def work(self, sizes: Sizes) -> Works:
        return {self: Work(forwards=sizes.examples)}

    def take(self, run: RunAtStep, member: int) -> Values:
        name = last_layer(run.network)
        assert name is not None, "networks without a linear layer are refused"
        weight = weights_of(run.network, name).double()
        bias = dict(run.network.named_parameters()).get(f"{name}.bias" if name else "bias")
        if bool((torch.linalg.vector_norm(weight, dim=1) == 0).any()):
            return {}
        inputs = activations(run.network, run.examples, name).double()
        targets = torch.cat([y for _, y in run.examples])
        blocks = softmax_blocks(weight, inputs, targets, None if bias is None else bias.detach().double())
        count = min(self.count or len(weight), weight.shape[1])
        found = {kind: row_alignment(weight, block, count).mean() for kind, block in blocks._asdict().items()}
        return {f"measure/row_alignment/{kind}": float(value) for kind, value in found.items()}


def weights_of(network: nn.Module, layer: str) -> Tensor:
    """The weights of a linear layer, without a graph: ``[k, d]``."""
    return network.get_parameter(f"{layer}.weight" if layer else "weight").detach()
