"""Modules of a finished run, built anew from its config: for a notebook, without the command line."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LightningArgumentParser

from sgdlit.config.axes import Point, apply, namespace
from sgdlit.config.options import Option, find_class
from sgdlit.config.parsing import call_nothing_while_parsing
from sgdlit.foundations.errors import UserError
from sgdlit.foundations.generators import kept
from sgdlit.runs.checkpoint_files import check_same_parameters, load_checkpoint
from sgdlit.runs.reading import load_run
from sgdlit.training.checks import check_classes


def trained_module(path: Path, kind: Any) -> Any:
    """The module of a run with its trained weights, see ``Training.load_from_checkpoint``.

    Args:
        path: of a checkpoint in the folder of a run, or of that folder.
        kind: the class of the module.
    """
    run = load_run(path if path.is_dir() else path.parent.parent)
    content = run.checkpoint() if path.is_dir() else load_checkpoint(path, key="checkpoint_path")
    points = [{}] if run.alone else [member.point for member in run.members]
    parts = rebuilt_modules(run.config, points, kind)
    module = parts[0] if run.alone else kind.joined(parts, points)
    state = content["state_dict"]
    check_same_parameters(path, state, module.state_dict())
    dtype = next((value.dtype for value in state.values() if value.is_floating_point()), None)
    module.to(dtype=dtype).load_state_dict(state)
    return module


def rebuilt_modules(config: dict[str, Any], points: Sequence[Point], kind: type) -> list[Any]:
    """The module of each member of a run, with fresh weights; of a run alone there is one point, ``{}``.

    Args:
        config: of the run.
        points: what distinguishes each member from it.
        kind: the class of which modules must be.

    Raises:
        UserError: the config names a module of another kind, or one that cannot be built.
    """
    given = config.get("model")
    path = given.get("class_path") if isinstance(given, dict) else None
    cls = find_class(path, [LightningModule]) if isinstance(path, str) else None
    if cls is None or not issubclass(cls, kind):
        raise UserError(f"model: {path!r} is not allowed; allowed: {kind.__module__}.{kind.__qualname__}")
    call_nothing_while_parsing()
    parser = LightningArgumentParser(exit_on_error=False)
    parser.add_lightning_class_args(LightningModule, "model", subclass_mode=True)
    instantiate = getattr(parser, "instantiate", parser.instantiate_classes)  # its name since 4.49
    options = {"model": Option(LightningModule)}
    found = []
    for point in points:
        own = {key: value for key, value in point.items() if f"{key}.".startswith("model.")}
        try:
            parsed = parser.parse_object(apply(namespace({"model": given}), own, options).as_dict())
            check_classes(parsed.model)
            with kept([]):  # the random numbers of the caller stay as they are
                found.append(instantiate(parsed).model)
        except (ArgumentError, TypeError, ValueError) as error:
            raise UserError(f"model: {path} cannot be built: {error}") from error
    return found
