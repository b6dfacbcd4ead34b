"""Who works on what: locks that the kernel drops when a process dies, so that none is ever left behind.

Processes that share something open one file and lock one byte of it for each part that they have taken
(POSIX advisory record locks; a child that a process forks does not have them). On a network file system these
need a lock service: NFS 4, or NFS 3 with lockd, not mounted with ``nolock`` or ``local_lock``; Lustre mounted
with ``flock``.
"""

import errno
import fcntl
import hashlib
import os
from pathlib import Path

from sgdlit.foundations.errors import UserError

_BYTES = 2**60  # the byte of a key is drawn from so many; two keys that share one would merely wait


class NoLocks(UserError):
    """The file system has no locks."""


class Locks:
    """The parts that this process has taken.

    POSIX drops all of a process's locks on a file as soon as the process closes it anywhere, so a process
    makes one of these per file, and nothing else opens that file.

    Raises:
        OSError: the file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        self._path = path

    def take(self, key: str) -> bool:
        """Lock a part; False where another process has it.

        Raises:
            NoLocks: the file system refuses.
        """
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _byte(key))
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                return False
            raise NoLocks(
                f"{self._path}: the file system refuses a lock ({error.strerror}), without which two "
                "processes could write the same; allowed: a local disk, or a network file system with locks"
            ) from error
        return True

    def drop(self, key: str) -> None:
        """Unlock a part."""
        fcntl.lockf(self._file, fcntl.LOCK_UN, 1, _byte(key))

    def note(self, text: str) -> None:
        """Replace what the file says, for people and other processes to read."""
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, text.encode(), 0)

    def noted(self) -> str:
        """What the file says."""
        return os.pread(self._file, 4096, 0).decode(errors="replace").strip()

    def close(self) -> None:
        """Unlock everything."""
        os.close(self._file)


def _byte(key: str) -> int:
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % _BYTES
