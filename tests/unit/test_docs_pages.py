"""The smallest part of the pages that show jobs; all of them: tests/long/test_all_of_the_docs_pages.py."""

from docs_pages import run_page


def test_the_first_cells_of_the_notebook(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = run_page("notebook.md", ["Data, a run", "Predictions"])
    assert names["guess"].shape == names["targets"].shape == (200,)
