"""A run that was stopped anywhere and resumed ends bitwise where the uninterrupted run ends."""

import pytest
from fit_runs import Runs, differences, run_differences

ORDERS = "sgdlit.data.orders."
PENALTY = "sgdlit.objectives.ExactPenalty"
CASES = {
    "mid-epoch, at a step that logs, at an epoch's end": ([4, 9, 12], []),
    "single shuffle, an epoch's end without validation": (
        [6, 7, 18],
        [f"--data.order={ORDERS}SingleShuffle", "--trainer.check_val_every_n_epoch=2"],
    ),
    "with replacement, validation steps, twice in one epoch": (
        [4, 8, 9],
        [
            f"--data.order={ORDERS}WithReplacement",
            "--trainer.val_check_interval=4",
            "--trainer.check_val_every_n_epoch=null",
        ],
    ),
    "fixed list, an epoch's end and then its second step, epochs as the limit": (
        [3, 5],
        [
            f"--data.order={ORDERS}FixedList",
            f"--data.order.indices={[7, 1, 1, 30, 22, 9] * 5}",
            "--trainer.val_check_interval=0.7",
            "--trainer.max_steps=-1",
            "--trainer.max_epochs=4",
        ],
    ),
    "forward then reversed, three repeats, augmentation": (
        [5, 11, 16],
        [
            f"--data.order={ORDERS}ForwardThenReversed",
            "--data.repeats=3",
            "--data.augment=true",
            "--data.batch_size=30",
            "--checkpoints.every_n_steps=2",
        ],
    ),
    "GraB, mid-epoch, an epoch's end, mid-epoch": ([2, 6, 15], ["--data.order=sgdlit.data.grab.GraB"]),
    "clipped gradients with error feedback and noise, Poisson minibatches": (
        [3, 8],
        [
            "--model.transform=sgdlit.algorithms.transforms.PerExampleClip",
            "--model.transform.threshold=0.1",
            "--model.transform.feedback_threshold=0.3",
            "--model.transform.noise=0.5",
            "--data.order=sgdlit.data.poisson.Poisson",
            "--data.batch_size=40",
        ],
    ),
    "Adaptive-k on wrong labels, every class equally often": (
        [5, 9],
        [
            "--model.transform=sgdlit.algorithms.transforms.AdaptiveK",
            "--model.transform.plain_steps=3",
            "--data.order=sgdlit.data.stratified.Stratified",
            "--data.label_errors=sgdlit.data.label_errors.DirectedErrors",
            "--data.label_errors.share=0.4",
            "--trainer.gradient_clip_val=0.5",
        ],
    ),
    "float64": ([7], ["--trainer.precision=64-true"]),
    "accumulation, penalty, validation within and between steps": (
        [3, 6, 8],
        [
            "--trainer.accumulate_grad_batches=2",
            "--model.reg_strength=0.1",
            f"--model.objective={PENALTY}",
            "--model.objective.penalty_batch_size=5",
            "--trainer.val_check_interval=3",
            "--trainer.check_val_every_n_epoch=null",
        ],
    ),
    "penalty, schedule, short last minibatch, augmentation, Adam": (
        [8, 14],
        [
            "--data.batch_size=8",
            "--data.last_batch=short",
            "--data.augment=true",
            "--model.reg_strength=0.1",
            "--model.optimizer=torch.optim.Adam",
            "--model.optimizer.lr=0.001",
            "--model.scheduler=torch.optim.lr_scheduler.StepLR",
            "--model.scheduler.step_size=5",
        ],
    ),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("resume"))


