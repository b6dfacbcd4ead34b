"""The works that ``scripts/bench.py`` times, a file for each question."""
