"""How long the measures of a run take, beside its steps and its evaluations.

On a CPU their share is one of the processors' time of the process, of all its threads: neither others on
the machine nor a pause of the run change it. On a GPU the clock counts, since processors may sleep meanwhile.
"""

import time

import numpy as np
import torch


class MeasureTime:
    """Time of training for measures, for evaluations, and in all."""

    def __init__(self) -> None:
        self._start = _clocks()
        self._spent = {"measures": np.zeros(2), "evaluations": np.zeros(2)}
        self._since: tuple[str, np.ndarray] = ("", self._start)
        self._on_gpu = False

    def begin(self, what: str, device: torch.device | None = None) -> None:
        """From here on; what steps have left to a GPU is waited for."""
        if device is not None and device.type == "cuda":
            self._on_gpu = True
            torch.cuda.synchronize(device)
        self._since = (what, _clocks())

    def end(self) -> None:
        what, since = self._since
        if what:
            self._spent[what] += _clocks() - since
        self._since = ("", since)

    @property
    def of_measures(self) -> float:
        """Seconds so far, by the clock."""
        return float(self._spent["measures"][0])

    @property
    def share(self) -> float:
        """The time for measures over that of the steps: by the clock on a GPU, else by the processors."""
        whole, which = _clocks() - self._start, 0 if self._on_gpu else 1
        steps = float((whole - self._spent["measures"] - self._spent["evaluations"])[which])
        return float(self._spent["measures"][which]) / max(steps, 1e-9)


def _clocks() -> np.ndarray:
    """The clock, and the processors' time of this process, in seconds."""
    return np.array([time.perf_counter(), time.process_time()])
