"""The little that data modules ask of a trainer, without one: a clock, ranks, and a device."""

from types import SimpleNamespace

import torch


def attach(data, step=0, ranks=1, rank=0, accumulate=1):
    """Give a data module a stand-in for its trainer; returns the data module."""
    data.trainer = SimpleNamespace(
        global_step=step,
        accumulate_grad_batches=accumulate,
        world_size=ranks,
        global_rank=rank,
        val_check_interval=1.0,
        check_val_every_n_epoch=1,
        limit_train_batches=1.0,
        limit_val_batches=1.0,
        limit_test_batches=1.0,
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
    )
    return data
