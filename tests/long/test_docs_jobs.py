"""Every block of the pages that show jobs, as a person would run them."""

from pathlib import Path

import pytest
from docs_blocks import run_page
from official_formats import write_fashion_mnist

_COMMANDS = ("sweep", "figure", "fit")
QUIET = {command: ["--trainer.enable_progress_bar=false"] for command in _COMMANDS}
SMALLER = {command: [*quiet, "--trainer.max_epochs=2", "--sweep.seeds=2"] for command, quiet in QUIET.items()}


@pytest.fixture(autouse=True)
def there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))


def test_the_notebook():
    run_page("notebook.md")


def test_jobs_on_fashion_mnist():
    write_fashion_mnist(Path("data"), 5100, 100)
    run_page("howto.md", ["Test accuracy over", "The same with wrong labels"], SMALLER)
    for name in ("rates", "rates_noisy"):
        assert Path(f"sweeps/{name}/figures/rate.png").is_file()
        assert len(list(Path(f"sweeps/{name}/runs").glob("*.json"))) == 5 * 2


def test_jobs_on_own_data():
    names = run_page("howto.md", ["Own data", "Predictions", "Fine-tuning"], QUIET)
    assert Path("sweeps/strengths/figures/strength.png").is_file()
    first, tuned = (names["sgdlit"].load_run(f"logs/{name}/version_0") for name in ("one", "tuned"))
    assert tuned.network().first.weight.equal(first.network().first.weight)
    assert not tuned.network().last.weight.equal(first.network().last.weight)
    assert {"test/by_class_1", "test/calibration"} <= set(tuned.metrics)
    assert list((tuned.folder / "measures" / "test_confusion").glob("*.npy"))
