"""The learning rate of each step of a run, from its config alone."""

import importlib
from typing import Any

from sgdlit.config.keys import value_at
from sgdlit.foundations.errors import UserError

_KNOWN = ("torch.optim.lr_scheduler.", "sgdlit.")  # nothing else that a folder names is imported


def learning_rates(config: dict[str, Any], steps: int) -> list[float]:
    """The learning rates of the steps 0 … ``steps`` − 1.

    Args:
        config: of the run, as :func:`sgdlit.load_run` gives it.
        steps: how many.

    Raises:
        UserError: a schedule that is neither torch's nor sgdlit's, or that follows what the run measures.
    """
    import torch

    lr, given = value_at(config, "model.optimizer.lr"), value_at(config, "model.scheduler")
    if lr is None:
        raise UserError("model.optimizer.lr: missing, so the rates of the run are not known")
    if given is None:
        return [float(lr)] * steps
    path, arguments = given["class_path"], given.get("init_args") or {}
    if not path.startswith(_KNOWN) or "monitor" in arguments:
        raise UserError(f"model.scheduler: the rates of {path} are not known without the run")
    module, _, name = path.rpartition(".")
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=lr)
    schedule, lrs = vars(importlib.import_module(module))[name](optimizer, **arguments), []
    for _ in range(steps):
        lrs.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        schedule.step()
    return lrs
