"""Shapes, the built-in images: pictures 3x32x32 in ten classes, made from a key; nothing to fetch.

A picture shows one patterned shape. Its class is the pair (pattern, shape): each of five patterns goes with
two shapes and each of five shapes with two patterns, so reading only one of the two leaves a choice of two
classes. Colour, brightness, contrast, place and size are drawn alike in every class; the shapes have equal
area and the patterns equal mean and variance. Difficulty comes from pose (place, scale, rotation, stretch),
hue, a shaded and patterned ground, clutter behind and in front of the shape, exposure and pixel noise.
Labels carry no noise.

Example ``i`` is a pure function of (key, i): a finite shard is a range of indices, a stream is a range
without an end. Per pixel only correctly rounded operations are used (+, −, ×, ÷, √, floor), and
no division by a constant, which GPUs turn into a product; sines and exponentials are taken once per picture,
in float64, and rounded to float32. So what else is in the call cannot change a bit, and the device could only
where its float64 sine differs by enough to survive the rounding.
"""

import math
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sgdlit.data.image_shards import ImageShards
from sgdlit.data.shards import PerChannel, Shard, Subset, averaged, whole
from sgdlit.foundations.errors import UserError
from sgdlit.foundations.philox import Key, derive_key, integers, uniform, words
from sgdlit.foundations.progress import track

SHAPE_NAMES = ("disc", "star", "square", "cross", "triangle")
PATTERN_NAMES = ("striped", "checked", "dotted", "tiled", "shaded")
# Each pattern on two shapes and each shape with two patterns; shapes that share a pattern look least alike.
_CLASSES = tuple((pattern, shape % 5) for pattern in range(5) for shape in (pattern, pattern + 1))
CLASS_NAMES = tuple(f"{PATTERN_NAMES[pattern]} {SHAPE_NAMES[shape]}" for pattern, shape in _CLASSES)
CHANNELS, SIZE = 3, 32

_LABEL, _SCENE, _NOISE = 0, 1, 2  # Philox substreams
_CHUNK = {"cpu": 64}  # pictures drawn at a time: fits the cache of one core
_CHUNK_ELSEWHERE = 4096  # few launches, about 1 GB of temporaries

_BEHIND, _IN_FRONT = 3, 2  # pieces of clutter
_RADIUS = (7.5, 11.0)  # radius in pixels of the disc of the shape's area
_OFFSET = 4.5  # largest distance of the centre from the middle, per axis, in pixels
_STRETCH = 0.12  # log of the largest ratio between an axis and the mean axis
_PERIOD = (4.5, 7.5)  # of the patterns, in pixels
_LEVELS = (0.8, 0.5, 0.2)  # mean lightness of the pattern's two colours and of the ground
_TINT = 0.5  # width of the uniform colour added to them, per channel
_SHADING = 0.12  # of the ground, at its strongest
_BACKDROP = 0.1  # largest amplitude of the ground's own pattern
_CONTRAST = (0.5, 1.0)
_NOISE_AMPLITUDE = (0.03, 0.18)  # half-width of the uniform pixel noise; the full range of a pixel is 1


class _Outline(NamedTuple):
    """A shape as an inequality: with r = |q| and (c, s) the coordinates of q along and across the nearest of
    ``fold`` equally spaced axes, the inside is {along·c + across·s + radial·r < reach and s < arm}."""

    fold: int
    along: float
    across: float
    radial: float
    reach: float
    arm: float = 1e3


def _star(inner_ratio: float) -> _Outline:
    """The five-pointed star of area π whose inner vertices lie at ``inner_ratio`` of the outer radius."""
    tip = math.sqrt(math.pi / (5 * inner_ratio * math.sin(math.pi / 5)))
    inner = inner_ratio * tip
    edge = (tip * math.cos(math.pi / 5) - inner, tip * math.sin(math.pi / 5))
    along, across = edge[1] / math.hypot(*edge), -edge[0] / math.hypot(*edge)
    return _Outline(5, along, across, 0.0, along * inner)


