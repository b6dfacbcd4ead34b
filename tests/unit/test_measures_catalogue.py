"""The catalogue of measures: complete, true to the classes, and read without torch."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from cases import MEASURES

import sgdlit.measures
from sgdlit.cli.main import main
from sgdlit.measures import catalogue

CLASSES = {type(make()).__name__: type(make()) for make in MEASURES.values()}
ENTRIES = {entry.name: entry for entry in catalogue.entries()}
PAGE = (Path(__file__).parents[2] / "docs" / "measures.md").read_text(encoding="utf-8")


def test_it_has_every_measure():
    assert sorted(ENTRIES) == sorted(CLASSES)


@pytest.mark.parametrize("name", CLASSES)
def test_an_entry_is_what_the_class_says(name):
    entry, cls = ENTRIES[name], CLASSES[name]
    for key in ("formula", "answers", "price", "needs", "logged", "arrays"):
        assert getattr(entry, key) == getattr(cls, key)
    assert entry.formula
    assert entry.answers
    assert entry.price
    assert entry.logged
    assert cls.__module__ == f"sgdlit.measures.{entry.file}"


@pytest.mark.parametrize("name", CLASSES)
def test_the_page_names_it_and_what_it_logs(name):
    assert f"`{name}`" in PAGE
    for logged in (*ENTRIES[name].logged, *ENTRIES[name].arrays):
        assert f"`{logged}`" in PAGE


def test_the_command_shows_all_or_some_of_it(capsys):
    assert main(["measures"]) == 0
    said = capsys.readouterr().out
    assert all(f"\n{name}\n" in said for name in ENTRIES)
    assert main(["measures", "update_norm"]) == 0
    said = capsys.readouterr().out
    assert "θ_{t−1}" in said
    assert "\nDistance\n" not in said
    assert main(["measures", "UpdateNrom"]) == 2
    assert "did you mean UpdateNorm?" in capsys.readouterr().err


def test_it_is_read_without_torch():
    script = "import sys; from sgdlit.cli.main import main; main(['measures']); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("\nFalse\n")


def test_functions_come_from_the_folder_whatever_was_imported_before():
    script = (
        "import sgdlit.measures.singular_values, sgdlit.measures as m\n"
        "from sgdlit.measures import gradient_noise, singular_values, GradientNoise, effective_rank\n"
        "import sgdlit.measures.gradient_noise\n"
        "print(all(map(callable, (gradient_noise, singular_values, effective_rank, m.gradient_noise))))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
    with pytest.raises(AttributeError, match="no attribute 'sharpnes'"):
        sgdlit.measures.sharpnes  # noqa: B018
    assert "gradient_noise" in dir(sgdlit.measures)
    module = importlib.import_module("sgdlit.measures.gradient_noise")
    assert sgdlit.measures.gradient_noise is module.gradient_noise
