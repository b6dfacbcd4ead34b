"""Corrupted inputs, as a function of (seed, example): each example is corrupted once and stays so."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor

from sgdlit.foundations.errors import UserError
from sgdlit.foundations.philox import Key, derive_key, integers, normal, permutation, uniform

_AT_A_TIME = 2**22  # numbers


class Corruption(ABC):
    """A share of the inputs, chosen example by example, is corrupted.

    Bytes stay bytes: they are rounded, and kept within 0 to 255.

    Args:
        share: probability that an example is corrupted.
        seed: of what is drawn; None takes that of the data.
        everywhere: whether validation and test inputs are corrupted as well; they are clean otherwise.

    Raises:
        UserError: a share not in [0, 1]; inputs that cannot be corrupted in this way.
    """

    small: ClassVar[tuple[dict[str, Any], ...]] = ({"share": 0.5},)

    def __init__(self, share: float = 1.0, seed: int | None = None, everywhere: bool = False) -> None:
        if not 0 <= share <= 1:
            raise UserError(f"data.corruption.share: {share} is not possible; allowed: 0 to 1")
        self.share, self.seed, self.everywhere = share, seed, everywhere

    @property
    def description(self) -> str:
        """Equal for corruptions that are the same, given the data's seed."""
        own = ", ".join(f"{name}={value}" for name, value in sorted(vars(self).items()))
        return f"{type(self).__name__}({own})"

    def concerns(self, split: str) -> bool:
        """Whether the inputs of a split (``train``, ``val``, ``test``) are corrupted."""
        return split == "train" or self.everywhere

    def apply(self, index: Tensor, inputs: Tensor, seed: int, split: str = "train") -> Tensor:
        """The inputs, some of them corrupted, of the same type.

        Args:
            index: numbers of the examples, int64 ``[n]``.
            inputs: ``[n, ...]``.
            seed: that of the data.
            split: of which the examples are.
        """
        if not inputs.is_floating_point() and inputs.dtype != torch.uint8:
            raise UserError(
                f"data.corruption: inputs of type {inputs.dtype} are no numbers to be corrupted; allowed: "
                "bytes, or real numbers"
            )
        key = derive_key(seed if self.seed is None else self.seed, f"corruption {split}")
        at_a_time = max(1, _AT_A_TIME // max(1, inputs[:1].numel()))
        parts = zip(index.split(at_a_time), inputs.split(at_a_time), strict=True)
        return torch.cat([self._part(key, *part) for part in parts]) if len(inputs) else inputs

    def _part(self, key: Key, index: Tensor, inputs: Tensor) -> Tensor:
        chosen = uniform(key, index, 1, dtype=torch.float64).squeeze(-1) < self.share
        changed = self.corrupted(key, index[chosen], inputs[chosen])
        if inputs.dtype == torch.uint8 and changed.is_floating_point():
            changed = changed.round().clamp(0, 255)
        result = inputs.clone()
        result[chosen] = changed.to(inputs.dtype)
        return result

    @abstractmethod
    def corrupted(self, key: Key, index: Tensor, inputs: Tensor) -> Tensor:
        """What these inputs ``[n, ...]`` become; draws use substreams from 1 on."""


class GaussianNoise(Corruption):
    """Independent normal noise on every number of an input.

    Args:
        std: its standard deviation, in units of the inputs; of bytes as a part of the range 0 to 255.
        corruption: see :class:`Corruption`.
    """

    small = ({"std": 0.1},)

    def __init__(self, std: float, **corruption: Any) -> None:
        super().__init__(**corruption)
        if not 0 < std < float("inf"):
            raise UserError(f"data.corruption.std: {std} is not possible; allowed: a number above 0")
        self.std = std

    def corrupted(self, key: Key, index: Tensor, inputs: Tensor) -> Tensor:
        noise = normal(key, index, inputs[:1].numel(), substream=1).reshape(inputs.shape)
        unit = 255.0 if inputs.dtype == torch.uint8 else 1.0
        return inputs.to(noise.dtype) + unit * self.std * noise


class ShuffledPixels(Corruption):
    """The numbers of an input change places; of images, all channels of a pixel together.

    Args:
        alike: whether all examples are shuffled alike, or each in its own way (Zhang et al. 2017, 1611.03530:
            "shuffled pixels" and "random pixels").
        corruption: see :class:`Corruption`.
    """

    small = ({}, {"alike": False})

    def __init__(self, alike: bool = True, **corruption: Any) -> None:
        super().__init__(**corruption)
        self.alike = alike

    def corrupted(self, key: Key, index: Tensor, inputs: Tensor) -> Tensor:
        image = inputs.dim() == 4
        flat = inputs.flatten(2) if image else inputs.flatten(1).unsqueeze(1)
        places = flat.shape[-1]
        if self.alike:
            moved = flat[..., permutation(key, places, substream=2).to(inputs.device)]
        else:
            order = uniform(key, index, places, substream=1, dtype=torch.float64).argsort(-1)
            moved = flat.gather(-1, order.unsqueeze(1).expand_as(flat))
        return moved.reshape(inputs.shape)


class Occlusion(Corruption):
    """A square of each image is black.

    Args:
        side: of the square, in pixels.
        corruption: see :class:`Corruption`.
    """

    small = ({"side": 2},)

    def __init__(self, side: int, **corruption: Any) -> None:
        super().__init__(**corruption)
        if side < 1:
            raise UserError(f"data.corruption.side: {side} is not possible; allowed: 1 or more")
        self.side = side

    def corrupted(self, key: Key, index: Tensor, inputs: Tensor) -> Tensor:
        if inputs.dim() != 4 or self.side > min(inputs.shape[2:]):
            shape = tuple(inputs.shape[1:])
            raise UserError(
                f"data.corruption.side: {self.side} for inputs of shape {shape}; allowed: images [C, H, W] "
                "at least as large"
            )
        height, width = inputs.shape[2:]
        top = integers(key, index, 1, height - self.side + 1, substream=1)
        left = integers(key, index, 1, width - self.side + 1, substream=2)
        y, x = torch.arange(height, device=index.device), torch.arange(width, device=index.device)
        rows, columns = (y >= top) & (y < top + self.side), (x >= left) & (x < left + self.side)
        return inputs.masked_fill((rows.unsqueeze(2) & columns.unsqueeze(1)).unsqueeze(1), 0)
