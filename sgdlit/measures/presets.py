"""Sets of measures by name, and measures by the names that people type."""

from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, get_args

from sgdlit.foundations.errors import UserError, did_you_mean, with_allowed
from sgdlit.measures import catalogue

if TYPE_CHECKING:
    from sgdlit.measures.measure import Measure

PresetName = Literal["basic", "standard", "full"]

_Given = Mapping[str, dict[str, Any]]
_BASIC: _Given = {"Distance": {}, "UpdateNorm": {}, "WeightNorms": {}}
_STANDARD: _Given = {
    **_BASIC,
    "GradientNoise": {},
    "ExpectedCReg": {},
    "Sharpness": {},
    "Alignment": {},
    "StepRatio": {},
    "BatchSharpness": {"minibatches": 10},
}
_FULL: _Given = {
    **_STANDARD,
    "Sharpness": {"count": 5},
    "Alignment": {"count": 5},
    "Trace": {},
    "SpectralDensity": {},
}
PRESETS: Mapping[str, _Given] = {"basic": _BASIC, "standard": _STANDARD, "full": _FULL}
"""The arguments of each measure, by preset: ``basic`` costs no gradients, ``standard`` adds noise and
curvature, ``full`` further eigenvalues and the whole spectrum."""


def preset(name: str) -> "list[Measure]":
    """New measures of a preset.

    Raises:
        UserError: a name that there is not.
    """
    if name not in PRESETS:
        problem = f"measures: there is no preset called {name!r}{did_you_mean(name, PRESETS)}"
        raise UserError(with_allowed(problem, list(PRESETS)))
    made = []
    for measure, given in PRESETS[name].items():
        cls = getattr(import_module(_path(measure).rpartition(".")[0]), measure)
        made.append(cls(**given))
    return made


def measures_by_name(names: Iterable[str]) -> list[str]:
    """Presets as they are, and the class paths of measures.

    Args:
        names: presets, measures by their names (``BatchSharpness``, ``batch_sharpness`` or
            ``batchsharpness``), or class paths of others.

    Raises:
        UserError: a name that there is not.
    """
    return [_by_name(name) for name in names]


def _by_name(name: str) -> str:
    if name in get_args(PresetName) or "." in name:
        return name
    entries = catalogue.entries()
    known = [entry.name for entry in entries]
    spelled = {_plain(one): one for one in known}
    if _plain(name) in spelled:
        return _path(spelled[_plain(name)])
    allowed = [*get_args(PresetName), *known]
    logs = [entry.name for entry in entries if f"measure/{name}" in entry.logged]
    near = (
        f"; did you mean {logs[0]}?" if logs else did_you_mean(_plain(name), [_plain(one) for one in allowed])
    )
    for one in allowed:
        near = near.replace(f" {_plain(one)}?", f" {one}?")
    raise UserError(with_allowed(f"measures: there is none called {name!r}{near}", allowed))


def _plain(name: str) -> str:
    return name.replace("_", "").replace("-", "").lower()


def _path(name: str) -> str:
    return f"sgdlit.measures.{catalogue.homes()[name]}.{name}"
