"""How long the measures of a run take, beside its steps and its evaluations."""

import time

import torch


class MeasureTime:
    """Seconds of training for measures, for evaluations, and in all."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._spent = {"measures": 0.0, "evaluations": 0.0}
        self._since = ("", 0.0)

    def begin(self, what: str, device: torch.device | None = None) -> None:
        """From here on; what steps have left to a GPU is waited for."""
        if device is not None and device.type == "cuda":
            torch.cuda.synchronize(device)
        self._since = (what, time.perf_counter())

    def end(self) -> None:
        what, since = self._since
        if what:
            self._spent[what] += time.perf_counter() - since
        self._since = ("", 0.0)

    @property
    def of_measures(self) -> float:
        """Seconds so far."""
        return self._spent["measures"]

    @property
    def share(self) -> float:
        """The time for measures over that of the steps."""
        whole = time.perf_counter() - self._start
        return self._spent["measures"] / max(whole - sum(self._spent.values()), 1e-9)
