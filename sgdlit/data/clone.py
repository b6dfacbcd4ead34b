"""Gaussian clones: what a data set would be if only its means and covariances were known."""

from typing import Any, Literal

import torch
from torch import Tensor

from sgdlit.data.batches import Batch
from sgdlit.data.keyed_data import KeyedData, require
from sgdlit.data.streams import Split, StreamData
from sgdlit.foundations.errors import UserError
from sgdlit.foundations.exact_sums import on_grid
from sgdlit.foundations.philox import normal, uniform

_JITTER = 1e-3  # of the identity, added to each covariance before its Cholesky factor is taken


def class_moments(inputs: Tensor, labels: Tensor, isotropic: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Frequency, mean and Cholesky factor of the covariance of each class, float64 ``[k]``, ``[k, d]``,
    ``[k, d, d]``.

    Args:
        inputs: ``[n, d]``.
        labels: int64 ``[n]``, each class from 0 to k − 1 at least twice.
        isotropic: whether the covariance is the identity times the mean variance instead.
    """
    frequencies, means, factors = [], [], []
    for c in range(int(labels.max()) + 1):
        own = inputs[labels == c].double()
        mean = own.mean(0)
        apart = own - mean
        covariance = apart.T @ apart / max(1, len(own) - 1)
        eye = torch.eye(len(mean), dtype=torch.float64)
        if isotropic:
            covariance = covariance.diagonal().mean() * eye
        frequencies.append(len(own) / len(labels))
        means.append(mean)
        factors.append(torch.linalg.cholesky(covariance + _JITTER * covariance.diagonal().mean() * eye))
    return torch.tensor(frequencies, dtype=torch.float64), torch.stack(means), torch.stack(factors)


class GaussianClone(StreamData):
    """The classes of another data set as Gaussians with its means and covariances; tests are on the original.

    An example of class c is μ_c + L_c n, n ~ N(0, I), with L_c the Cholesky factor of the covariance of the
    class plus 1e-3 times its mean variance times the identity. Classes are as frequent as in the original.
    Validation and test sets are those of the original (Refinetti, Ingrosso & Goldt 2023, 2211.11567).

    Args:
        original: a labelled set of images, without augmentation, or a labelled stream, whose seed is 0
            unless it names one; its pixels are cloned as the network would see them.
        moments: ``covariance``, or ``isotropic``: the identity times the mean variance of the class.
        samples: training examples of the original from which the moments are estimated; None takes all of a
            finite set, and is not possible for a stream.
        clamp: whether clones stay within the least and the largest value of the samples, as pixels do.
        stream: see :class:`StreamData`.

    Raises:
        UserError: an original whose targets are no classes; a class with fewer than two samples; ``samples``
            that there are not.
    """

    key_name = "Gaussian clone"
    small = ()

    def __init__(
        self,
        original: KeyedData,
        moments: Literal["covariance", "isotropic"] = "covariance",
        samples: int | None = 100_000,
        clamp: bool = False,
        **stream: Any,
    ) -> None:
        super().__init__(**stream)
        require(moments in ("covariance", "isotropic"), "moments", moments, "covariance or isotropic")
        require(samples is None or samples >= 2, "samples", samples, "2 or more, or null")
        require(
            not isinstance(original, GaussianClone),
            "original",
            "GaussianClone",
            "data that is no clone itself",
        )
        self.original, self.moments, self.samples, self.clamp = original, moments, samples, clamp
        self._known: tuple[Tensor, ...] | None = None
        self._shape = torch.Size()

    @property
    def draws_per_example(self) -> int:
        return self._estimated()[1].shape[1]

    def describe(self) -> dict[str, Any]:
        own = {"moments": self.moments, "samples": self.samples, "clamp": self.clamp}
        return own | {"original": [type(self.original).__name__, str(self.original.source)]}

    def _estimated(self) -> tuple[Tensor, ...]:
        """Ends of the classes on [0, 1], means, factors, and the range of values."""
        if self._known is None:
            self.original.setup()
            try:
                indices = self.original.choose(self.samples, "clone")
            except UserError as error:
                raise UserError(f"data.samples: {error}") from error
            inputs, labels = self.original.chosen(indices, torch.device("cpu"))
            if labels.is_floating_point() or labels.dim() != 1:
                raise UserError("data.original: its targets are no classes; allowed: labelled data")
            if int(torch.bincount(labels).min()) < 2:
                raise UserError("data.samples: a class has fewer than two of them; allowed: more samples")
            self._shape = inputs.shape[1:]
            flat = inputs.flatten(1)
            frequencies, means, factors = class_moments(flat, labels, self.moments == "isotropic")
            limits = torch.stack([flat.min(), flat.max()])
            self._known = frequencies.cumsum(0), means, on_grid(factors), limits
        return self._known

    def draw(self, split: Split, index: Tensor) -> Batch:
        if split != "train":
            return self._original(split, index)
        ends, means, factors, limits = (part.to(index.device) for part in self._estimated())
        key = self.key(split)
        place = uniform(key, index, 1, substream=1, dtype=torch.float64).squeeze(-1)
        labels = torch.searchsorted(ends, place, right=True).clamp_max(len(ends) - 1)
        noise = on_grid(normal(key, index, means.shape[1], dtype=torch.float64))
        inputs = torch.empty_like(noise)
        for c in range(len(means)):
            own = labels == c
            inputs[own] = means[c] + noise[own] @ factors[c].T
        if self.clamp:
            inputs = inputs.clamp(float(limits[0]), float(limits[1]))
        return inputs.to(self.dtype).reshape(len(index), *self._shape), labels

    def _original(self, split: Split, index: Tensor) -> Batch:
        """Examples of an evaluation set of the original."""
        self._estimated()
        examples = self.original.examples(split, index.device)
        require(int(index.max()) < len(examples), f"{split}_size", int(index.max()) + 1,
                f"at most the {len(examples)} {split} examples of the original")  # fmt: skip
        inputs, targets = examples.take(index)
        return self.original.prepare(inputs).to(self.dtype), targets
