"""What an engine can take: data about it, and the one place where runs are held against that data."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd

from sgdlit.algorithms import rules
from sgdlit.algorithms.engines.stretch import ROWS
from sgdlit.algorithms.member import Member
from sgdlit.models.layers import ClosedForm, ClosedFormNetwork
from sgdlit.objectives import ExactPenalty, HalfSquaredError


@dataclass(frozen=True)
class Support:
    """What an engine can take; the defaults take everything.

    Args:
        alike: only runs of one kind of network, loss and optimizer, whose optimizer has an update rule, with
            the exact penalty and networks that neither change their state nor draw random numbers.
        forms: only networks with one of these closed forms, no frozen parameters, half squared error and
            plain SGD.
        penalized: the closed forms that may be penalized.
        momentum: whether the optimizer may have momentum.
        mixed: whether networks may compute in another precision than that of their parameters.
        devices: kinds of device.
        dtypes: of parameters.
        few_examples: whether a step of matrices may see few examples only, see :func:`most_examples`.
        sensing: only matrix sensing with two matrices.
        puts_off: updates of matrix sensing are put off, which divides by what weight decay leaves.
        one_shape: only networks whose parameters have the same shapes; without a closed form, also whose
            modules and their plain attributes are the same: the network of the first stands for all.
    """

    alike: bool = False
    forms: tuple[ClosedForm, ...] | None = None
    penalized: tuple[ClosedForm, ...] = ()
    mixed: bool = True
    devices: tuple[str, ...] | None = None
    dtypes: tuple[torch.dtype, ...] | None = None
    few_examples: bool = False
    sensing: bool = False
    puts_off: bool = False
    one_shape: bool = False

    def obstacle(self, members: Sequence[Member], mixed: bool = False) -> str | None:
        """Why these runs cannot be taken, as far as can be said before there is a batch; None if they can."""
        if self.alike and (reason := _not_alike(members) or _not_pure(members)):
            return reason
        if self.one_shape and (reason := different_shapes(members)):
            return reason
        if self.one_shape and self.forms is None and (reason := _different_networks(members)):
            return reason
        if mixed and not self.mixed:
            return "the run computes in mixed precision"
        if self.forms is not None:
            reasons = (self._without_closed_form(member) for member in members)
            return next((reason for reason in reasons if reason), None)
        return None

    def obstacle_in(self, members: Sequence[Member], inputs: Tensor, targets: Tensor) -> str | None:
        """Why a step of these runs, which :meth:`obstacle` has nothing against, cannot be taken.

        Args:
            members: the runs.
            inputs: of a step, ``[K, B, ...]``.
            targets: as many.
        """
        if self.forms is not None and not (targets.is_floating_point() and inputs.dtype == targets.dtype):
            return "targets are classes"
        if self.devices is not None and inputs.device.type not in self.devices:
            return f"the run is not on a device of kind {' or '.join(self.devices)}"
        dtype = next(members[0].network.parameters()).dtype
        if self.dtypes is not None and dtype not in self.dtypes:
            return f"it does not compute in {dtype}"
        most = most_examples(members[0].network) if self.few_examples else None
        if most is not None and inputs.shape[1] > most:
            return f"a step sees more examples than {most}"
        return None

    def _without_closed_form(self, member: Member) -> str | None:
        form = closed_form(member.network)
        if self.forms is None or form not in self.forms:
            return f"{type(member.network).__name__} is no linear network"
        if self.sensing and not is_sensing(member.network):
            return "the network is not that of matrix sensing with two matrices"
        if any(not p.requires_grad for p in member.network.parameters()):
            return "some parameters are frozen"
        if not isinstance(member.loss, HalfSquaredError):
            return "the loss is not half_squared_error"
        group = member.optimizer.param_groups[0]
        if type(member.optimizer) is not torch.optim.SGD or group["momentum"]:
            return "the optimizer is not plain SGD"
        rates = {group["lr"], group.get("initial_lr", group["lr"])}
        if self.puts_off and is_sensing(member.network) and 1 in {r * group["weight_decay"] for r in rates}:
            return "learning rate times weight decay is 1, so that no weight is left"
        if form not in self.penalized and member.is_penalized:
            return "there is a regularizer"
        if member.objective.penalty_batch_size is not None:
            return "the penalty has a batch size of its own"
        return None


_FORMS: tuple[ClosedForm, ...] = ("chain", "bilinear", "diagonal")
SUPPORT = {
    "loop": Support(),
    "stacked": Support(alike=True, one_shape=True),
    "compiled": Support(alike=True, one_shape=True),
    "rank_one": Support(alike=True, forms=_FORMS, penalized=("diagonal",), mixed=False, one_shape=True),
    "put_off": Support(
        alike=True,
        forms=("bilinear",),
        mixed=False,
        devices=("cpu",),
        dtypes=(torch.float32, torch.float64),
        few_examples=True,
        sensing=True,
        puts_off=True,
    ),
    "fused": Support(
        alike=True,
        forms=_FORMS,
        penalized=("diagonal",),
        mixed=False,
        devices=("cpu",),
        dtypes=(torch.float32, torch.float64),
        few_examples=True,
        puts_off=True,
    ),
}
"""What each engine can take."""


def closed_form(network: nn.Module) -> ClosedForm | None:
    """Which closed form the gradient of a network has."""
    return network.closed_form if isinstance(network, ClosedFormNetwork) else None


def is_sensing(network: nn.Module) -> bool:
    """Whether a network is that of matrix sensing with two matrices, whose updates can be put off."""
    return closed_form(network) == "bilinear" and len(list(network.parameters())) == 2


def most_examples(network: nn.Module) -> int | None:
    """As many as the compiled step of a network takes; None for any number."""
    if is_sensing(network):
        return ROWS
    return None if closed_form(network) == "diagonal" else 1


def different_shapes(members: Sequence[Member]) -> str | None:
    """Which networks differ in the shapes of their parameters; None where all are alike."""
    first, *others = ([tuple(p.shape) for p in member.network.parameters()] for member in members)
    k = next((k for k, own in enumerate(others, 1) if own != first), None)
    return None if k is None else f"the parameters of members 0 and {k} have different shapes"


def _different_networks(members: Sequence[Member]) -> str | None:
    """Which networks may compute something else from the same parameters, as with other activations."""
    first, *others = (_what_computes(member.network) for member in members)
    k = next((k for k, own in enumerate(others, 1) if not same(own, first)), None)
    return None if k is None else f"the networks of members 0 and {k} differ in more than their parameters"


def _what_computes(network: nn.Module) -> list[tuple]:
    """Modules by name with what they hold beside parameters and buffers, and which parameters are trained."""
    of_any = vars(nn.Module())
    modules = [
        (name, type(m), {n: v for n, v in vars(m).items() if n not in of_any})
        for name, m in network.named_modules()
    ]
    return [*modules, *((name, p.requires_grad) for name, p in network.named_parameters())]


def same(a: Any, b: Any) -> bool:
    """Whether two settings are equal; of objects that cannot be compared, only one is the same as itself."""
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return isinstance(a, Tensor) and isinstance(b, Tensor) and a.shape == b.shape and torch.equal(a, b)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(value, b[name]) for name, value in a.items())
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    try:
        return a is b or bool(a == b)
    except (TypeError, ValueError, RuntimeError):  # such as arrays, of which each number is compared
        return False


def _not_alike(members: Sequence[Member]) -> str | None:
    reason = rules.obstacle([member.optimizer for member in members])
    if reason is not None:
        return reason
    for kind, things in (
        ("networks", [type(member.network).__name__ for member in members]),
        ("losses", [type(member.loss).__name__ for member in members]),
        ("reductions", [member.reduction for member in members]),
        ("batches of the penalty", [member.objective.penalty_batch_size for member in members]),
    ):
        if len(set(things)) > 1:
            return f"the runs have different {kind} ({', '.join(sorted(set(map(str, things))))})"
    k = next((k for k, m in enumerate(members) if not same(vars(m.loss), vars(members[0].loss))), None)
    return None if k is None else f"the losses of members 0 and {k} differ in what they hold"


def _not_pure(members: Sequence[Member]) -> str | None:
    """Why a step is no pure function of parameters, state and batch."""
    first = members[0]
    examined = next((m.looks_at_examples for m in members if m.looks_at_examples), None)
    if examined is not None:
        return examined
    if any(type(member.objective) is not ExactPenalty for member in members):
        return f"the objective is {type(first.objective).__name__}, not ExactPenalty"
    if any(p.dtype not in (torch.float32, torch.float64) for p in first.network.parameters()):
        return "the parameters are of half precision"
    for module in first.network.modules():
        if isinstance(module, _NormBase | _DropoutNd):
            return f"the network has {type(module).__name__}, which changes its state or draws random numbers"
        if module._compiled_call_impl is not None or "_orig_mod" in module._modules:
            return "torch.compile was applied to the network"
    return None
