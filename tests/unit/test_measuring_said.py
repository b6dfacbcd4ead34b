"""What Measures says at the end: members that diverged are left out of means."""

import pytest

from sgdlit.cli.measure import main
from sgdlit.foundations.errors import UserError
from sgdlit.training.measuring import Measures

NAN = float("nan")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([NAN, 1.0, 3.0], "relative error 2 (1 to 3 of 2 members) after 7 steps"),
        ([NAN], "relative error nan after 7 steps"),
    ],
)
def test_members_that_diverged_are_left_out(values, said, capsys):
    rows = {k: {"sensing/relative_error": value} for k, value in enumerate(values)}
    Measures(["basic"])._say("sensing/relative_error", rows, 7)
    assert said in "".join(capsys.readouterr())


def test_a_mistyped_landscape_is_named():
    with pytest.raises(UserError, match=r"^barier: not understood; did you mean barrier\?"):
        main(["barier", "--run", "x"])
