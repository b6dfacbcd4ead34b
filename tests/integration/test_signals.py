"""Ctrl-C, SIGTERM and kill −9: what is left behind resumes exactly; and what a checkpoint is on the disk."""

import inspect
import os
import resource
import signal
from pathlib import Path

import pytest
import torch
from fit_runs import PATIENCE, Runs, differences, processes, wait_until
from kills import ENDLESS, finish_and_compare
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop

from sgdlit.foundations import console
from sgdlit.training.ranks import lost_a_rank


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("signals"))


@pytest.fixture(autouse=True)
def _one_thread():
    """As in the processes that are compared with this one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_ctrl_c_and_kill_leave_a_run_that_resumes_exactly(runs):
    commands = [["-m", "sgdlit", *runs.arguments(name, *ENDLESS)] for name in ("interrupted", "killed")]
    interrupted, killed = processes(commands, [{}, {}], runs.folder)
    for name, process in (("interrupted", interrupted), ("killed", killed)):
        wait_until(lambda name=name: (runs.path(name) / "checkpoints" / "best.ckpt").exists(), process)
    killed.kill()
    interrupted.send_signal(signal.SIGINT)
    assert interrupted.wait(timeout=PATIENCE) == 128 + signal.SIGINT
    assert killed.wait(timeout=PATIENCE) == -signal.SIGKILL
    assert "press again to stop at once" in (runs.folder / "out_0").read_text()
    assert runs.status("interrupted")["state"] == "stopped"
    assert runs.status("interrupted")["step"] == runs.checkpoint("interrupted")["global_step"]
    assert runs.status("killed")["state"] == "running"
    assert runs.checkpoint("killed")["global_step"] % 40 == 0
    finish_and_compare(runs, "interrupted")
    finish_and_compare(runs, "killed")


def test_handlers_are_put_back_and_a_second_ctrl_c_interrupts(runs):
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    stop = ["--trainer.callbacks=fit_runs.SignalAt", "--trainer.callbacks={steps: [4], number: 10}"]
    assert runs.fit("usr1", *stop) == 128 + signal.SIGUSR1
    assert {number: signal.getsignal(number) for number in before} == before
    twice = ["--trainer.callbacks=fit_runs.SignalAt", "--trainer.callbacks={steps: [4], number: 2, times: 2}"]
    with pytest.raises(SystemExit):
        runs.fit("twice", *twice)
    assert runs.status("twice") == {"state": "failed", "step": 4, "error": "KeyboardInterrupt: "}
    signal.signal(signal.SIGINT, before[signal.SIGINT])  # which Lightning ignores while it shuts down


def test_nothing_is_written_outside_the_folder_of_the_run(runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert runs.fit("clean", f"--logs={tmp_path / 'elsewhere'}") == 0
    files = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    run = Path("elsewhere", "clean", "version_0")
    own = {"config.yaml", "status.json", "metrics.csv", "checkpoints/resume.ckpt", "checkpoints/best.ckpt"}
    own |= {"writer.lock"}
    assert {str(run / name) for name in own} <= files
    others = {Path(name).name for name in files} - {Path(name).name for name in own}
    assert all(name.startswith("events.") or name == "hparams.yaml" for name in others)
    assert {Path(name).parts[0] for name in files} == {"elsewhere"}


def test_a_full_disk_leaves_the_earlier_checkpoint_and_says_so(runs, capsys):
    """The limit on the size of a file cuts the second checkpoint off in its middle, as a full disk does."""
    assert runs.fit("full", "--trainer.max_steps=4") == 0
    folder = runs.path("full") / "checkpoints"
    before = (folder / "resume.ckpt").read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, hard))
    try:
        code = runs.resume("full", "--trainer.max_steps=8")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    said = capsys.readouterr().err
    assert code == 2
    assert "resume.ckpt: checkpoint not written" in said
    assert "Traceback" not in said
    assert (folder / "resume.ckpt").read_bytes() == before
    assert sorted(p.name for p in folder.iterdir()) == ["best.ckpt", "resume.ckpt"]
    assert runs.status("full")["state"] == "failed"
    assert runs.resume("full", "--trainer.max_steps=8") == 0
    assert runs.fit("not_full", "--trainer.max_steps=8") == 0
    parts = ("state_dict", "optimizer_states")
    a, b = runs.checkpoint("full"), runs.checkpoint("not_full")
    assert differences({k: a[k] for k in parts}, {k: b[k] for k in parts}) == []


def test_a_disk_that_is_full_ends_in_a_sentence_and_leaves_what_was_there(runs, capsys):
    """Here a limit on the size of files: the table is the first that reaches it, after a checkpoint."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    small = ["--model.network.widths=[784,1,10]", "--trainer.log_every_n_steps=1", "--trainer.max_steps=2000"]
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, before[1]))
    try:
        assert runs.fit("limited", *small, "--checkpoints.every_n_steps=10", "--trainer.logger=false") == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    path = runs.path("limited") / "metrics.csv"
    text = capsys.readouterr().err
    assert f"sgdlit: error: {path}: row of step " in text
    assert "not written (File too large)" in text
    assert "Traceback" not in text
    status, step = runs.status("limited"), runs.checkpoint("limited")["global_step"]
    assert (status["state"], str(path) in status["error"]) == ("failed", True)
    assert 0 < step <= status["step"]
    assert runs.resume("limited", f"--trainer.max_steps={step + 5}") == 0


def test_standard_error_that_nobody_reads_is_silent():
    reading, writing = os.pipe()
    os.close(reading)
    stream = console._Lasting(os.fdopen(writing, "wb"), line_buffering=True)
    for _ in range(3):
        print("nobody hears it", file=stream, flush=True)
    assert os.stat(stream.fileno()).st_rdev == os.stat(os.devnull).st_rdev
    stream.close()


def test_the_loss_of_a_rank_is_told_from_other_errors():
    lost = "[/third_party/gloo/gloo/transport/tcp/pair.cc:537] Read error: Connection reset by peer"
    assert lost_a_rank(RuntimeError(lost))
    assert not lost_a_rank(RuntimeError("Connection reset by peer"))
    assert not lost_a_rank(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def test_lightning_does_not_ask_the_ranks_about_a_signal_at_every_step(runs, monkeypatch):
    """Two ranks would wait for each other once more at every step."""
    asked = []
    assert "self._broadcast_sigterm_tensor()" in inspect.getsource(_TrainingEpochLoop.advance)
    real = _TrainingEpochLoop.advance

    def asks(loop, fetcher):
        asked.append(loop._broadcast_sigterm_tensor())
        return real(loop, fetcher)

    monkeypatch.setattr(_TrainingEpochLoop, "advance", asks)
    monkeypatch.setattr(torch.distributed, "broadcast", lambda *_, **__: pytest.fail("a rank was asked"))
    assert runs.fit("unasked", "--trainer.max_steps=2") == 0
    assert asked == [None, None] or asked == [None]
