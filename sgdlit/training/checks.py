"""What a training cannot do: found before it leaves a trace, and said with key, value and what is allowed."""

import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from jsonargparse import Namespace
from lightning.pytorch import Trainer
from torch import Tensor
from torch.optim import LBFGS, Optimizer, SparseAdam
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR, ReduceLROnPlateau

from sgdlit.algorithms import Member
from sgdlit.algorithms.engines import check_engine
from sgdlit.algorithms.engines.group import engine_not_possible
from sgdlit.algorithms.engines.support import SUPPORT
from sgdlit.algorithms.mixing import Mixing
from sgdlit.algorithms.transforms.base import check_separable
from sgdlit.algorithms.watching import WatchesNetwork
from sgdlit.config.options import find_class
from sgdlit.data.keyed_data import KeyedData
from sgdlit.data.members import AsOneProcess, MembersData, data_of
from sgdlit.data.orders import LearnedOrder
from sgdlit.foundations.errors import UserError
from sgdlit.objectives.objective import allowed_sizes
from sgdlit.training.clock import planned_steps
from sgdlit.training.own_metrics import Metrics, check_metrics
from sgdlit.training.phases import refuse_composed

if TYPE_CHECKING:
    from sgdlit.training.module import Training

_TRIED = 16  # examples on which metrics are tried


@runtime_checkable
class ChecksRun(Protocol):
    """A callback that refuses a run before it leaves a trace."""

    def check(self, trainer: Trainer, module: Any, datamodule: Any) -> None:
        """Refuse what it cannot go with.

        Raises:
            UserError: naming the key, its value and what is allowed.
        """


def check_members(training: "Training", trainer: Trainer, datamodule: Any) -> None:
    """Everything about members, data and trainer that does not go together.

    Raises:
        UserError: naming the key, its value and what is allowed.
    """
    members, mixed = training.members, trainer.precision in ("16-mixed", "bf16-mixed")
    check_engine(training.engine, members, mixed)
    if not training.several:
        _check_member(members[0], trainer, datamodule)
        _check_metrics(training.metrics[0], members[0], datamodule)
        _check_engine_on_data(training, trainer, datamodule)
        return
    assert isinstance(datamodule, MembersData), "several runs are built with the data of each"
    for k, (member, data) in enumerate(zip(members, datamodule.members, strict=True)):
        try:
            _check_member(member, AsOneProcess(trainer), data)
            _check_metrics(training.metrics[k], member, data)
        except UserError as error:
            raise UserError(f"{error}\n({_whose(k, member)})") from error
    _check_engine_on_data(training, trainer, datamodule)
    schedules = {type(member.scheduler).__name__ for member in members}
    if len(schedules) > 1 and "NoneType" in schedules:
        raise UserError("model.scheduler: some members have one and others do not; allowed: all or none")


def _check_engine_on_data(training: "Training", trainer: Trainer, datamodule: Any) -> None:
    """Refuse an engine that was asked for by name and cannot take the steps of this data."""
    name, members = training.engine, training.members
    if name in ("auto", "loop") or not isinstance(datamodule, KeyedData | MembersData):
        return
    if SUPPORT[name].alike and trainer.precision in ("16-true", "bf16-true"):
        raise engine_not_possible(name, "the parameters are of half precision")
    for data in data_of(datamodule):
        if data is not None:
            parts = [part.expand(max(data.step_sizes), *part.shape[1:]) for part in data.example()]
            inputs, targets = (part.unsqueeze(0).to(trainer.strategy.root_device) for part in parts)
            reason = SUPPORT[name].obstacle_in(members, inputs, targets)
            if reason is not None:
                raise engine_not_possible(name, reason)


def _check_member(member: Member, trainer: Any, datamodule: Any) -> None:
    if isinstance(datamodule, KeyedData):
        inputs, targets = datamodule.example()
        _check_example(member, inputs, targets)
        _check_dtype(member, trainer, inputs)
    limit, micro = trainer.limit_train_batches, trainer.accumulate_grad_batches
    if isinstance(limit, int) and limit % micro:
        raise UserError(
            f"trainer.limit_train_batches: {limit} ends in the middle of a step; allowed with "
            f"trainer.accumulate_grad_batches: {micro}: multiples of {micro}"
        )
    _check_transform(member, trainer, datamodule)
    if trainer.world_size > 1 and isinstance(member.optimizer, WatchesNetwork):
        raise UserError(
            f"trainer.devices: {type(member.optimizer).__name__} looks at the examples of a step; allowed: "
            "one process"
        )
    if not member.is_penalized:
        return
    if trainer.precision in ("16-mixed", "16-true"):
        raise UserError(
            f"trainer.precision: {trainer.precision} loses small gradients before they are squared; "
            "allowed with model.reg_strength above 0: 32-true, 64-true, bf16-mixed"
        )
    sizes = datamodule.step_sizes if isinstance(datamodule, KeyedData) else []
    _check_penalty_batch(member, trainer, sizes)
    member.objective.accept(member.network)


