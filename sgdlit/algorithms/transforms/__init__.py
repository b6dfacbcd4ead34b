"""What becomes of a gradient before the optimizer sees it: one transform per file.

A :class:`GradientTransform` looks at the examples of a step (:class:`Examples`: losses, targets, gradients)
and at its own state, and says what the optimizer receives. In a config it is ``model.transform``.
"""

from sgdlit.algorithms.transforms.adaptive_k import AdaptiveK
from sgdlit.algorithms.transforms.base import Examples, GradientTransform, State, TransformOfRun
from sgdlit.algorithms.transforms.bounded_noise import BoundedNoise
from sgdlit.algorithms.transforms.coordinate_clip import CoordinateClip
from sgdlit.algorithms.transforms.per_class import PerClassNormalisation
from sgdlit.algorithms.transforms.per_example_clip import PerExampleClip
from sgdlit.algorithms.transforms.top_share import TopShare

__all__ = [
    "AdaptiveK",
    "BoundedNoise",
    "CoordinateClip",
    "Examples",
    "GradientTransform",
    "PerClassNormalisation",
    "PerExampleClip",
    "State",
    "TopShare",
    "TransformOfRun",
]
