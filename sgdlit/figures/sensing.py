"""The error of a run on matrix sensing over the samples that it has seen, beside the baseline."""

from typing import TYPE_CHECKING

from sgdlit.figures.style import COLORS, finish, panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from sgdlit.runs.outcomes import Columns
    from sgdlit.runs.reading import Run

# Minimum-norm least squares, which has no prior on the rank, from half as many measurements as T has
# entries: it finds the projection of T on a random half of the space, and misses √½ of its norm.
BASELINE = 0.5**0.5

_SAMPLES = "sensing/samples"
_ERRORS = {
    "sensing/relative_error": ("‖M − T‖ / ‖T‖", BASELINE, "0.707"),
    "sensing/relative_squared_error": ("Σ(y − p)² / Σy², unseen minibatches", BASELINE**2, "0.707² = 0.5"),
}


def draw(run: "Run") -> "Figure | None":
    """Error over samples with the least-squares baseline and, where there are any, the singular values of the
    network's matrix with those of T as lines; of an ensemble, the errors of all members and the values of the
    first. None where the run has no report of matrix sensing."""
    tables = [member.columns for member in run.members]
    name = next((name for name in _ERRORS if any(name in columns for columns in tables)), None)
    if name is None:
        return None
    spectra = "sensing/singular_value_1" in tables[0]
    figure, axes = panels(1, 2 if spectra else 1, width=5.2, height=3.8)
    label, baseline, value = _ERRORS[name]
    several = len(tables) > 1
    for k, columns in enumerate(tables):
        named = f"{len(tables)} trained networks" if several else "trained network"
        axes[0].plot(columns[_SAMPLES][1], columns[name][1], color=COLORS[0], alpha=0.4 if several else 1,
                     label=named if k == 0 else None)  # fmt: skip
    axes[0].axhline(baseline, color=COLORS[6], linestyle="--", linewidth=1,
                    label=f"least squares, d²/2 samples: {value}")  # fmt: skip
    finish(axes[0], "Matrix sensing", "samples seen, each once", label, log="y")
    if spectra:
        _draw_spectra(axes[1], tables[0])
    return figure


def _draw_spectra(ax: "Axes", columns: "Columns") -> None:
    samples = dict(zip(*(part.tolist() for part in columns[_SAMPLES]), strict=True))
    count = sum(name.startswith("sensing/singular_value_") for name in columns)
    for k in range(1, count + 1):
        color = COLORS[(k - 1) % len(COLORS)]
        steps, values = columns[f"sensing/singular_value_{k}"]
        seen = [samples[step] for step in steps.tolist()]
        ax.plot(seen, values, color=color, marker=".", label=f"σ{k} of the network")
        target = columns[f"sensing/target_singular_value_{k}"][1][0]
        ax.axhline(target, color=color, linestyle="--", linewidth=1)
    finish(ax, "Singular values (dashed: those of T)", "samples seen, each once", "singular value", log="")
