"""What all pictures share."""

import pytest

from sgdlit.figures.style import finish, panels


@pytest.mark.parametrize("label", [None, "found"])
def test_a_legend_where_there_is_a_label(label):
    """Without one matplotlib would warn, and a claim whose picture has one line would fail its test."""
    _, (ax,) = panels(1, 1)
    ax.plot([1, 2], [1, 2], label=label)
    finish(ax, "one line", "step", "loss")
    assert (ax.get_legend() is not None) == (label is not None)
