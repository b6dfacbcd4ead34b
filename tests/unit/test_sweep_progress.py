"""What a sweep prints of its progress where it cannot draw."""

from sgdlit.foundations.console import lent_to, say
from sgdlit.sweeps import progress
from sgdlit.sweeps.progress import SweepProgress


def test_progress_is_printed_while_a_run_that_must_be_quiet_is_in_flight(capsys, monkeypatch):
    monkeypatch.setattr(progress, "PRINT_SECONDS", 0.0)
    with SweepProgress(4) as bar, lent_to(bar.within):
        say("a run says this to nobody")
        bar.within(0.5, "train/loss 0.3")
        bar.finished(2)
        bar.within(1.0, "")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["0/4 runs", "2/4 runs", "2/4 runs"]
    assert "about 0:00 left  (train/loss 0.3)" in lines[0]