@pytest.mark.parametrize("case", CASES)
def test_a_stopped_and_resumed_run_is_the_uninterrupted_one(runs, case):
    stops, arguments = CASES[case]
    name = f"case{list(CASES).index(case)}"
    assert runs.fit(f"{name}_straight", *arguments) == 0
    stop = ["--trainer.callbacks=fit_runs.SignalAt", f"--trainer.callbacks.steps={stops}"]
    assert runs.fit(f"{name}_stopped", *arguments, *stop) == 128 + 15
    for k, step in enumerate(stops):
        assert runs.status(f"{name}_stopped") | {"state": "stopped", "step": step} == runs.status(
            f"{name}_stopped"
        )
        assert runs.checkpoint(f"{name}_stopped")["global_step"] == step
        assert runs.resume(f"{name}_stopped") == (0 if k == len(stops) - 1 else 128 + 15)
    assert run_differences(runs, f"{name}_straight", f"{name}_stopped") == []


@pytest.mark.parametrize(("steps", "extra_rows"), [(12, 0), (10, 1)])
def test_a_finished_run_made_longer_is_the_longer_run(runs, steps, extra_rows):
    """Step 12 ends an epoch and is evaluated anyway; at step 10 the end of the run adds an evaluation."""
    name = f"longer_{steps}"
    assert runs.fit(name, f"--trainer.max_steps={steps}") == 0
    assert runs.status(name)["step"] == steps
    assert runs.resume(name, "--trainer.max_steps=20") == 0
    assert runs.fit(f"{name}_straight") == 0
    rows = [row for row in runs.rows(name) if extra_rows == 0 or row["step"] != str(steps)]
    assert len(runs.rows(name)) == len(rows) + extra_rows
    a, b = runs.checkpoint(name), runs.checkpoint(f"{name}_straight")
    parts = ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "epoch")
    assert differences({k: a[k] for k in parts}, {k: b[k] for k in parts}) == []
    if extra_rows == 0:
        assert run_differences(runs, f"{name}_straight", name) == []


def test_a_finished_run_gets_more_epochs(runs):
    """Only the end of the run is evaluated: its checkpoint is that of a validation that no epoch asks for."""
    epochs = ["--trainer.val_check_interval=1000", "--trainer.check_val_every_n_epoch=null"]
    epochs += ["--trainer.max_steps=-1"]
    assert runs.fit("epochs", *epochs, "--trainer.max_epochs=1") == 0
    assert runs.resume("epochs", "--trainer.max_epochs=2") == 0
    assert runs.resume("epochs", "--trainer.max_epochs=4") == 0
    assert runs.fit("epochs_straight", *epochs, "--trainer.max_epochs=4") == 0
    a, b = runs.checkpoint("epochs"), runs.checkpoint("epochs_straight")
    parts = ("state_dict", "optimizer_states", "global_step", "epoch", "loops")
    assert differences({k: a[k] for k in parts}, {k: b[k] for k in parts}) == []


def test_rows_after_the_checkpoint_are_measured_again(runs):
    """As after kill −9: the table is ahead of the checkpoint, here by the second half of the run."""
    assert runs.fit("whole") == 0
    assert runs.fit("thrown_back", "--trainer.max_steps=12") == 0
    path = runs.path("thrown_back") / "checkpoints" / "resume.ckpt"
    early = path.read_bytes()
    assert runs.resume("thrown_back", "--trainer.max_steps=20") == 0
    path.write_bytes(early)
    assert runs.resume("thrown_back", "--trainer.max_steps=20") == 0
    assert run_differences(runs, "whole", "thrown_back") == []


def test_a_finished_run_that_is_resumed_stays_as_it_is(runs):
    assert runs.fit("done") == 0
    rows, before = runs.rows("done"), runs.checkpoint("done")
    assert runs.resume("done") == 0
    assert runs.rows("done") == rows
    assert runs.status("done")["state"] == "finished"
    assert differences(runs.checkpoint("done"), before) == []