def _cross(arm_ratio: float) -> _Outline:
    """The plus sign of area π whose arms are ``arm_ratio`` times as wide as long."""
    length = math.sqrt(math.pi / (8 * arm_ratio - 4 * arm_ratio**2))
    return _Outline(4, 1.0, 0.0, 0.0, length, arm_ratio * length)


# In the order of SHAPE_NAMES, each of area π.
_OUTLINES = (
    _Outline(5, 0.0, 0.0, 1.0, 1.0),
    _star(0.45),
    _Outline(4, 1.0, 0.0, 0.0, math.sqrt(math.pi) / 2),
    _cross(0.34),
    _Outline(3, 1.0, 0.0, 0.0, math.sqrt(math.pi / math.sqrt(27))),
)


def draw(key: Key, index: Tensor, difficulty: float = 1.0) -> tuple[Tensor, Tensor]:
    """The pictures and labels of the given examples of one distribution.

    Args:
        key: from :func:`sgdlit.foundations.philox.derive_key`; another key is another, independent sequence.
        index: int64 [n], values >= 0, in any order, with or without repetitions. Its device does the work.
        difficulty: part of the whole range that pose, ground, clutter, exposure and noise take, 0 to 1; at 0
            shapes stand upright in the middle of an even ground.

    Returns:
        images, uint8 [n, 3, 32, 32], and labels, int64 [n], uniform over ``range(len(CLASS_NAMES))``.

    Raises:
        UserError: ``index`` is not int64 or not 1-d.
    """
    if index.ndim != 1 or index.dtype != torch.int64:
        raise UserError(
            f"draw: index is {index.dtype} of shape {tuple(index.shape)}; allowed: torch.int64 [n]"
        )
    labels = _labels(key, index)
    images = torch.empty(len(index), CHANNELS, SIZE, SIZE, dtype=torch.uint8, device=index.device)
    chunk = _CHUNK.get(index.device.type, _CHUNK_ELSEWHERE)
    for start in range(0, len(index), chunk):
        part = slice(start, start + chunk)
        images[part] = _draw_chunk(key, index[part], labels[part], difficulty).unflatten(-1, (SIZE, SIZE))
    return images, labels


def _labels(key: Key, index: Tensor) -> Tensor:
    return integers(key, index, 1, len(CLASS_NAMES), _LABEL).squeeze(-1)


def _draw_chunk(key: Key, index: Tensor, label: Tensor, difficulty: float) -> Tensor:
    """uint8 [n, 3, 1024]: the layers from back to front, then exposure and noise."""
    sizes = (6, 4, 6, 5 * (_BEHIND + _IN_FRONT), 12, 2, 5)
    drawn = uniform(key, index, sum(sizes), _SCENE).split(sizes, -1)
    pose, pattern, backdrop, pieces, colours, shading, exposure = drawn
    x, y = _grid(index.device)
    kind, shape = torch.tensor(_CLASSES, device=index.device)[label].unbind(-1)

    offset = difficulty * _OFFSET
    dx, dy = x - _between(pose[:, :1], -offset, offset), y - _between(pose[:, 1:2], -offset, offset)
    object_mask = _shape_mask(dx, dy, pose[:, 2:], shape, difficulty)
    object_wave = _wave(dx, dy, pattern, kind)
    other_wave = _wave(x, y, backdrop[:, :4], (backdrop[:, 4] * len(PATTERN_NAMES)).long())
    cover = difficulty * _piece_masks(x, y, pieces.unflatten(-1, (-1, 5)))
    light, dark, ground, clutter = _palette(colours)

    ramp = (difficulty * _SHADING) * _ramp(x, y, shading)
    relief = ramp + ((difficulty * _BACKDROP) * backdrop[:, 5:]) * other_wave
    image = ground + relief.unsqueeze(1)
    image = _over(image, cover[:, :_BEHIND].amax(1), _mix(clutter, dark, other_wave))
    image = _over(image, object_mask, _mix(dark, light, object_wave))
    image = _over(image, cover[:, _BEHIND:].amax(1), clutter)
    return _expose(image, exposure, _noise(key, index), difficulty)


