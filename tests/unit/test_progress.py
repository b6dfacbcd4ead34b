"""Progress with a clock that the tests set: what is shown, when, and how much time is said to be left."""

import io
import sys

import pytest

from sgdlit.foundations import progress as module
from sgdlit.foundations.console import lent_to, listener, say
from sgdlit.foundations.progress import Progress, track


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


class Terminal(io.StringIO):
    """Standard error that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_line_every_twenty_seconds(clock, capsys):
    with Progress("steps", 100, clock=clock) as progress:
        for done in range(1, 61):
            clock.now += 1
            progress.update(done, f"loss {done}")
    assert capsys.readouterr().err.splitlines() == [
        "steps 20/100  0:20 passed, 1:20 left  loss 20",
        "steps 40/100  0:40 passed, 1:00 left  loss 40",
        "steps 60/100  1:00 passed, 0:40 left  loss 60",
    ]


def test_what_was_done_before_takes_no_time(clock, capsys):
    with Progress("step", 1000, done=900, clock=clock) as progress:
        clock.now += 30
        progress.update(950)
    assert capsys.readouterr().err == "step 950/1000  0:30 passed, 0:30 left\n"


def test_a_time_limit_bounds_the_time_left_and_an_unknown_total_leaves_it_out(clock, capsys):
    with Progress("step", 1000, clock=clock) as bounded, Progress("step", float("inf"), clock=clock) as open_:
        clock.now += 4000
        bounded.show(100, at_most=60.0)
        open_.show(100)
        open_.show(100, at_most=60.0)
    assert capsys.readouterr().err.splitlines() == [
        "step 100/1000  1:06:40 passed, 1:00 left",
        "step 100  1:06:40 passed",
        "step 100  1:06:40 passed, 1:00 left",
    ]


def test_the_time_before_the_first_parts_is_no_part_of_the_pace(clock, capsys):
    with Progress("step", 1000, clock=clock) as progress:
        for seconds, done in ((30, 1), (20, 21), (20, 41)):
            clock.now += seconds
            progress.update(done)
    assert capsys.readouterr().err.splitlines() == [
        "step 1/1000  0:30 passed",
        "step 21/1000  0:50 passed, 16:19 left",
        "step 41/1000  1:10 passed, 15:59 left",
    ]


def test_each_stage_counts_anew(clock, capsys):
    with Progress(clock=clock) as progress:
        clock.now += 100
        progress.stage("draws", 1, 4)
        clock.now += 30
        progress.stage("draws", 2, 4)
        clock.now += 100
        progress.stage("runs", 0, 2)
    assert capsys.readouterr().err.splitlines() == [
        "draws 1/4  0:00 passed, 0:00 left",
        "draws 2/4  0:30 passed, 1:00 left",
        "runs 0/2  0:00 passed",
    ]


def test_runs_that_have_lent_the_terminal_are_silent_while_the_sweep_shows_where_they_are(clock, capsys):
    with (
        Progress("runs", 4, clock=clock) as sweep,
        lent_to(lambda fraction, text: sweep.update(2 * fraction, text)),
    ):
        say("a run says this to nobody")
        list(track([1, 2], "building"))
        with (
            Progress("step", 10, told=listener(), clock=clock) as run,
            Progress("x", 2, clock=clock) as silent,
        ):
            clock.now += 25
            silent.update(1)
            run.update(5, "train/loss 0.3")
            run.update(6, "too soon")
    assert capsys.readouterr().err == "runs 1/4  0:25 passed, 1:15 left  train/loss 0.3\n"


def test_the_listener_is_told_four_times_a_second_at_most(clock):
    told = []
    with Progress("step", 100, told=lambda *report: told.append(report), clock=clock) as progress:
        for done in range(1, 101):
            clock.now += 0.125
            assert progress.is_due == (done % 2 == 0)
            progress.update(done)
    assert told == [(done / 100, "") for done in range(2, 101, 2)]


def test_hidden_progress_and_none_at_all_show_nothing(clock, capsys, monkeypatch):
    monkeypatch.setattr(module, "PRINT_SECONDS", 0.0)
    with Progress("step", 10, hidden=True, clock=clock) as progress:
        assert not progress.is_due
        progress.show(5)
    with Progress("runs", 0, clock=clock) as progress:
        progress.update(0)
    assert list(track([], "nothing")) == []
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("stays", [False, True])
def test_a_bar_on_a_terminal(stays, clock, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    with Progress("steps", 100, stays=stays, clock=clock) as progress:
        clock.now += 10
        progress.update(25, "train/loss 0.5")
        progress.note("evaluating")
    said = terminal.getvalue()
    assert "steps 25/100  0:10 passed, 0:30 left  evaluating" in said
    assert "━" in said
    assert said.endswith("\x1b[2K") != stays


def test_items_come_out_as_they_are(clock):
    assert list(track("abc", "letters")) == ["a", "b", "c"]
