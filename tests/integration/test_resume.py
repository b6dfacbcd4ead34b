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
    "fixed list, validation twice per epoch, epochs as the limit": (
        [1, 3, 5],
        [
            f"--data.order={ORDERS}FixedList",
            f"--data.order.rows={[7, 1, 1, 30, 22, 9] * 5}",
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