def _check_transform(member: Member, trainer: Any, datamodule: Any) -> None:
    """What cannot go with something that looks at the gradients of a step's examples."""
    transform = member.transform
    learns = isinstance(datamodule, KeyedData) and isinstance(datamodule.order, LearnedOrder)
    if transform is None and not learns:
        return
    key = "data.order" if transform is None else "model.transform"
    name = type(datamodule.order if transform is None else transform).__name__
    if transform is not None and member.is_penalized:
        raise UserError(
            f"model.transform: {name} is not possible with a regularizer; allowed: model.reg_strength: 0"
        )
    if trainer.accumulate_grad_batches * trainer.world_size > 1:
        raise UserError(
            f"{key}: {name} looks at all examples of a step; allowed: one process, "
            "trainer.accumulate_grad_batches: 1"
        )
    if trainer.precision not in ("32-true", "64-true", "32", "64", 32, 64):
        raise UserError(
            f"{key}: {name} is not possible with trainer.precision: {trainer.precision}; allowed: 32-true, "
            "64-true"
        )
    if transform is None or transform.needs_each:
        check_separable(member.network, name)


def check_optimizers(members: Sequence[Member]) -> None:
    """Build every optimizer and schedule, and advance the schedule, which some refuse only then.

    Raises:
        UserError: one that cannot be built.
    """
    for k, member in enumerate(members):
        try:
            _check_optimizer(member)
            _check_plateau(member)
            _advance_and_forget(member)
        except (ValueError, TypeError, RuntimeError) as error:
            cause: BaseException = error
            while cause.__cause__ is not None:
                cause = cause.__cause__
            whose = f"\n({_whose(k, member)})" if member.point else ""
            raise UserError(f"model.optimizer, model.scheduler: {cause}{whose}") from error


def _check_optimizer(member: Member) -> None:
    if isinstance(member.optimizer, LBFGS | SparseAdam):
        why = "sparse gradients" if isinstance(member.optimizer, SparseAdam) else "several losses per step"
        raise UserError(
            f"model.optimizer: {type(member.optimizer).__name__} needs {why}; allowed: an optimizer that "
            "takes one gradient per step, such as torch.optim.SGD or torch.optim.Adam"
        )
    if any(group.get("differentiable") for group in member.optimizer.param_groups):
        raise UserError(
            "model.optimizer.differentiable: true keeps the graph of all steps, and torch refuses it for "
            "parameters; allowed: false"
        )


def _advance_and_forget(member: Member) -> None:
    """Two steps of the schedule, unless it waits for evaluations; the member then begins again."""
    try:
        for _ in range(0 if isinstance(member.scheduler, ReduceLROnPlateau) else 2):
            member.advance_schedule()
    except ArithmeticError as error:
        raise ValueError(f"{type(member.scheduler).__name__} cannot be advanced: {error}") from None
    member.begin_again()


def check_schedules_last(members: Sequence[Member], trainer: Trainer, datamodule: Any) -> None:
    """Refuse a schedule that ends before the run.

    Raises:
        UserError: naming both numbers of steps.
    """
    each = data_of(datamodule) if isinstance(datamodule, KeyedData | MembersData) else []
    for member, data in zip(members, each, strict=False):
        if isinstance(member.scheduler, OneCycleLR):
            there, needed = member.scheduler.total_steps, planned_steps(trainer, data.steps_per_epoch)
            if needed > there:
                raise UserError(
                    f"model.scheduler: OneCycleLR has a rate for {there} steps of {needed}; allowed: "
                    f"model.scheduler.total_steps: {needed} or more"
                )


def _check_plateau(member: Member) -> None:
    if isinstance(member.scheduler, ReduceLROnPlateau) and "monitor" not in vars(member.scheduler):
        raise UserError(
            "model.scheduler: torch.optim.lr_scheduler.ReduceLROnPlateau does not say what it waits for; "
            "allowed: lightning.pytorch.cli.ReduceLROnPlateau, with model.scheduler.monitor"
        )


def _check_penalty_batch(member: Member, trainer: Any, step_sizes: list[int]) -> None:
    size = member.objective.penalty_batch_size
    micro, ranks = trainer.accumulate_grad_batches, trainer.world_size
    if micro > 1 and size is None:
        raise UserError(
            f"trainer.accumulate_grad_batches: {micro} never shows the whole batch, so its gradient norm "
            "cannot be penalised; allowed: 1, or model.objective.penalty_batch_size up to a micro-batch"
        )
    for batch in step_sizes:
        local = batch // micro // ranks
        allowed = allowed_sizes(local, ranks)
        if (local * ranks if size is None else size) not in allowed:
            raise UserError(
                f"model.objective.penalty_batch_size: {size} does not fit a batch of {batch} examples; "
                f"allowed: {', '.join(map(str, allowed))}"
            )


def _check_example(member: Member, inputs: Tensor, targets: Tensor) -> None:
    """One example through network and loss."""
    network = member.network
    dtype = next((p.dtype for p in network.parameters()), inputs.dtype)
    training = network.training
    try:
        with torch.no_grad(), _nothing_compiled():
            network.eval()
            outputs = member.outputs(inputs.to(dtype) if inputs.is_floating_point() else inputs)
    except (UserError, RuntimeError, ValueError) as error:
        shape = tuple(inputs.shape[1:])
        raise UserError(f"model.network: does not take inputs of shape {shape}: {error}") from error
    finally:
        network.train(training)
    try:
        member.loss.check_targets(outputs, targets)
    except UserError as error:
        raise UserError(f"model.loss, model.network: {error}") from error
    if member.transform is not None:
        member.transform.check(outputs, targets)


