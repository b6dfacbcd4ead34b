"""Which seed decides what in a run: its data, its initial parameters, what its network and transform draw."""

import os
from typing import Any

import torch
from jsonargparse import Namespace

from sgdlit.data.keyed_data import KeyedData
from sgdlit.data.members import MembersData, data_of
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


def network_seeds(datamodule: Any, members: int) -> list[int]:
    """What decides what each member's network draws: its data's seed; without keyed data, the process's."""
    if isinstance(datamodule, KeyedData | MembersData):
        return [data.seed for data in data_of(datamodule)]
    return [int(os.environ.get("PL_GLOBAL_SEED", "0"))] * members
