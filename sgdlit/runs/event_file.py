"""TensorBoard's event file, open from the first event to the last, written by the thread that trains."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tensorboard.compat.proto.event_pb2 import Event
    from torch.utils.tensorboard import SummaryWriter

_SECONDS = 1.0  # after which an event brings those before it, and itself, to the file


class EventFile:
    """Goes on with an event file of TensorBoard's own writer.

    That one opens and closes the file for every event, on a thread that takes Python's lock from the training
    meanwhile.

    Args:
        path: of the file, which has its first event.

    Raises:
        OSError: in every method; it names the file.
    """

    def __init__(self, path: str) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._path = path
        self._file = open(path, "ab")  # noqa: SIM115 - closed by close()
        self._records = RecordWriter(self._file)
        self._flushed = time.monotonic()

    def add_event(self, event: "Event") -> None:
        """Write an event, which is in the file at the latest with the first one a second later."""
        with self._named():
            self._records.write(event.SerializeToString())
        if time.monotonic() - self._flushed > _SECONDS:
            self.flush()

    def flush(self) -> None:
        """Bring all events to the file."""
        with self._named():
            self._file.flush()
        self._flushed = time.monotonic()

    def close(self) -> None:
        """Write no more."""
        with self._named():
            self._file.close()

    @contextmanager
    def _named(self) -> Iterator[None]:
        """An open file does not tell its name with an error."""
        try:
            yield
        except OSError as error:
            raise OSError(error.errno, f"events not written ({error.strerror})", self._path) from error


def stays_open(experiment: "SummaryWriter") -> None:
    """Let a writer keep its file open, see :class:`EventFile`."""
    writer = experiment._get_file_writer()
    if not isinstance(writer.event_writer, EventFile):
        before = writer.event_writer
        before.close()
        writer.event_writer = EventFile(before._file_name)
