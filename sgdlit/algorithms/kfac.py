"""K-FAC: the natural gradient, with a Kronecker product for the Fisher matrix of each layer.

Of a linear layer s = W[a; 1], with δ the gradient of −log p by s for a target that the model itself draws,
the Fisher matrix by (W, b) is E[δδᵀ ⊗ [a; 1][a; 1]ᵀ]. K-FAC (Martens & Grosse 2015, 1503.05671) takes it
for G ⊗ A with A = E[a; 1][a; 1]ᵀ and G = E δδᵀ, whose inverse is G⁻¹ ⊗ A⁻¹. That is exact where δ does not
depend on a: for one example, and for every layer of a deep linear network with a squared error (Bernacchia,
Lengyel & Hennequin 2018). Of a convolution, and of a linear layer that is applied at T places, A sums and G
averages over the places (Grosse & Martens 2016, 1602.01407).

The expectation over targets is taken exactly, by a backward pass for each output of the network (Botev,
Ritter & Barber 2017, 1706.03662): nothing is drawn.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sgdlit.algorithms.transforms.base import check_separable
from sgdlit.algorithms.watching import WatchesNetwork
from sgdlit.foundations.errors import UserError
from sgdlit.objectives import Loss
from sgdlit.objectives.losses import CrossEntropy, HalfSquaredError

Layer = nn.Linear | nn.Conv2d
_MOST_OUTPUTS = 64  # each costs a backward pass
_A, _G = "input_factor", "output_factor"


@dataclass(frozen=True)
class Factors:
    """Of a layer: A ``[i, i]`` of inputs, with a 1 for the bias; G ``[o, o]`` of gradients by outputs."""

    inputs: Tensor
    outputs: Tensor

    def inverses(self, damping: float) -> tuple[Tensor, Tensor]:
        """(A + π√λ I)⁻¹ and (G + √λ/π I)⁻¹, π² = (tr A/i)/(tr G/o) (Martens & Grosse 2015, section 6.3)."""
        mean_a, mean_g = (factor.diagonal().mean().clamp_min(1e-30) for factor in (self.inputs, self.outputs))
        pi, root = (mean_a / mean_g).sqrt(), math.sqrt(damping)
        return _inverse(self.inputs, pi * root), _inverse(self.outputs, root / pi)


def _inverse(factor: Tensor, shift: Tensor) -> Tensor:
    """Of a factor plus a multiple of the identity; NaN where it has none, as in a run that has diverged."""
    shifted = factor + shift * torch.eye(len(factor), dtype=factor.dtype, device=factor.device)
    root, failed = torch.linalg.cholesky_ex(shifted)
    return torch.cholesky_inverse(root) if not failed else torch.full_like(shifted, math.nan)


def output_roots(loss: Loss, outputs: Tensor) -> Tensor:
    """Vectors whose outer products sum to the Fisher matrix of the outputs, for each example.

    Of cross-entropy √p_c (e_c − p) for each class c. Of the half squared error, which is the negative
    log-likelihood of a normal target of variance 1, the unit vectors.

    Args:
        loss: which says what the outputs mean.
        outputs: ``[n, k]``.

    Returns:
        ``[k, n, k]``.

    Raises:
        UserError: another loss.
    """
    n, k = outputs.shape
    units = torch.eye(k, dtype=outputs.dtype, device=outputs.device)
    if isinstance(loss, HalfSquaredError):
        return units.unsqueeze(1).expand(k, n, k)
    if isinstance(loss, CrossEntropy):
        p = outputs.softmax(1)
        return p.T.sqrt().unsqueeze(-1) * (units.unsqueeze(1) - p)
    raise UserError(
        f"model.optimizer: KFAC does not know the Fisher matrix of {type(loss).__name__}; allowed: "
        "cross_entropy, half_squared_error"
    )


def factors_of(network: nn.Module, loss: Loss, layers: Iterable[Layer], inputs: Tensor) -> list[Factors]:
    """A and G of some linear layers and convolutions, at the present parameters.

    Args:
        network: that has the layers.
        loss: see :func:`output_roots`.
        layers: each is called once in a forward pass.
        inputs: of a batch, ``[n, ...]``.

    Raises:
        UserError: another loss; too many outputs; a layer that is not called once.
    """
    watched, seen = list(layers), dict[nn.Module, tuple[Tensor, Tensor]]()

    def keep(layer: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> None:
        if layer in seen:
            raise UserError(
                f"model.optimizer: KFAC: {layer} is called twice; allowed: layers that are called once"
            )
        seen[layer] = given[0].detach(), made

    hooks = [layer.register_forward_hook(keep) for layer in watched]
    try:
        with torch.enable_grad():
            outputs = network(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    if len(seen) < len(watched):
        raise UserError(
            f"model.optimizer: KFAC: {len(watched) - len(seen)} of {len(watched)} layers are not called"
        )
    outputs = outputs.unsqueeze(-1) if outputs.dim() == 1 else outputs.flatten(1)
    if outputs.shape[1] > _MOST_OUTPUTS:
        raise UserError(
            f"model.optimizer: KFAC takes a backward pass for each of {outputs.shape[1]} outputs; allowed: "
            f"up to {_MOST_OUTPUTS} outputs"
        )
    made = [seen[layer][1] for layer in watched]
    roots = output_roots(loss, outputs.detach())
    each = [torch.autograd.grad(outputs, made, root, retain_graph=True) for root in roots]
    return [
        Factors(_input_factor(layer, seen[layer][0]), _output_factor(layer, torch.stack(gradients)))
        for layer, gradients in zip(watched, zip(*each, strict=True), strict=True)
    ]


def _input_factor(layer: Layer, a: Tensor) -> Tensor:
    """Mean over examples of the sum over places of [a; 1][a; 1]ᵀ, or aaᵀ without a bias."""
    rows = _places(layer, a)
    if layer.bias is not None:
        rows = torch.cat([rows, rows.new_ones(*rows.shape[:2], 1)], 2)
    flat = rows.flatten(0, 1)
    return flat.T @ flat / len(a)


def _places(layer: Layer, a: Tensor) -> Tensor:
    """What a layer multiplies at each place: ``[n, T, i]``."""
    if isinstance(layer, nn.Conv2d):
        padding = layer.padding
        assert not isinstance(padding, str)
        patches = nn.functional.unfold(a, layer.kernel_size, layer.dilation, padding, layer.stride)
        return patches.transpose(1, 2)
    return a.reshape(len(a), -1, a.shape[-1])


def _output_factor(layer: Layer, gradients: Tensor) -> Tensor:
    """Mean over examples and places of the sum of δδᵀ over backward passes, from ``[k, n, ...]``."""
    outputs_last = gradients.movedim(2, -1) if isinstance(layer, nn.Conv2d) else gradients
    rows = outputs_last.flatten(0, -2)
    return rows.T @ rows / (len(rows) / len(gradients))


class KFAC(Optimizer, WatchesNetwork):
    """v ← μv + G⁻¹ ∇C A⁻¹ layer by layer; θ ← θ − lr·v.

    A and G are running averages, and their inverses damped, see :meth:`Factors.inverses`. Parameters that
    belong to no linear layer or convolution receive their gradient as it is. It needs a step's examples, so a
    step has a closure; a network without BatchNorm and Dropout; and one process.

    Args:
        params: parameters of a network, or groups of them.
        lr: of all; schedules move it.
        momentum: μ.
        damping: λ.
        decay: of the averages; the k-th update of A and G has weight max(1/k, 1 − decay).
        every: steps between two updates of A, G and their inverses.
        weight_decay: w, added to the gradient as wθ.

    Raises:
        UserError: a number that is not possible.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.1,
        momentum: float = 0.0,
        damping: float = 1e-2,
        decay: float = 0.95,
        every: int = 10,
        weight_decay: float = 0.0,
    ) -> None:
        for name, value in (("momentum", momentum), ("decay", decay)):
            if not 0 <= value < 1:
                raise UserError(f"optimizer.{name}: {value} is not possible; allowed: 0 or more, below 1")
        for name, value in (("lr", lr), ("weight_decay", weight_decay)):
            if not 0 <= value < math.inf:
                raise UserError(f"optimizer.{name}: {value} is not possible; allowed: 0 or more")
        if not 0 < damping < math.inf:
            raise UserError(f"optimizer.damping: {damping} is not possible; allowed: above 0")
        if every < 1:
            raise UserError(f"optimizer.every: {every} is not possible; allowed: 1 or more")
        defaults = {"lr": lr, "momentum": momentum, "damping": damping, "decay": decay, "every": every}
        super().__init__(params, {**defaults, "weight_decay": weight_decay})
        self._network: nn.Module | None = None
        self._layers: list[Layer] = []
        self._inputs: Tensor | None = None
        self._inverses: dict[Tensor, tuple[Tensor, Tensor]] = {}

    def watch(self, network: nn.Module, loss: Loss) -> None:
        check_separable(network, "KFAC")
        own = {p for group in self.param_groups for p in group["params"] if p.requires_grad}
        layers = [m for m in network.modules() if isinstance(m, nn.Linear | nn.Conv2d) and _is_plain(m)]
        self._layers = [m for m in layers if all(p in own for p in m.parameters())]
        if not self._layers:
            raise UserError(
                "model.optimizer: KFAC finds no layer that it knows; allowed: networks with nn.Linear or "
                "nn.Conv2d"
            )
        self._network, self._loss = network, loss

    def _keep_inputs(self, network: nn.Module, given: tuple[Any, ...]) -> None:
        self._inputs = given[0].detach()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update.

        Args:
            closure: evaluates the loss, and its gradient, on the examples of the step.

        Raises:
            UserError: no network was named, or there is no closure.
        """
        if self._network is None or closure is None:
            raise UserError(
                "KFAC: it needs to know its network (watch) and the examples of a step (a closure)"
            )
        hook = self._network.register_forward_pre_hook(self._keep_inputs)  # gone before anyone copies it
        try:
            with torch.enable_grad():
                loss = closure()
        finally:
            hook.remove()
        self._update_factors()
        with torch.no_grad():
            preconditioned = self._preconditioned()
            for group in self.param_groups:
                for p in group["params"]:
                    if p.grad is not None:
                        self._move(p, preconditioned.get(p), group)
        return loss

    @torch.no_grad()
    def _update_factors(self) -> None:
        group = self.param_groups[0]
        first = self.state[self._layers[0].weight]
        step = int(first.get("step", 0))
        due = step % group["every"] == 0
        if due:
            assert self._network is not None
            assert self._inputs is not None, "the closure evaluates the network"
            k = step // group["every"] + 1
            keep = min(1 - 1 / k, group["decay"])
            found = factors_of(self._network, self._loss, self._layers, self._inputs)
            for layer, factors in zip(self._layers, found, strict=True):
                state = self.state[layer.weight]
                for name, new in ((_A, factors.inputs), (_G, factors.outputs)):
                    state[name] = new if name not in state else state[name].lerp(new, 1 - keep)
        if due or not self._inverses:  # also of a run that goes on from a checkpoint
            for layer in self._layers:
                state = self.state[layer.weight]
                self._inverses[layer.weight] = Factors(state[_A], state[_G]).inverses(group["damping"])
        self._inputs = None
        for layer in self._layers:
            self.state[layer.weight]["step"] = torch.tensor(float(step + 1))

    def _preconditioned(self) -> dict[Tensor, Tensor]:
        """What replaces the gradient of the layers' parameters."""
        weight_decay, found = self.param_groups[0]["weight_decay"], dict[Tensor, Tensor]()
        for layer in self._layers:
            weight, bias = layer.weight, layer.bias
            assert weight.grad is not None
            gradient = (weight.grad + weight_decay * weight).flatten(1)
            if bias is not None:
                assert bias.grad is not None
                gradient = torch.cat([gradient, (bias.grad + weight_decay * bias).unsqueeze(1)], 1)
            of_inputs, of_outputs = self._inverses[weight]
            direction = of_outputs @ gradient @ of_inputs
            if bias is not None:
                found[bias] = direction[:, -1].contiguous()
                direction = direction[:, :-1]
            found[weight] = direction.reshape(weight.shape)
        return found

    def _move(self, p: nn.Parameter, direction: Tensor | None, group: dict[str, Any]) -> None:
        assert p.grad is not None
        change = p.grad + group["weight_decay"] * p if direction is None else direction
        if group["momentum"]:
            state = self.state[p]
            buffer = state.setdefault("momentum_buffer", torch.zeros_like(p))
            change = buffer.mul_(group["momentum"]).add_(change)
        p.sub_(change, alpha=group["lr"])


def _is_plain(layer: Layer) -> bool:
    """Whether it is a matrix times an input, or times patches of all channels that are padded with zeros."""
    if isinstance(layer, nn.Linear):
        return True
    return layer.groups == 1 and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
