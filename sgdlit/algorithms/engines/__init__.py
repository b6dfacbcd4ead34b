"""What takes the steps of a block, and how one is chosen.

An *engine* updates the parameters of some runs over the steps of a block. All of them compute the same, to
rounding:

- ``loop``: the plain PyTorch loop of one run, for any network, objective and optimizer;
- ``stacked``: the step of many runs, or of one, recorded as a graph of tensor operations, on a GPU called by
  a CUDA graph; ``compiled``: the recorded graph compiled;
- ``put_off``: matrix sensing with updates that are put off, for one run;
- ``rank_one``: the gradients of linear networks written out, for many runs at once;
- ``fused``: both in C, many steps in one call.

Each says in a ``Support`` what it can take. ``auto`` takes the fastest that fits the network, the optimizer,
the machine and the length of the run.
"""

from sgdlit.algorithms.engines.base import Look, Losses, Machine, Observation
from sgdlit.algorithms.engines.group import EngineGroup, EngineName, check_engine

__all__ = ["EngineGroup", "EngineName", "Look", "Losses", "Machine", "Observation", "check_engine"]
