"""Numbers and names of a run that Lightning would take, and stumble over later."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgdlit.foundations.errors import UserError

if TYPE_CHECKING:
    from jsonargparse import Namespace


_LEAST = {
    "accumulate_grad_batches": 1,
    "log_every_n_steps": 1,
    "num_nodes": 1,
    "gradient_clip_val": 0,
    "min_steps": 0,
    "min_epochs": 0,
    "fast_dev_run": 0,
    "reload_dataloaders_every_n_epochs": 0,
    "num_sanity_val_steps": -1,
}
_PARTS = (
    "limit_train_batches",
    "limit_val_batches",
    "limit_test_batches",
    "limit_predict_batches",
    "overfit_batches",
)
_LONGEST_NAME = 200  # bytes of a file's name, of the 255 that file systems have, with room for what is added


def check_values(config: "Namespace") -> None:
    """Refuse what a run cannot have.

    Raises:
        UserError: naming the key, its value and what is allowed.
    """
    from jsonargparse import Namespace

    for section in ("trainer", "checkpoints"):
        if not isinstance(config.get(section, Namespace()), Namespace | Mapping):
            raise UserError(f"{section}: {config[section]!r} is not allowed; allowed: options, KEY: VALUE")
    trainer, name = config["trainer"], config["name"]
    for key, least in _LEAST.items():
        if trainer[key] is not None and trainer[key] < least:
            raise UserError(f"trainer.{key}: {trainer[key]} is not allowed; allowed: {least} or more")
    for key in _PARTS:
        part = trainer[key]
        if part is not None and (part < 0 or (isinstance(part, float) and part > 1)):
            raise UserError(
                f"trainer.{key}: {part} is not allowed; allowed: a number of batches, or a part between "
                "0.0 and 1.0"
            )
    interval = trainer["val_check_interval"]
    if interval is not None and (not isinstance(interval, int | float) or interval <= 0):
        raise UserError(
            f"trainer.val_check_interval: {interval} is not allowed; allowed: 1 or more (batches), or a part "
            "of an epoch between 0.0 and 1.0"
        )
    _check_lengths(trainer)
    _check_rate(_rate_of(config.get("model")))
    _check_seeds(config)
    if config.get("ensemble"):
        from sgdlit.config.axes import expand

        for point in expand(config["ensemble"], "ensemble"):
            _check_seeds(point)
            _check_rate(point.get("model.optimizer.lr"))
    check_run_name(name)


def _check_lengths(trainer: "Mapping[str, Any] | Namespace") -> None:
    """Refuse a run without a step, and a cadence of nothing."""
    for key in ("max_steps", "max_epochs", "limit_train_batches", "check_val_every_n_epoch"):
        value, endless = trainer[key], ", or -1 for no limit" if key.startswith("max") else ""
        if value is not None and (value == 0 or (endless and value < -1)):
            raise UserError(f"trainer.{key}: {value} is not allowed; allowed: 1 or more{endless}")
    for unit in ("steps", "epochs"):
        least, most = trainer[f"min_{unit}"], trainer[f"max_{unit}"]
        if least is not None and most not in (None, -1) and least > most:
            raise UserError(
                f"trainer.min_{unit}: {least} is more than trainer.max_{unit}: {most}; allowed: up to {most}"
            )


def _rate_of(model: Any) -> Any:
    """What stands at model.optimizer.lr."""
    from jsonargparse import Namespace

    arguments: Any = model
    for key in ("init_args", "optimizer", "init_args"):
        arguments = arguments.get(key) if isinstance(arguments, Namespace | Mapping) else None
    return arguments.get("lr") if isinstance(arguments, Namespace | Mapping) else None


def _check_rate(rate: Any) -> None:
    """Refuse a learning rate below 0, at which torch names no key, and one that is no number."""
    if isinstance(rate, int | float) and not 0 <= rate < math.inf:
        raise UserError(f"model.optimizer.lr: {rate} is not allowed; allowed: 0 or more")


def check_run_name(name: str) -> None:
    """Refuse what would be a folder elsewhere than in the folder of runs, or is no name.

    Raises:
        UserError: naming it.
    """
    bad = not isinstance(name, str) or not name.strip() or not name.isprintable()
    if bad or Path(name).is_absolute() or ".." in Path(name).parts:
        raise UserError(f"name: {name!r} is not allowed; allowed: the name of a folder to be made in logs")
    if any(len(part.encode()) > _LONGEST_NAME for part in Path(name).parts):
        raise UserError(f"name: {name[:20]!r}… is too long; allowed: {_LONGEST_NAME} bytes")


def _check_seeds(settings: "Mapping[str, Any] | Namespace") -> None:
    """Refuse whole numbers and truth values that are no seed; what is neither is refused by its type."""
    for key in ("seed_everything", "init_seed"):
        seed = settings.get(key)
        if isinstance(seed, int) and (isinstance(seed, bool) or not 0 <= seed < 2**32):
            raise UserError(f"{key}: {seed} is not allowed; allowed: 0 to {2**32 - 1}")
