"""Every block of the pages that show jobs, as a person would run them."""

from collections import Counter
from pathlib import Path

import pytest
from docs_blocks import PAGES, commands, run_page
from official_formats import write_fashion_mnist

from sgdlit import load_sweep
from sgdlit.cli.without_running import parse_fit
from sgdlit.config.shipped import find, with_paths
from sgdlit.foundations.files import read_table

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
    run_page("howto.md", ["Test accuracy over", "The same with wrong labels", "Two sweeps"], SMALLER)
    for name in ("rates", "rates_noisy"):
        assert Path(f"sweeps/{name}/figures/rate.png").is_file()
        assert len(list(Path(f"sweeps/{name}/runs").glob("*.json"))) == 5 * 2
    assert Path("sweeps/rates_noisy/figures/both.png").is_file()
    drawn = read_table(Path("sweeps/rates_noisy/figures/both.csv"))
    assert Counter(row["curve"] for row in drawn) == {"all examples": 5, "5000, a fifth of them wrong": 5}
    for label, name in (("all examples", "rates"), ("5000, a fifth of them wrong", "rates_noisy")):
        alone = read_table(Path(f"sweeps/{name}/figures/rate.csv"))
        together = [row for row in drawn if row["curve"] == label]
        assert [row["center"] for row in together] == [row["center"] for row in alone]


def test_the_edge_of_stability():
    """The sharpness of full-batch descent ends at 2/ε = 8 (Cohen et al. 2021), that of SGD below."""
    run_page("howto.md", ["The edge of stability"], QUIET)
    assert Path("sweeps/edge/figures/edge.png").is_file()
    descent, sgd = load_sweep("sweeps/edge").statistics("measure/sharpness")["center"]
    assert descent == pytest.approx(8, rel=0.01)
    assert sgd < 4


def test_jobs_on_own_data():
    names = run_page("howto.md", ["Own data", "Predictions", "Fine-tuning"], QUIET)
    assert Path("sweeps/strengths/figures/strength.png").is_file()
    first, tuned = (names["sgdlit"].load_run(f"logs/{name}/version_0") for name in ("one", "tuned"))
    assert tuned.network().first.weight.equal(first.network().first.weight)
    assert not tuned.network().last.weight.equal(first.network().last.weight)
    assert {"test/by_class_1", "test/calibration"} <= set(tuned.metrics)
    assert list((tuned.folder / "measures" / "test_confusion").glob("*.npy"))


def _fits() -> list[tuple[str, ...]]:
    """The arguments of every ``fit`` of shipped configs that pages show, with nothing of the reader's own."""
    pages = [page for page in PAGES if page.name != "adding.md"]  # which has a test
    found = [command.words for page in pages for command in commands(page)]
    words = dict.fromkeys(tuple(words[1:]) for words in found if words[0] == "fit")
    own = ("--help", "--resume", "base.yaml", "tune.yaml", "mypackage", "mine.", "this")
    return [each for each in words if not any(part.startswith(own) for part in each)]


@pytest.mark.parametrize("arguments", _fits(), ids=" ".join)
def test_every_fit_that_a_page_shows_can_be_parsed(arguments):
    for package in ("dog", "pytorch_optimizer", "wandb", "mlflow"):
        if any(package in find(part).read_text() for part in arguments if find(part)):
            pytest.importorskip(package)
    parse_fit(with_paths([part.replace("$s", "0") for part in arguments]))
