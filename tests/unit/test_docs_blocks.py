"""The smallest part of the pages that show jobs; all of them: tests/long/test_docs_jobs.py."""

from docs_blocks import run_page


def test_the_first_cells_of_the_notebook(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = run_page("notebook.md", ["Data, a run", "Predictions"])
    assert names["guess"].shape == names["targets"].shape == (200,)
