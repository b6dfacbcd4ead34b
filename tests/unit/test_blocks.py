"""How long a call is, when it has to end, and what it leaves in memory."""

import gc
import threading
import time
from types import SimpleNamespace

import pytest
import torch
from engine_runs import batches, member, sgd, train
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.plugins.precision import DoublePrecision
from torch._subclasses.fake_tensor import FakeTensor

from sgdlit.data.batches import Block
from sgdlit.data.teachers import MLPTeacher
from sgdlit.foundations.errors import UserError
from sgdlit.foundations.side_by_side import SideBySide
from sgdlit.models import MLP
from sgdlit.training import blocks, due_steps
from sgdlit.training.blocks import BlockPlan, check_steps_per_call


class Every(Callback):
    def __init__(self, n):
        self.every_n_steps = n


class At(Callback):
    def __init__(self, *steps):
        self.steps = steps

    def next_due(self, step):
        return min((s for s in self.steps if s > step), default=None)


def trainer(step, log=10, callbacks=(), epoch=100, max_steps=1000, interval=float("inf")):
    progress = SimpleNamespace(current=SimpleNamespace(ready=step % epoch), total=SimpleNamespace(ready=step))
    return SimpleNamespace(
        global_step=step,
        world_size=1,
        log_every_n_steps=log,
        callbacks=list(callbacks),
        num_training_batches=epoch,
        max_steps=max_steps,
        val_check_batch=interval,
        enable_validation=True,
        check_val_every_n_epoch=None,
        fit_loop=SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress)),
    )


@given(
    step=st.integers(0, 999),
    log=st.integers(1, 50),
    n=st.integers(1, 60),
    at=st.lists(st.integers(1, 999), max_size=4),
    epoch=st.integers(1, 200),
    interval=st.integers(1, 90),
)
@settings(max_examples=200, deadline=None)
def test_a_call_ends_at_the_first_step_at_which_anything_is_due(step, log, n, at, epoch, interval):
    run = trainer(step, log, [Every(n), At(*at)], epoch, 1000, interval)
    length = due_steps.steps_until_due(run, due_steps.events(run.callbacks))

    def is_due(s):
        return s % log == 0 or s % n == 0 or s in at or s % epoch == 0 or s % interval == 0 or s == 1000

    assert is_due(step + length)
    assert not any(is_due(s) for s in range(step + 1, step + length))


class Inside(At):
    def before_call(self, module, shows): ...

    def after_steps(self, trainer, module, costs, block, ends_call): ...

    def looks_at(self, block): ...

    def look(self, step, module): ...

    def shown_steps(self, block): ...

    def see_step(self, step, module, shown): ...


def test_a_call_goes_on_after_what_acts_inside_of_it():
    callbacks = [Inside(12, 14, 17, 20), At(18), Inside(14)]
    run = trainer(10, callbacks=callbacks)
    assert due_steps.steps_until_due(run, due_steps.events(callbacks)) == 8
    block, inside = Block(10, 8, []), due_steps.inside_calls(callbacks)
    assert [(part.start, part.end) for part in block.cut(due_steps.due_in(block, inside))] == [
        (10, 12),
        (12, 14),
        (14, 17),
        (17, 18),
    ]


def test_lightnings_callbacks_are_known():
    (monitor,) = due_steps.events([LearningRateMonitor()])
    assert [monitor(trainer(step)) for step in (0, 9, 10)] == [9, 10, 19]
    (checkpoint,) = due_steps.events([ModelCheckpoint(every_n_train_steps=7)])
    assert checkpoint(trainer(5)) == 7
    assert due_steps.events([ModelCheckpoint()]) == []