def test_a_resume_on_other_data_is_refused_and_changes_nothing(runs, capsys):
    assert runs.fit("refused", "--trainer.max_steps=7", "--checkpoints.every_n_steps=5") == 0
    files = {p: p.read_bytes() for p in runs.path("refused").rglob("*") if p.is_file()}
    assert runs.resume("refused", "--trainer.max_steps=20", "--data.batch_size=5") == 2
    assert "batch_size" in capsys.readouterr().err
    assert {p: p.read_bytes() for p in runs.path("refused").rglob("*") if p.is_file()} == files


@pytest.mark.parametrize("stop", [5, 7])
def test_epochs_cut_short_visit_the_same_steps(runs, stop):
    """trainer.limit_train_batches makes Lightning's epoch shorter than the data's: steps go on regardless."""
    arguments = ["--trainer.limit_train_batches=4", "--trainer.max_steps=-1", "--trainer.max_epochs=3"]
    name = f"short_epochs_{stop}"
    callback = ["--trainer.callbacks=fit_runs.SignalAt", f"--trainer.callbacks.steps={[stop]}"]
    assert runs.fit(name, *arguments, *callback) == 128 + 15
    assert runs.resume(name) == 0
    assert runs.fit(f"{name}_whole", "--trainer.max_steps=12") == 0
    a, b = runs.checkpoint(name), runs.checkpoint(f"{name}_whole")
    assert a["global_step"] == 12
    assert differences(a["state_dict"], b["state_dict"]) == []


def test_a_schedule_that_waits_for_evaluations_resumes(runs):
    """It moves the rate, which is not the rate that the run was given."""
    plateau = ["--model.scheduler=lightning.pytorch.cli.ReduceLROnPlateau"]
    plateau += ["--model.scheduler.monitor=val/loss", "--model.scheduler.patience=0"]
    plateau += ["--model.scheduler.threshold=0.9"]
    assert runs.fit("plateau_straight", *plateau) == 0
    assert runs.fit("plateau", *plateau, "--trainer.max_steps=12") == 0
    assert runs.resume("plateau", "--trainer.max_steps=20") == 0
    lr = runs.checkpoint("plateau")["optimizer_states"][0]["param_groups"][0]["lr"]
    assert lr < runs.checkpoint("plateau")["sgdlit_optimizers"][0][0]["lr"]
    assert run_differences(runs, "plateau_straight", "plateau") == []


def test_an_early_stop_at_the_end_of_an_epoch_leaves_a_checkpoint(runs):
    early = ["--trainer.callbacks=EarlyStopping", "--trainer.callbacks.monitor=train/loss"]
    early += ["--trainer.callbacks.patience=0", "--trainer.callbacks.min_delta=100.0"]
    early += ["--trainer.callbacks.check_on_train_epoch_end=true"]
    assert runs.fit("early", *early) == 0
    assert runs.checkpoint("early")["global_step"] == runs.status("early")["step"] < 20


TABLES = {
    "without its last row": lambda text: text[: text[:-1].rindex("\n") + 1],
    "with another digit": lambda text: text[:-2] + str((int(text[-2]) + 1) % 10) + "\n",
    "with rows that changed places": lambda text: "\n".join(
        [*text.split("\n")[:2], *text.split("\n")[2:4][::-1], *text.split("\n")[4:]]
    ),
    "empty": lambda text: "",
    "of other columns": lambda text: text.replace("train/loss", "train/lost", 1),
}


@pytest.mark.parametrize("kind", TABLES)
def test_a_run_whose_table_was_damaged_is_not_resumed(runs, kind, capsys):
    name = "table"
    if not runs.path(name).exists():
        assert runs.fit(name) == 0
    path = runs.path(name) / "metrics.csv"
    whole = path.read_text()
    path.write_text(TABLES[kind](whole))
    assert path.read_text() != whole
    assert runs.resume(name, "--trainer.max_steps=25") == 2
    assert f"{path}: not as the checkpoint left it" in capsys.readouterr().err
    assert path.read_text() == TABLES[kind](whole)
    path.write_text(whole)
    assert runs.status(name)["step"] == 20
