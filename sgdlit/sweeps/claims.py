"""Who runs which cell: locks that the kernel drops when a process dies, so that none is ever left behind.

Every process that works on a store opens one file and locks one byte of it for each run in flight (POSIX
advisory record locks). On a network file system these need a lock service: NFS 4, or NFS 3 with lockd, not
mounted with ``nolock`` or ``local_lock``; Lustre mounted with ``flock``.
"""

import errno
import fcntl
import hashlib
import os
from pathlib import Path

from sgdlit.foundations.errors import UserError

_BYTES = 2**60  # the byte of a cell is drawn from so many; two cells that share one would merely wait


class Claims:
    """The runs that this process has taken on.

    POSIX drops all of a process's locks on a file as soon as the process closes it anywhere, so a process
    makes one of these per store, and nothing else opens its file.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        self._path = path

    def take(self, key: str) -> bool:
        """Claim a run; False where another process has it.

        Raises:
            UserError: the file system has no locks.
        """
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _byte(key))
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                return False
            raise UserError(
                f"{self._path}: the file system refuses a lock ({error.strerror}), without which two "
                "processes could run one cell; allowed: a local disk, or a network file system with locks"
            ) from error
        return True

    def drop(self, key: str) -> None:
        """Give up a claim: the run is stored, or failed."""
        fcntl.lockf(self._file, fcntl.LOCK_UN, 1, _byte(key))

    def close(self) -> None:
        """Drop all claims."""
        os.close(self._file)


def _byte(key: str) -> int:
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % _BYTES
