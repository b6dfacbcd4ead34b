"""Random crops and flips, on the device, as a pure function of (seed, minibatch, position in it).

The random numbers of many minibatches are made at once (a page), because a step's own share is far too small
to be worth a call of the generator.
"""

import torch
from torch import Tensor

from sgdlit.foundations.philox import derive_key, integers

_PAGE = 8192  # examples whose draws are made in one call of the generator


class CropAndFlip:
    """Zero-padding, a random crop of the old size, and a horizontal flip with probability ½.

    Args:
        padding: pixels added on each side (4 in Smith et al. 2021, the field's CIFAR-10 protocol).
        flip: whether images are flipped.
        seed: seed of the augmentation.
        batch_size: examples per minibatch: example j of minibatch v has the number v·batch_size + j.
    """

    def __init__(self, padding: int, flip: bool, seed: int, batch_size: int) -> None:
        self.padding, self.flip, self.batch_size = padding, flip, batch_size
        self._key = derive_key(seed, "augmentation")
        self._per_page = max(1, _PAGE // batch_size)
        self._page, self._shape, self._starts = -1, torch.Size(), torch.empty(0)

    def draws(self, first: int, count: int, device: torch.device | str = "cpu") -> Tensor:
        """Shift down, shift right (0 … 2·padding) and flip (0, 1) of some examples: int64 ``[count, 3]``."""
        index = torch.arange(first, first + count, device=device)
        shifts = integers(self._key, index, 2, 2 * self.padding + 1)
        flips = integers(self._key, index, 1, 2, substream=1) * int(self.flip)
        return torch.cat((shifts, flips), -1)

    def __call__(self, images: Tensor, starts: Tensor) -> Tensor:
        """Augment ``images`` ``[b, C, H, W]``, whose lines start at ``[b, C·H]``, by one indexing operation.

        Each image is laid out padded, as it is and mirrored; a line of the result is then ``W`` consecutive
        pixels from one of these.
        """
        p, (b, c, h, w) = self.padding, images.shape
        both = images.new_zeros(b, 2, c, h + 2 * p, w + 2 * p)
        both[:, 0, :, p : p + h, p : p + w] = images
        both[:, 1, :, p : p + h, p : p + w] = images.flip(-1)
        image = torch.arange(0, both.numel(), both.stride(0), device=images.device)
        lines = both.view(-1).as_strided((both.numel() - w + 1, w), (1, 1))
        return lines.index_select(0, (starts + image.unsqueeze(-1)).flatten()).view(images.shape)

    def line_starts(self, minibatch: int, shape: torch.Size, device: torch.device) -> Tensor:
        """Where each line of each example of a minibatch starts in its pair of padded images: ``[B, C·H]``.

        Args:
            minibatch: its number.
            shape: (C, H, W) of an image.
            device: where the images are.
        """
        page, place = divmod(minibatch, self._per_page)
        if (self._page, self._shape, self._starts.device) != (page, shape, device):
            count = self._per_page * self.batch_size
            down, right, flip = self.draws(page * count, count, device).unbind(-1)
            c, h, w = shape
            height, width = h + 2 * self.padding, w + 2 * self.padding
            corner = (flip * c * height + down) * width + right
            line = torch.arange(c, device=device).unsqueeze(-1) * height + torch.arange(h, device=device)
            self._starts = (corner.unsqueeze(-1) + line.flatten() * width).unflatten(0, (-1, self.batch_size))
            self._page, self._shape = page, shape
        return self._starts[place]