def _grid(device: torch.device) -> tuple[Tensor, Tensor]:
    """Coordinates of the pixels' centres from the picture's middle, in pixels: two of [1024], row by row."""
    line = torch.arange(SIZE, dtype=torch.float32, device=device) - (SIZE - 1) / 2
    return line.repeat(SIZE), line.repeat_interleave(SIZE)


def _between(u: Tensor, low: float, high: float) -> Tensor:
    return low + (high - low) * u


def _direction(turns: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine of an angle in turns, computed in float64 and rounded to float32."""
    angle = turns.double() * (2 * math.pi)
    return torch.cos(angle).to(turns.dtype), torch.sin(angle).to(turns.dtype)


def _shape_mask(x: Tensor, y: Tensor, pose: Tensor, shape: Tensor, difficulty: float) -> Tensor:
    """Coverage of each pixel by the shape, in [0, 1].

    Args:
        x, y: coordinates from the shape's centre in pixels, [n, 1024].
        pose: uniforms [n, 4]: size, rotation, axis and amount of the stretch.
        shape: number of the shape, int64 [n].
        difficulty: see :func:`draw`.
    """
    outline = torch.tensor(_OUTLINES, dtype=torch.float32, device=x.device)[shape]
    fold, along, across, radial, reach, arm = outline.unsqueeze(-1).unbind(1)
    size, turn, axis, stretch = pose.unsqueeze(-1).unbind(1)
    middle, reach_of_sizes = sum(_RADIUS) / 2, difficulty * (_RADIUS[1] - _RADIUS[0]) / 2
    radius = _between(size, middle - reach_of_sizes, middle + reach_of_sizes)
    stretched, turn, axis = difficulty * _STRETCH, difficulty * turn, difficulty * axis
    factor = torch.exp(_between(stretch, -stretched, stretched).double()).float()
    cos, sin = _direction(axis)
    qx, qy = (cos * x + sin * y) * (factor / radius), (cos * y - sin * x) / (factor * radius)

    spokes = torch.arange(5, device=x.device) / fold + turn
    cos, sin = _direction(spokes)
    c = cos[:, :1] * qx + sin[:, :1] * qy
    for k in range(1, 5):
        c = torch.maximum(c, cos[:, k : k + 1] * qx + sin[:, k : k + 1] * qy)
    r2 = qx * qx + qy * qy
    s = (r2 - c * c).clamp_min_(0).sqrt_()
    level = torch.maximum(along * c + across * s + radial * r2.sqrt_() - reach, s - arm)
    return (0.5 - level * radius).clamp_(0, 1)


def _triangle_wave(phase: Tensor) -> Tensor:
    """A wave of period 1 that runs linearly between −1 and 1."""
    return (phase - phase.floor()).sub_(0.5).abs_().mul_(4).sub_(1)


def _wave(x: Tensor, y: Tensor, pattern: Tensor, kind: Tensor) -> Tensor:
    """The pattern ``kind`` [n], of mean 0 and equal variance within a few percent: [n, 1024].

    All but the shading are two-valued with soft edges; offsets and factors make up for their unequal areas.

    Args:
        x, y: coordinates in pixels, [1024] or [n, 1024].
        pattern: uniforms [n, 4]: direction, period and two phases.
        kind: the pattern's number, int64 [n].
    """
    turn, period, phase_1, phase_2 = pattern.unsqueeze(-1).unbind(1)
    kind, period = kind.unsqueeze(-1), _between(period, *_PERIOD)
    cos, sin = _direction(turn)
    along, across = cos * x + sin * y, cos * y - sin * x
    first, second = _triangle_wave(along / period + phase_1), _triangle_wave(across / period + phase_2)
    edge = period * (1 / 3)
    striped = (first * edge).clamp_(-1, 1)
    checked = (first * second * (1.5 * edge)).clamp_(-1, 1) * 1.2
    dotted = ((first + second + 0.45) * (0.7 * edge)).clamp_(-1, 1) * 1.15 - 0.41
    tiled = 0.39 - ((torch.minimum(first, second) + 0.6) * edge).clamp_(-1, 1) * 1.27
    shaded = (along * 0.19).clamp_(-1.7, 1.7)
    wave = striped
    for number, other in enumerate((checked, dotted, tiled, shaded), start=1):
        wave = torch.where(kind == number, other, wave)
    return wave


def _piece_masks(x: Tensor, y: Tensor, pieces: Tensor) -> Tensor:
    """Coverage by rotated rectangles, [n, pieces, 1024] in [0, 1], from uniforms [n, pieces, 5]."""
    centre_x, centre_y, turn, length, width = pieces.unsqueeze(-1).unbind(2)
    dx, dy = x - _between(centre_x, -15, 15), y - _between(centre_y, -15, 15)
    cos, sin = _direction(turn)
    u = (cos * dx + sin * dy).abs_() - _between(length, 2.5, 8)
    v = (cos * dy - sin * dx).abs_() - _between(width, 0.8, 2.6)
    return (0.5 - torch.maximum(u, v)).clamp_(0, 1)


def _ramp(x: Tensor, y: Tensor, shading: Tensor) -> Tensor:
    """A linear shading over the picture, [n, 1024], about [−1, 1] at its strongest, from uniforms [n, 2]."""
    turn, strength = shading.unsqueeze(-1).unbind(1)
    cos, sin = _direction(turn)
    return (cos * x + sin * y) * (strength / (SIZE / 2))


def _palette(colours: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Four colours, each [n, 3, 1], from uniforms [n, 12]: two of the pattern, the ground's, the clutter's.

    The pattern is on average lighter than the ground, in every class alike; hues are free.
    """
    *layers, clutter = colours.unflatten(-1, (4, CHANNELS)).unsqueeze(-1).unbind(1)
    light, dark, ground = (level + _TINT * (u - 0.5) for level, u in zip(_LEVELS, layers, strict=True))
    return light, dark, ground, clutter


def _mix(first: Tensor, second: Tensor, wave: Tensor) -> Tensor:
    """The first colour where the wave is −1, the second where it is 1: [n, 3, 1024]."""
    return first + (second - first) * (0.5 + 0.5 * wave).unsqueeze(1)


def _over(image: Tensor, mask: Tensor, colour: Tensor) -> Tensor:
    return image + mask.unsqueeze(1) * (colour - image)


def _noise(key: Key, index: Tensor) -> Tensor:
    """One random byte per value, float32 [n, 3, 1024], scaled to [−1, 1]."""
    drawn = words(key, index, CHANNELS * SIZE * SIZE // 4, _NOISE).int()  # the same bits in half the memory
    parts = [((drawn >> shift) & 0xFF) for shift in (0, 8, 16, 24)]
    return torch.cat(parts, -1).unflatten(-1, (CHANNELS, -1)).float().sub_(127.5).mul_(1 / 127.5)


def _expose(image: Tensor, exposure: Tensor, noise: Tensor, difficulty: float) -> Tensor:
    """Contrast and brightness per picture (uniforms ``exposure`` [n, 5]), then noise, then uint8."""
    contrast, amplitude, brightness = exposure.unsqueeze(-1).split((1, 1, CHANNELS), 1)
    contrast = _between(contrast, 1 - difficulty * (1 - _CONTRAST[0]), _CONTRAST[1])
    image = contrast * image + (1 - contrast) * brightness
    image = image + difficulty * _between(amplitude, *_NOISE_AMPLITUDE) * noise
    return (image * 255).round_().clamp_(0, 255).to(torch.uint8)


def check(difficulty: float, pool: int) -> None:
    """Refuse a difficulty outside of 0 to 1, and squares of pixels whose side is not 1, 2 or 4.

    Raises:
        UserError: one of these.
    """
    if not 0 <= difficulty <= 1:
        raise UserError(f"difficulty: {difficulty} is not allowed; allowed: 0 to 1")
    if pool not in (1, 2, 4):
        raise UserError(f"pool: {pool} is not allowed; allowed: 1, 2 or 4")


class Shapes(ImageShards):
    """A finite shard of the built-in image distribution (:func:`draw`), 3x32x32, ten classes.

    Training, validation and test examples are three independent draws, so the training set of a smaller size
    is the beginning of that of a larger one, and the test set is the same for all.

    Args:
        train_size: number of training examples.
        test_size: number of test examples.
        data_seed: which draw of the distribution.
        difficulty: see :func:`draw`.
        pool: side of the squares of pixels that are averaged into one: 1, 2 or 4.
        shard: see :class:`ImageShards`.

    Raises:
        UserError: a size that is not possible; equal numbers per class, where labels are drawn; a difficulty
            outside of 0 to 1; squares that are none of these.
    """

    small = (
        {"train_size": 40, "test_size": 12},
        {"train_size": 40, "test_size": 12, "pool": 2, "difficulty": 0.5},
    )
    train_size: int  # never None: there is no pool of which it could be the rest

    def __init__(
        self,
        train_size: int = 50000,
        test_size: int = 10000,
        data_seed: int = 0,
        difficulty: float = 1.0,
        pool: int = 1,
        **shard: Any,
    ) -> None:
        super().__init__(train_size=train_size, **shard)
        check(difficulty, pool)
        self.test_size, self.data_seed, self.difficulty, self.pool = test_size, data_seed, difficulty, pool

    @property
    def source(self) -> dict[str, Any]:
        own = {"test_size": self.test_size, "data_seed": self.data_seed}
        return super().source | own | {"difficulty": self.difficulty, "pool": self.pool}

    def read_splits(self) -> dict[str, Subset]:
        sizes = {"train": self.train_size, "val": self.val_size, "test": self.test_size}
        for name, size in sizes.items():
            if size < (name != "val"):
                raise UserError(f"data.{name}_size: {size}; allowed: {int(name != 'val')} or more")
        if self.balanced:
            raise UserError(
                "data.balanced: true is not possible with Shapes, whose labels are drawn; allowed: false"
            )
        self.check_classes(len(CLASS_NAMES))
        return {name: whole(self._draw(name, size)) for name, size in sizes.items()}

    def _draw(self, name: str, size: int) -> Shard:
        key = derive_key(self.data_seed, f"shapes {name}")
        chunks = self._chosen(name, size, key).split(2000)
        made = track(chunks, f"drawing {size} {name} images")
        images, labels = zip(*(draw(key, chunk, self.difficulty) for chunk in made), strict=True)
        whole_images = torch.cat(images)
        if self.pool > 1:
            whole_images = averaged(whole_images, self.pool)
        return Shard(whole_images, self.selection.relabelled(torch.cat(labels)))

    def _chosen(self, name: str, size: int, key: Key) -> Tensor:
        """The first examples of the classes that there are to be, thinned out where they train: int64
        ``[size]``."""
        looked_at = size
        while True:
            index = torch.arange(looked_at, device=self.device)
            if not self.selection.description:
                return index
            labels = self.selection.relabelled(_labels(key, index))
            kept = index[self.selection.thinned(labels) if name == "train" else labels >= 0]
            if len(kept) >= size:
                return kept[:size]
            looked_at *= 2

    def state_dict(self) -> dict[str, Any]:
        own = {"data_seed": self.data_seed, "difficulty": self.difficulty, "pool": self.pool}
        return super().state_dict() | own

    @cached_property
    def standardise(self) -> PerChannel:
        return PerChannel(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
