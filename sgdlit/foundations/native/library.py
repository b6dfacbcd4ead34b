"""Compiles a C source of this folder with the machine's compiler, once, and keeps the library for later runs.

It is kept in ``$SGDLIT_CACHE``, or ``sgdlit`` in the user's cache folder, under a name that tells the source,
the compiler, the flags and the processor: a home that several kinds of machines share holds one for each.
Beside it stands its digest: a file that was cut off or changed is built anew. What others may write is not
loaded, as ssh does not read keys that others may write.
"""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import threading
from contextlib import suppress
from functools import cache
from pathlib import Path

_FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-shared", "-fPIC")
_ROUNDING = {"philox": "-ffp-contract=off", "steps": "-ffp-contract=fast"}  # off: as operations on tensors do


_ONE_BUILDS = threading.Lock()


class NotBuilt(Exception):
    """There is no library, for the reason that it says."""


@cache
def compiler() -> str | None:
    """The C compiler to use: ``$CC``, or the first of cc, gcc, clang; None if there is none."""
    names = [os.environ["CC"]] if os.environ.get("CC") else ["cc", "gcc", "clang"]
    return next((path for path in map(shutil.which, names) if path), None)


@cache
def library_path(name: str, *defines: str) -> Path:
    """Where the library of ``name.c`` with these definitions is kept, whether or not it is there."""
    source = Path(__file__).with_name(f"{name}.c")
    facts = (source.read_bytes(), compiler(), _flags(name), defines, platform.machine(), _processor())
    digest = hashlib.blake2b(repr(facts).encode(), digest_size=12).hexdigest()
    base = os.environ.get("SGDLIT_CACHE") or Path.home() / ".cache" / "sgdlit"
    return Path(base) / f"{name}_{digest}.so"


def _flags(name: str) -> tuple[str, ...]:
    return *_FLAGS, _ROUNDING[name]


@cache
def library(name: str, *defines: str) -> ctypes.CDLL:
    """The compiled functions of ``name.c``.

    Args:
        name: of the source.
        defines: such as ``REAL=float``.

    Raises:
        NotBuilt: there is no compiler, or it failed.
    """
    with _ONE_BUILDS:
        return _library(name, *defines)


def build_ahead(*libraries: tuple[str, ...]) -> threading.Thread:
    """Begin to build what is not there yet, beside what this process does meanwhile.

    Args:
        libraries: name and definitions of each. :func:`library` waits for one that is being built, and says
            why where one could not be.

    Returns:
        What builds.
    """

    def build() -> None:
        for own in libraries:
            with suppress(NotBuilt, OSError):
                library(*own)

    builder = threading.Thread(target=build)
    builder.start()
    return builder


def _library(name: str, *defines: str) -> ctypes.CDLL:
    path = library_path(name, *defines)
    if _is_whole(path) and _is_own(path):
        return ctypes.CDLL(str(path))
    built_by = compiler()
    if built_by is None:
        raise NotBuilt("no C compiler was found (CC, cc, gcc, clang)")
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch) / path.name
        source = Path(__file__).with_name(f"{name}.c")
        command = [built_by, *_flags(name), *(f"-D{d}" for d in defines), str(source), "-o", str(made)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise NotBuilt(f"{' '.join(command)} failed: {done.stderr.strip().splitlines()[-1:]}")
        return ctypes.CDLL(str(_keep(made, path)))


def _keep(made: Path, path: Path) -> Path:
    """Put the library where later runs find it; where that cannot be written, it serves this run alone."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        for target, content in ((path, made.read_bytes()), (_digest_path(path), _digest(made).encode())):
            partial = target.with_name(f".{target.name}.{os.getpid()}")
            partial.unlink(missing_ok=True)
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            os.replace(partial, target)
    except OSError:
        return made
    return path if _is_own(path) else made


def _digest_path(path: Path) -> Path:
    return path.with_suffix(".digest")


def _digest(path: Path) -> str:
    return hashlib.blake2b(path.read_bytes()).hexdigest()


def _is_whole(path: Path) -> bool:
    """Whether the library is as it was built."""
    try:
        return _digest_path(path).read_text() == _digest(path)
    except (OSError, UnicodeDecodeError):
        return False


def _is_own(path: Path) -> bool:
    """Whether library and folder belong to this user, and nobody else may write them."""
    found = [each.stat() for each in (path, path.parent)]
    return all(own.st_uid == os.getuid() and not own.st_mode & 0o022 for own in found)


def _processor() -> str:
    """What ``-march=native`` depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    wanted = ("model name", "flags", "Features", "CPU part")
    return "|".join(sorted({line for line in lines if line.startswith(wanted)}))
