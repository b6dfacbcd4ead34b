"""What is an update? The step of K ≥ 1 runs as pure torch, without Lightning, Trainer or config.

A :class:`Member` is one run as plain data. :class:`EngineGroup` takes the steps of some members over blocks
of batches, with the engine that fits them. ``rules`` holds the update rules of optimizers, one per file;
``engines`` what takes the steps; ``mixing`` what runs that touch each other exchange.
"""

from sgdlit.algorithms.engines import EngineGroup, EngineName, Look, Machine
from sgdlit.algorithms.member import Member

__all__ = ["EngineGroup", "EngineName", "Look", "Machine", "Member"]
