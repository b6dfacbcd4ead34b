"""Does the claim hold? One file per paper: its claims, how each is checked, and the picture.

A file defines ``PAPER`` (:mod:`sgdlit.papers.paper`); ``python -m sgdlit reproduce`` finds it by itself. What
is computed at length stands in :mod:`sgdlit.theory`, what several papers read from runs in
:mod:`sgdlit.papers.support`.
"""
