"""TensorBoard's charts of a run, without zeros, their order, and its line in the table of hyper-parameters.

TensorBoard sorts charts by name. Its tab of custom scalars has them in the order of :func:`layout`.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import TensorBoardLogger

from sgdlit.runs.bursts import Bursts
from sgdlit.runs.event_file import stays_open

if TYPE_CHECKING:
    from tensorboard.compat.proto.summary_pb2 import Summary

_FRONT = {"test and validation": ("test", "val"), "training": ("train", "train_set")}
_FIRST = ("accuracy", "loss")


class Charts(TensorBoardLogger):
    """Lightning's logger, which leaves out what has been 0 so far, such as λ of a plain run.

    As soon as a number is another one its chart begins, with its first and its latest 0. All numbers of a
    step are one event, as an event costs more than a number. A run that goes on has the charts that it would
    have had without the stop: a checkpoint keeps ``state``.

    Args:
        folder: of the run.
        settings: what the table of hyper-parameters says of the run.
        purge: the first step that a resumed run writes anew.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], purge: int | None = None) -> None:
        super().__init__(folder.parent, "", folder.name, purge_step=purge)
        self.hparams.update(settings)
        self._zeros: dict[str, list[int]] = {}  # first and latest step, by name
        self._shown: set[str] = set()
        self._bursts = Bursts(self._show)
        self._in_order: dict[str, dict[str, list[Any]]] = {}  # the layout that was written last

    @property
    def state(self) -> dict[str, Any]:
        """What is known of the numbers so far, for :meth:`restore`."""
        self._bursts.write_all()
        return {"shown": sorted(self._shown), "zeros": {name: list(at) for name, at in self._zeros.items()}}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on after what was written before; an empty state is that of a new run."""
        self._shown = set(state.get("shown", ()))
        self._zeros = {name: list(at) for name, at in state.get("zeros", {}).items()}

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self._bursts.add({name: float(value) for name, value in metrics.items()}, step)

    def _show(self, numbers: Mapping[str, float], step: int | None) -> None:
        at = 0 if step is None else step
        begun = {name: value for name, value in numbers.items() if name in self._shown or value != 0}
        for name in numbers.keys() - begun.keys():
            self._zeros[name] = [*self._zeros.get(name, [])[:1], at]
        for name in begun.keys() & self._zeros.keys():
            for zero in dict.fromkeys(self._zeros.pop(name)):
                self._write({name: 0.0}, zero)
        self._shown |= begun.keys()
        if begun:
            self._write(begun, at)
        if any(name.startswith(("test/", "val/")) for name in begun):
            self._order()

    def _write(self, numbers: Mapping[str, float], step: int) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=name, simple_value=value) for name, value in numbers.items()]
        stays_open(self.experiment)
        self.experiment._get_file_writer().add_summary(Summary(value=values), step)

    @rank_zero_only
    def bring_to_the_file(self) -> None:
        """All events so far: before a checkpoint after which no run writes them again."""
        self._bursts.write_all()
        if self._shown:
            self.experiment.flush()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        self._bursts.write_all()
        super().finalize(status)

    @rank_zero_only
    def end(self, reached: Mapping[str, float]) -> None:
        """Write the line in the table of hyper-parameters, with these metrics of those that have a chart."""
        self._bursts.write_all()
        self._order()
        writer = self.experiment._get_file_writer()
        for summary in table_line(self.hparams, [name for name in reached if name in self._shown]):
            writer.add_summary(summary)
        self.experiment.flush()

    def _order(self) -> None:
        """Write the order of the charts that there are, where it has changed: TensorBoard takes the last."""
        order = layout(self._shown)
        if order != self._in_order:
            self.experiment.add_custom_scalars(order)
            self._in_order = order


def layout(names: Iterable[str]) -> dict[str, dict[str, list[Any]]]:
    """Charts in the order in which they are looked at: what was reached, training, then the others.

    Accuracy and loss come first. Spreads over members and numbers of single layers are left out.
    The charts of a name are the same for all runs, so that TensorBoard joins those of several.

    Args:
        names: of what has a chart of its own.

    Returns:
        Of each category its charts, as ``SummaryWriter.add_custom_scalars`` takes them.
    """
    found: dict[str, dict[str, list[Any]]] = {title: {} for title in _FRONT}
    shown = (name.split("/") for name in names if name.count("/") == 1 and not name.endswith("_spread"))
    for part, what in sorted(shown, key=lambda of: (of[1] not in _FIRST, of[1], of[0])):
        title = next((title for title, parts in _FRONT.items() if part in parts), part)
        tags = f"^({'|'.join(_FRONT.get(title, (part,)))})/{re.escape(what)}$"
        found.setdefault(title, {})[what] = ["Multiline", [tags]]
    others = sorted(title for title in found if title not in _FRONT)
    return {title: found[title] for title in [*_FRONT, *others] if found[title]}


def table_line(settings: Mapping[str, Any], metrics: list[str]) -> "tuple[Summary, ...]":
    """What makes a run a line of TensorBoard's table of hyper-parameters.

    Args:
        settings: its columns; what is no number or text is written as text.
        metrics: the charts whose last values are columns, too.
    """
    from torch.utils.tensorboard.summary import hparams

    plain = {k: v if isinstance(v, bool | int | float | str) else str(v) for k, v in settings.items()}
    return hparams(plain, dict.fromkeys(metrics, 0.0))