def test_a_plan_adapts_its_calls_to_the_clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(blocks.time, "perf_counter", lambda: now[0])
    plan = BlockPlan(trainer(0, log=10**6, epoch=10**6, max_steps=10**6), "auto")
    lengths = []
    for _ in range(12):
        lengths.append(plan(0))
        now[0] += 0.001 * lengths[-1]  # a step takes a millisecond
    assert lengths[:7] == [1, 2, 4, 8, 16, 32, 64]
    assert set(lengths[7:]) == {64}
    with plan.left_out():
        now[0] += 0.1 * lengths[-1]  # not of the steps
    assert plan(0) == 64
    now[0] += 0.1 * lengths[-1]  # a hundred times slower
    assert plan(0) == 32
    fixed = BlockPlan(trainer(0, log=10**6, epoch=10**6, max_steps=10**6), 48)
    assert [fixed(0) for _ in range(5)] == [48] * 5


@pytest.mark.parametrize("asked", [0, -3, "many"])
def test_impossible_numbers_of_steps_are_refused(asked):
    with pytest.raises(UserError, match=r"model\.steps_per_call.*allowed: auto, or 1 or more"):
        check_steps_per_call(asked, "auto", None)


def test_an_engine_by_name_needs_blocks():
    with pytest.raises(UserError, match=r"model\.engine: fused is not possible with clipping"):
        check_steps_per_call("auto", "fused", "clipping")


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_side_by_side_keeps_order_and_gradient_mode(three_threads):
    threads = SideBySide(5, torch.device("cpu"))
    for at_once in (True, False):
        with torch.no_grad():
            found = threads.map(lambda k: (k * k, torch.is_grad_enabled()), range(5), at_once)
        assert found == [(k * k, False) for k in range(5)]
        assert all(threads.map(lambda k: torch.is_grad_enabled(), range(5), at_once))


def test_one_thread_does_it_all_where_threads_are_not_worth_it(three_threads):
    threads = SideBySide(5, torch.device("cpu"))
    assert set(threads.map(lambda _: torch.get_num_threads(), range(5), False)) == {1}
    assert len(set(threads.map(lambda _: threading.get_ident(), range(5), False))) == 1


def test_side_by_side_leaves_the_default_dtype_as_it_was(three_threads):
    """The last of two threads to leave float64 must not restore what it found, the float64 of the other."""
    context = DoublePrecision().forward_context
    threads, together = SideBySide(2, torch.device("cpu"), context), threading.Barrier(2)

    def work(k):
        if k:
            together.wait()
        with context():
            if not k:
                together.wait()
            time.sleep(0.02 * k)
            return torch.empty(1).dtype

    assert threads.map(work, range(2)) == [torch.float64] * 2
    assert torch.get_default_dtype() == torch.float32


def tensors_alive():
    gc.collect()
    found = [o for o in gc.get_objects() if issubclass(type(o), torch.Tensor)]
    return {id(o): o for o in found if not isinstance(o, FakeTensor)}


@pytest.mark.parametrize("engine", ["stacked", "loop"])
def test_memory_grows_with_members_only(engine):
    """Bytes that tensors hold after many calls are those after one: nothing is kept by step or by call.

    Tensors that other tests left are kept for as long as this lasts, and not counted.
    """
    others = tensors_alive()
    data = [batches(MLPTeacher([6, 8, 3], labels="hard", steps=10**6, batch_size=4, seed=s)) for s in (0, 1)]
    runs = [member(lambda: MLP([6, 7, 3]), seed, optimizer=sgd(0.01, momentum=0.9)) for seed in (0, 1)]
    held = []
    for cuts in ([40], list(range(40, 400, 7))):
        train(engine, runs, data, cuts)
        own = [tensor for key, tensor in tensors_alive().items() if key not in others]
        storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in own}
        held.append(sum(storages.values()))
        del own
    assert 0 < held[1] <= held[0]


def test_ranks_end_their_calls_at_the_same_steps_whatever_their_clocks_say():
    several = trainer(0, log=1000, epoch=10_000, max_steps=10_000)
    several.world_size = 2
    fast, slow = blocks.BlockPlan(several, "auto"), blocks.BlockPlan(several, "auto")
    for _ in range(20):
        slow._asked -= 5.0  # its last call took five seconds
        assert fast(several.global_step) == slow(several.global_step)
        several.global_step += fast(several.global_step)
