"""Which seed decides what in a run: its data, its initial parameters, and what its transform draws."""

import torch
from jsonargparse import Namespace

from sgdlit.foundations.philox import derive_key


def seed_data(config: Namespace) -> None:
    """Give data without a seed of its own that of the run."""
    init_args = config.data.get("init_args") if config.get("data") else None
    if init_args is not None and "seed" in init_args and init_args.seed is None:
        init_args.seed = config.seed_everything


def seed_transform(config: Namespace) -> None:
    """Give a gradient transform that draws, and has no seed of its own, that of the run."""
    transform = config.model.get("init_args", {}).get("transform") if config.get("model") else None
    init_args = None if transform is None else transform.get("init_args")
    if init_args is not None and "seed" in init_args and init_args.seed is None:
        init_args.seed = config.seed_everything


def seed_initialisation(config: Namespace) -> None:
    """Seed torch's generator, from which a network draws its initial parameters when it is built."""
    seed = config.seed_everything if config.init_seed is None else config.init_seed
    torch.manual_seed(derive_key(seed, "initialisation").lo)