def _check_dtype(member: Member, trainer: Any, inputs: Tensor) -> None:
    """One example of float64, as the precision leaves it, through a network that takes its shape."""
    network, plugin = member.network, trainer.precision_plugin
    taken = plugin.convert_input(inputs)
    dtype = next((p.dtype for p in network.parameters()), taken.dtype)
    if taken.dtype != torch.float64 or dtype == torch.float64 or trainer.precision == "64-true":
        return
    training = network.training
    try:
        with torch.no_grad(), _nothing_compiled(), plugin.forward_context():
            network.eval()
            member.outputs(taken)
    except RuntimeError as error:
        raise UserError(
            f"data.dtype: float64 is not possible with trainer.precision: {trainer.precision}, in which "
            f"{type(network).__name__} does not take it ({error}); allowed: float32, or "
            "trainer.precision: 64-true"
        ) from error
    finally:
        network.train(training)


def _check_metrics(metrics: Metrics, member: Member, datamodule: Any) -> None:
    """Some training examples through network and metrics."""
    if not metrics or not isinstance(datamodule, KeyedData):
        return
    size = datamodule.training_size
    count = _TRIED if size is None else min(_TRIED, size)
    inputs, targets = datamodule.chosen(datamodule.choose(count, "metrics"), torch.device("cpu"))
    dtype = next((p.dtype for p in member.network.parameters()), inputs.dtype)
    training = member.network.training
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
        member.network.eval()
        outputs = member.outputs(inputs.to(dtype) if inputs.is_floating_point() else inputs)
        member.network.train(training)
    check_metrics(metrics, member.loss, outputs, targets)


def _nothing_compiled() -> AbstractContextManager:
    """Nothing is compiled in it. Importing the compiler takes a second, and who compiled something has."""
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()


# Runs that train together


def check_shapes(members: Sequence[Member]) -> None:
    """Refuse networks of different shapes.

    Raises:
        UserError: naming the first difference.
    """
    shapes = [{n: tuple(p.shape) for n, p in m.network.named_parameters()} for m in members]
    for k, own in enumerate(shapes):
        if own != shapes[0]:
            name = next(n for n in {**own, **shapes[0]} if own.get(n) != shapes[0].get(n))
            raise UserError(
                f"ensemble: the networks differ in {name}: {shapes[0].get(name, 'none')} of member 0, "
                f"{own.get(name, 'none')} of member {k} ({in_words(members[k].point)}); allowed: networks of "
                "equal shape, others in ensembles of their own"
            )


def check_mixing(mixing: Mixing, members: Sequence[Member], trainer: Trainer) -> None:
    """Refuse members that cannot exchange what the mixing asks for.

    Raises:
        UserError: naming the key, its value and what is allowed.
    """
    if trainer.world_size > 1:
        raise UserError(
            f"trainer.devices: {trainer.world_size} processes share out members that exchange parameters; "
            "allowed with a mixing: 1"
        )
    mixing.check(members)


def refuse_single_steps(reason: str | None) -> None:
    """Runs that train together take many steps per call.

    Raises:
        UserError: something in the run asks for one.
    """
    if reason is not None:
        raise UserError(f"{reason} is not possible with an ensemble, which takes many steps per call")


def share(members: int, trainer: Trainer) -> slice:
    """The members that this rank trains.

    Raises:
        UserError: more ranks than members.
    """
    ranks, rank = trainer.world_size, trainer.global_rank
    if ranks > members:
        raise UserError(
            f"trainer.devices: {ranks} processes for {members} members; allowed: at most one for each"
        )
    return slice(members * rank // ranks, members * (rank + 1) // ranks)


def _whose(k: int, member: Member) -> str:
    return f"member {k} of the ensemble: {in_words(member.point)}"


def in_words(point: Mapping[str, Any]) -> str:
    """What distinguishes a member, for a message."""
    return ", ".join(f"{key}: {value}" for key, value in point.items())


def check_classes(model: Any) -> None:
    """Refuse an optimizer or a schedule that is none, before anything is called.

    Args:
        model: the section of a config, as it was parsed.

    Raises:
        UserError: naming the key, the class and what is allowed.
    """
    given = (model.get("init_args") if model else None) or {}
    for key, bases in (("optimizer", (Optimizer,)), ("scheduler", (LRScheduler, ReduceLROnPlateau))):
        value = given.get(key)
        path = value.get("class_path") if isinstance(value, Namespace) else value
        if not isinstance(path, str):  # the class itself, which is the default, or none
            continue
        if key == "scheduler":
            refuse_composed(path)
        found = find_class(path, bases)
        if found is None or not issubclass(found, bases):
            allowed = " or ".join(base.__name__ for base in bases)
            raise UserError(f"model.{key}: {path!r} is not allowed; allowed: a subclass of {allowed}")
