"""Packages that only some uses need, and the extra of ours that installs each."""

_EXTRAS = {"pytorch_optimizer": "optimizers", "dog": "optimizers", "submitit": "slurm"}


def how_to_install(module: str | None) -> str | None:
    """What to type where ``module`` is missing, such as ``pip install sgdlit[optimizers]``; None of a module
    that no extra has."""
    extra = _EXTRAS.get((module or "").partition(".")[0])
    return None if extra is None else f"pip install sgdlit[{extra}]"
