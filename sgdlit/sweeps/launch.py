"""Several workers on one store: processes on this machine, or a SLURM job array through submitit.

The workers share nothing but the store: each takes what is missing and nobody else runs.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sgdlit.foundations.console import say
from sgdlit.foundations.errors import UserError
from sgdlit.foundations.progress import Progress
from sgdlit.foundations.threads import threads_for
from sgdlit.sweeps.in_flight import forget_all, in_flight
from sgdlit.sweeps.store import Store

_POLL_SECONDS = 0.2
_MOST_WORKERS = 16  # of a job array, unless --jobs says otherwise
_MOST_REQUEUES = 10_000
_SHOWN = ("sgdlit: error:", "sgdlit: warning:")


def run_processes(arguments: Sequence[str], jobs: int, store: Store, keys: Sequence[str]) -> int:
    """Run ``jobs`` worker processes to their end; the highest of their exit codes.

    Each has its share of the cores, and, where there are GPUs, one of them. What they say is kept in
    ``work/worker_K.log``; their warnings and errors are repeated here.

    Args:
        arguments: the command line of a worker, after ``python -m sgdlit``.
        jobs: how many.
        store: in which they work.
        keys: of the cells that are missing.
    """
    logs = [store.folder / "work" / f"worker_{k}.log" for k in range(jobs)]
    workers = [_start(arguments, k, jobs, log) for k, log in enumerate(logs)]
    before = {s: signal.signal(s, lambda n, _: _pass_on(workers, n)) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        with Progress("runs", len(keys)) as progress:
            while any(worker.poll() is None for worker in workers):
                time.sleep(_POLL_SECONDS)
                here = in_flight(store, [worker.pid for worker in workers])
                progress.update(sum(map(store.has, keys)) + here)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        forget_all(store)
    for log in logs:
        for line in dict.fromkeys(log.read_text(errors="replace").splitlines()):
            if line.startswith(_SHOWN):
                say(f"{log.stem}: {line.removeprefix('sgdlit: ')}")
    codes = [worker.returncode if worker.returncode >= 0 else 128 - worker.returncode for worker in workers]
    return max(codes)


def _start(arguments: Sequence[str], k: int, jobs: int, log: Path) -> subprocess.Popen:
    environment = dict(os.environ)
    environment.setdefault("OMP_NUM_THREADS", str(threads_for(jobs)))
    gpus = _gpus()
    if gpus:
        environment["CUDA_VISIBLE_DEVICES"] = gpus[k % len(gpus)]
    with log.open("w") as out:
        command = [sys.executable, "-m", "sgdlit", *arguments]
        # Of a session of its own: Ctrl-C reaches a worker once, passed on by this process.
        return subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )


def _gpus() -> list[str]:
    import torch

    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name for name in given.split(",") if name]
    return [str(i) for i in range(torch.cuda.device_count())]


def _pass_on(workers: Sequence[subprocess.Popen], number: int) -> None:
    for worker in workers:
        if worker.poll() is None:
            worker.send_signal(number)


def submit(
    worker: Callable[[], Any],
    cluster: str,
    jobs: int | None,
    missing: int,
    store: Store,
    settings: Sequence[str],
) -> str:
    """Submit an array of workers, and do not wait for it; the name of the job.

    Args:
        worker: what each task calls; its ``checkpoint`` is called before a time limit, and the task requeued.
        cluster: ``slurm``, or ``local`` for submitit's processes on this machine.
        jobs: tasks of the array; None for one per missing run, up to 16.
        missing: runs that are missing.
        store: in which they work; logs go to ``slurm/`` in it.
        settings: ``KEY=VALUE`` for submitit, such as ``slurm_partition=gpu`` or ``timeout_min=600``.

    Raises:
        UserError: submitit is not installed, refuses a setting, or the cluster does not answer.
    """
    try:
        import submitit
    except ImportError as error:
        raise UserError(
            "--launcher: submitit is missing; install it with: pip install sgdlit[slurm]"
        ) from error
    count = min(missing, jobs or _MOST_WORKERS)
    try:
        executor = submitit.AutoExecutor(
            folder=store.folder / "slurm", cluster=cluster, slurm_max_num_timeout=_MOST_REQUEUES
        )
        executor.update_parameters(**_settings(settings))
        with executor.batch():
            submitted = [executor.submit(worker) for _ in range(count)]
    except (NameError, TypeError, AssertionError, ValueError, RuntimeError) as error:
        raise UserError(f"--launcher {cluster}: {error}") from error
    except submitit.core.utils.FailedJobError as error:
        raise UserError(f"--launcher {cluster}: the job was refused: {error}") from error
    return f"{count} workers in job {submitted[0].job_id.split('_')[0]}"


def _settings(given: Sequence[str]) -> dict[str, Any]:
    """``KEY=VALUE`` as keyword arguments, numbers as numbers."""
    import yaml

    pairs = [setting.partition("=") for setting in given]
    wrong = [setting for setting, (_, equals, _) in zip(given, pairs, strict=True) if not equals]
    if wrong:
        raise UserError(f"--slurm: {wrong[0]!r} is not allowed; allowed: KEY=VALUE, such as timeout_min=600")
    return {key: yaml.safe_load(value) for key, _, value in pairs}
