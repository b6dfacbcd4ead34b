"""A call takes many steps, and still every event is at its step."""

import pytest
from fit_runs import Runs, differences, run_differences
from lightning.pytorch import Callback


class Recorder(Callback):
    """Notes the step at which each call ends, and at which validation runs."""

    calls: list[int] = []  # noqa: RUF012
    validations: list[int] = []  # noqa: RUF012
    batches: list[tuple[int, int]] = []  # noqa: RUF012

    def next_due(self, step: int) -> None:
        return None

    def on_train_start(self, trainer, pl_module):
        for seen in (self.calls, self.validations, self.batches):
            seen.clear()

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.calls.append(trainer.global_step)
        self.batches.append((trainer.fit_loop.epoch_loop.total_batch_idx + 1, trainer.fit_loop.batch_idx + 1))

    def on_validation_start(self, trainer, pl_module):
        self.validations.append(trainer.global_step)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Runs:
    return Runs(tmp_path_factory.mktemp("due_steps"))


AWKWARD = [
    "--trainer.max_steps=1001",
    "--trainer.log_every_n_steps=7",
    "--trainer.val_check_interval=50",
    "--trainer.check_val_every_n_epoch=null",
    "--checkpoints.every_n_steps=33",
    "--trainer.limit_val_batches=1",
]


def with_recorder(steps_per_call, *more):
    return [
        *AWKWARD,
        f"--model.steps_per_call={steps_per_call}",
        "--trainer.callbacks=test_due_steps.Recorder",
        *more,
    ]


def test_every_event_is_at_its_step(runs):
    assert runs.fit("blocks", *with_recorder(64)) == 0
    due = {s for n in (7, 50, 33) for s in range(0, 1001, n)} | {1001} | set(range(0, 1001, 6))
    assert set(Recorder.calls) <= due
    assert Recorder.calls[-1] == 1001
    ends = set(Recorder.calls)
    for n in (7, 50, 33):
        assert set(range(n, 1002, n)) <= ends
    assert Recorder.validations == [*range(50, 1001, 50), 1001]
    assert all(step == total for step, (total, _) in zip(Recorder.calls, Recorder.batches, strict=True))
    assert {in_epoch for _, in_epoch in Recorder.batches} <= set(range(1, 7))
    rows = [int(row["step"]) for row in runs.rows("blocks") if row["train/loss"]]
    assert rows == list(range(0, 1001, 7))
    assert [int(row["step"]) for row in runs.rows("blocks") if row["val/loss"]] == Recorder.validations


@pytest.mark.parametrize("steps_per_call", ["64", "5", "auto"])
def test_the_numbers_do_not_depend_on_the_steps_per_call(runs, steps_per_call):
    engine = "--model.engine=stacked"
    if not runs.path("one").exists():
        short = "--trainer.callbacks=test_due_steps.OneByOne"
        assert runs.fit("one", *AWKWARD, engine, short, "--model.steps_per_call=64") == 0
    name = f"k{steps_per_call}"
    assert runs.fit(name, *AWKWARD, engine, f"--model.steps_per_call={steps_per_call}") == 0
    assert run_differences(runs, name, "one") == []


class OneByOne(Callback):
    """Is due at every step, so that each call takes one."""

    every_n_steps = 1


def test_a_run_stopped_at_517_goes_on_there(runs):
    stop = ["--trainer.callbacks=fit_runs.SignalAt", "--trainer.callbacks.steps=[517]"]
    assert runs.fit("straight", *AWKWARD, "--model.steps_per_call=64") == 0
    assert runs.fit("stopped", *AWKWARD, *stop, "--model.steps_per_call=64") == 128 + 15
    assert runs.checkpoint("stopped")["global_step"] == 517
    assert runs.resume("stopped", "--model.steps_per_call=9") == 0
    assert run_differences(runs, "straight", "stopped") == []


@pytest.mark.parametrize(("first", "then"), [("1", "64"), ("64", "1")])
def test_a_run_may_change_to_one_step_per_call_and_back(runs, first, then):
    """Other arithmetic, the same clock: equal to rounding."""
    short = ["--trainer.max_steps=40", *AWKWARD[1:]]
    stop = ["--trainer.callbacks=fit_runs.SignalAt", "--trainer.callbacks.steps=[17]"]
    name = f"from_{first}"
    assert runs.fit(name, *short, *stop, f"--model.steps_per_call={first}") == 128 + 15
    assert runs.resume(name, f"--model.steps_per_call={then}") == 0
    assert runs.fit(f"{name}_whole", *short, f"--model.steps_per_call={then}") == 0
    a, b = runs.checkpoint(name), runs.checkpoint(f"{name}_whole")
    assert a["global_step"] == b["global_step"] == 40
    assert differences(a["state_dict"], b["state_dict"], tolerance=1e-5) == []
    assert [row["step"] for row in runs.rows(name)] == [row["step"] for row in runs.rows(f"{name}_whole")]


def test_a_recorded_step_has_the_casts_of_mixed_precision(runs):
    """bfloat16 has three digits: the engines agree to those, and differ from float32."""
    ends = {}
    for engine, precision in (("loop", "bf16-mixed"), ("stacked", "bf16-mixed"), ("stacked", "32-true")):
        name = f"{engine}_{precision}"
        assert runs.fit(name, f"--model.engine={engine}", f"--trainer.precision={precision}") == 0
        ends[name] = runs.checkpoint(name)["state_dict"]
    assert differences(ends["loop_bf16-mixed"], ends["stacked_bf16-mixed"], tolerance=1e-3) == []
    assert differences(ends["stacked_32-true"], ends["stacked_bf16-mixed"], tolerance=1e-5) != []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--trainer.gradient_clip_val=1.0"], "trainer.gradient_clip_val: 1.0"),
        (["--trainer.accumulate_grad_batches=2"], "trainer.accumulate_grad_batches: 2"),
        (["--trainer.callbacks=test_due_steps.Unknown"], "Unknown acts at every batch"),
    ],
)
def test_what_acts_inside_a_step_keeps_calls_to_one(runs, arguments, words, capsys):
    assert runs.fit("refused", *arguments, "--model.steps_per_call=8") == 2
    assert words in capsys.readouterr().err
    assert not runs.path("refused").exists()
    name = words.split()[0].strip(":")
    assert runs.fit(name, *arguments, "--trainer.max_steps=4") == 0


class Unknown(Callback):
    """Counts calls, and says nothing about when it wants to be called."""

    def on_train_batch_end(self, trainer, *args):
        assert trainer.fit_loop.epoch_loop.automatic_optimization is not None


def test_lightnings_own_monitors_write_at_their_steps(runs):
    """Of the learning rate: logged at every tenth step, as with one step per call."""
    monitor = "--trainer.callbacks=lightning.pytorch.callbacks.LearningRateMonitor"
    common = ["--trainer.log_every_n_steps=10", "--trainer.max_steps=40", monitor]
    for k in (1, 16):
        assert runs.fit(f"monitor_{k}", *common, f"--model.steps_per_call={k}") == 0
    seen = [
        [(row["step"], row["lr-SGD"]) for row in runs.rows(f"monitor_{k}") if row.get("lr-SGD")]
        for k in (1, 16)
    ]
    assert seen[0] == seen[1]
    assert {"9", "19", "29", "39"} <= {step for step, _ in seen[0]}
