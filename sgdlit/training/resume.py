"""Which checkpoint may a run go on from? One that is whole, carries no code, and belongs to the same run.

All of it is looked at before anything in the folder of the run is touched.
"""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, LightningModule

from sgdlit.foundations.errors import UserError
from sgdlit.runs.checkpoint_files import PARTS, PARTS_TO_GO_ON, check_same_parameters, load_checkpoint
from sgdlit.training.module import Training
from sgdlit.training.phases import Phases


def read_checkpoint(path: Path, model: torch.nn.Module, to_go_on: bool) -> dict[str, Any]:
    """The content of a checkpoint that fits the model; no code in it is run.

    Args:
        path: the file.
        model: the module that is to take its parameters.
        to_go_on: whether training is to go on from it, which also needs the optimizer's state.

    Raises:
        UserError: the file is missing, damaged, not whole, carries code, or belongs to another model.
    """
    content = load_checkpoint(path, PARTS_TO_GO_ON if to_go_on else PARTS)
    check_same_parameters(path, content["state_dict"], model.state_dict())
    return content


def check_same_run(content: dict[str, Any], model: LightningModule, data: LightningDataModule | None) -> None:
    """Refuse to go on with other data or another optimizer, which Lightning would notice late or not at all.

    Only parts that can tell are asked: data with a ``state_dict`` of its own, and modules of sgdlit.

    Raises:
        UserError: naming what differs.
    """
    if data is not None and type(data).state_dict is not LightningDataModule.state_dict:
        name = type(data).__qualname__
        if name not in content:
            raise UserError(
                f"ckpt_path: the checkpoint was made with other data than {name}, and cannot be resumed"
            )
        data.load_state_dict(content[name])
    if isinstance(model, Training):
        _check_same_optimizers(content, model)


def _check_same_optimizers(content: dict[str, Any], model: Training) -> None:
    """Optimizers with the same settings as at the beginning, and as many schedules."""
    kept, schedules = content.get("sgdlit_optimizers", []), content["lr_schedulers"]
    expected = [member for member in model.members if member.scheduler is not None]
    if len(kept) != len(model.members) or len(schedules) != len(expected):
        raise UserError(
            f"ckpt_path: the checkpoint holds {len(kept)} optimizers and {len(schedules)} schedules, the run "
            f"has {len(model.members)} and {len(expected)}; allowed: a checkpoint of this run"
        )
    for member, state in zip(expected, schedules, strict=True):
        if isinstance(member.scheduler, Phases):
            _check_same_length(member.scheduler, state)
    for member, groups in zip(model.members, kept, strict=True):
        own = member.optimizer  # built if it was not yet, which fills in the settings
        _check_same_groups(member.settings, groups)
        for here, there in zip(member.settings, groups, strict=False):
            _check_same_settings(here, there, type(own).__name__)


def _check_same_length(schedule: Phases, state: dict[str, Any]) -> None:
    """The length of the run, where a schedule follows from it."""
    there = state.get("run_length")
    if schedule.run_length != there:
        raise UserError(
            f"trainer.max_steps: the run has {schedule.run_length} steps here, {there} in the checkpoint, "
            f"and model.scheduler follows from that; allowed: {there}, or phases in steps from the beginning"
        )


def _check_same_groups(here: list[dict[str, Any]], there: list[dict[str, Any]]) -> None:
    """The same parameters in the same groups of an optimizer."""
    own, kept = ([settings.get("parameters") for settings in groups] for groups in (here, there))
    if own != kept:
        raise UserError(
            "model.groups: the checkpoint was made with other groups of parameters; a resumed run goes on "
            "with those that it had"
        )


def _check_same_settings(here: dict[str, Any], there: dict[str, Any], name: str) -> None:
    if not here.keys() <= there.keys():
        raise UserError(
            f"ckpt_path: the checkpoint was made with another optimizer than {name} and cannot be resumed: "
            f"it has no {min(here.keys() - there.keys())!r}; allowed: its own optimizer"
        )
    for setting, value in here.items():
        if value != there[setting]:
            raise UserError(
                f"model.optimizer.{setting}: {value} here, {there[setting]} in the checkpoint; "
                "a resumed run goes on with the optimizer that it had"
            )
