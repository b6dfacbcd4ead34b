"""Teachers: distributions whose targets a known function makes, for students that learn it from a stream."""

import math
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor

from sgdlit.data.batches import Batch
from sgdlit.data.keyed_data import require
from sgdlit.data.sensing import signs
from sgdlit.data.spectra import Spectrum, eigenvalues
from sgdlit.data.streams import Split, StreamData, TeacherStream
from sgdlit.foundations.exact_sums import dot, grid_product, pairwise_sum
from sgdlit.foundations.philox import derive_key, integers, normal, permutation, uniform


class LinearTeacher(TeacherStream):
    """y = w*ᵀx + σ·noise with x ~ N(0, diag(λ)): inputs ``[n, d]``, targets ``[n]``.

    The teacher is scaled so that w*ᵀx has variance Σ λ_i w*_i² = 1, so σ² is the ratio of noise to signal.

    Args:
        d: number of inputs.
        spectrum: the eigenvalues λ of the covariance: ``isotropic`` λ_i = 1; ``power_law``
            λ_i = i^(−exponent), i = 1 … d; or a list of d numbers.
        exponent: of the power law; above 1, so that the eigenvalues sum to a trace that stays finite as d
            grows.
        nonzero: number of coordinates, at random places, on which w* is not zero, with the absolute values of
            normals; None for a normal w* on all.
        stream: see :class:`TeacherStream` and :class:`StreamData`.

    Raises:
        UserError: a spectrum that is not one of those, or that has no finite sum; ``nonzero`` not in 1 … d.
    """

    key_name = "linear teacher"
    small = ({"d": 50, "spectrum": "power_law", "label_noise": 0.5}, {"d": 50, "nonzero": 5})

    def __init__(
        self,
        d: int,
        spectrum: Spectrum | list[float] = "isotropic",
        exponent: float = 2.0,
        nonzero: int | None = None,
        **stream: Any,
    ) -> None:
        super().__init__(**stream)
        require(d >= 1, "d", d, "1 or more")
        require(nonzero is None or 1 <= nonzero <= d, "nonzero", nonzero, f"1 to d = {d}")
        finite = spectrum != "power_law" or exponent > 1
        require(finite, "exponent", exponent, "above 1 (the sum of i^-exponent is infinite otherwise)")
        self.d, self.spectrum, self.exponent, self.nonzero = d, spectrum, exponent, nonzero
        self.eigenvalues = torch.from_numpy(eigenvalues("data.spectrum", d, spectrum, exponent))
        require(bool(self.eigenvalues.sum() > 0), "spectrum", spectrum, "numbers with a positive sum")
        self.weights = self._teacher()
        self._std = self.eigenvalues.sqrt().to(self.dtype)

    def _teacher(self) -> Tensor:
        """w*, float64 ``[d]``."""
        weights = normal(self.teacher_key, torch.arange(1), self.d, dtype=torch.float64)[0]
        if self.nonzero is not None:
            chosen = permutation(self.teacher_key, self.d, substream=1)[: self.nonzero]
            weights = torch.zeros_like(weights).index_copy(0, chosen, weights[chosen].abs())
        signal = (self.eigenvalues * weights.square()).sum()
        require(bool(signal > 0), "spectrum", self.spectrum, "one under which the teacher's output varies")
        return weights / signal.sqrt()

    @property
    def draws_per_example(self) -> int:
        return self.d

    def describe(self) -> dict[str, Any]:
        return {
            "d": self.d,
            "spectrum": self.spectrum,
            "exponent": self.exponent,
            "nonzero": self.nonzero,
        }

    def draw(self, split: Split, index: Tensor) -> Batch:
        x = normal(self.key(split), index, self.d, dtype=self.dtype) * self._std.to(index.device)
        return x, self.noisy(split, index, dot(x, self.weights.to(x)))


class MLPTeacher(TeacherStream):
    """Targets from a random ReLU network f on x ~ N(0, I): inputs ``[n, widths[0]]``.

    The teacher's weights are N(0, 2/fan_in), in the first layer N(0, 1/fan_in), and it has no biases. It
    computes on numbers rounded to multiples of 2⁻¹⁶, whose sums are exact, so that its labels are the same on
    every device.

    Args:
        widths: sizes of the teacher's input, hidden layers and output.
        labels: ``value``: y = f(x) + σ·noise, ``[n]`` for one output, else ``[n, outputs]``, for
            half_squared_error; ``soft``: softmax(f(x)/temperature), ``[n, classes]``, for cross_entropy;
            ``hard``: a class drawn from that softmax, int64 ``[n]``, at temperature 0 the largest output.
        temperature: see ``labels``.
        stream: see :class:`TeacherStream` and :class:`StreamData`.

    Raises:
        UserError: fewer than two widths or one below 1; a single class; a temperature that ``labels`` does
            not allow; label noise where there is nothing to add it to.
    """

    key_name = "MLP teacher"
    small = (
        {"widths": [50, 40, 2], "label_noise": 0.1},
        {"widths": [50, 40, 5], "labels": "soft", "temperature": 0.5},
        {"widths": [50, 40, 5], "labels": "hard"},
    )

    def __init__(
        self,
        widths: list[int],
        labels: Literal["value", "soft", "hard"] = "value",
        temperature: float = 1.0,
        **stream: Any,
    ) -> None:
        super().__init__(**stream)
        require(len(widths) >= 2 and min(widths) >= 1, "widths", widths, "at least two sizes, each 1 or more")
        require(labels in ("value", "soft", "hard"), "labels", labels, "value, soft or hard")
        if labels != "value":
            require(widths[-1] >= 2, "widths", widths, f"2 or more outputs for labels: {labels}")
            require(self.label_noise == 0, "label_noise", self.label_noise,
                    f"0 for labels: {labels}; a temperature makes them noisy")  # fmt: skip
        coldest = "0 or more" if labels == "hard" else "above 0"
        warm = temperature > 0 or (labels == "hard" and temperature == 0)
        require(warm and temperature < float("inf"), "temperature", temperature, coldest)
        self.widths, self.labels, self.temperature = list(widths), labels, temperature
        self.layers = [
            normal(self.teacher_key, torch.arange(fan_out), fan_in, substream=layer, dtype=torch.float64)
            * math.sqrt((2 if layer else 1) / fan_in)
            for layer, (fan_in, fan_out) in enumerate(pairwise(self.widths))
        ]

    @property
    def draws_per_example(self) -> int:
        return sum(self.widths)

    def describe(self) -> dict[str, Any]:
        return {"widths": self.widths, "labels": self.labels, "temperature": self.temperature}

    def outputs(self, x: Tensor) -> Tensor:
        """f(x), float64 ``[n, widths[-1]]``."""
        for layer, weight in enumerate(self.layers):
            x = grid_product(x.relu() if layer else x, weight.to(x.device))
        return x

    def draw(self, split: Split, index: Tensor) -> Batch:
        x = normal(self.key(split), index, self.widths[0], dtype=self.dtype)
        outputs = self.outputs(x)
        if self.labels == "value":
            values = outputs.squeeze(-1) if self.widths[-1] == 1 else outputs
            return x, self.noisy(split, index, values.to(self.dtype))
        if self.labels == "soft":
            raised = ((outputs - outputs.amax(-1, keepdim=True)) / self.temperature).exp()
            return x, (raised / pairwise_sum(raised).unsqueeze(-1)).to(self.dtype)
        return x, (outputs + self.temperature * self._gumbel(split, index)).argmax(-1)

    def _gumbel(self, split: Split, index: Tensor) -> Tensor:
        """Standard Gumbel noise: the largest of logits plus it is a draw from their softmax."""
        key = derive_key(self.label_noise_seed, f"{self.key_name} {split} label noise")
        u = uniform(key, index, self.widths[-1], dtype=torch.float64) + 0.5 / 2**32
        return -torch.log(-torch.log(u))


class XOR(StreamData):
    """y = −x_i·x_j with x uniform on {±1}^d, for the logistic loss: inputs ``[n, d]``, targets ±1 ``[n]``.

    No single input and no linear function of them tells anything about y (Glasgow 2023, 2309.15111).

    Args:
        d: number of inputs, at least 2.
        i: first of the two inputs that decide.
        j: second of them.
        stream: see :class:`StreamData`.

    Raises:
        UserError: d below 2; i and j equal or not in 0 … d−1.
    """

    key_name = "XOR"
    small = ({"d": 70, "i": 3, "j": 5},)

    def __init__(self, d: int, i: int = 0, j: int = 1, **stream: Any) -> None:
        super().__init__(**stream)
        require(d >= 2, "d", d, "2 or more")
        for name, place in (("i", i), ("j", j)):
            require(0 <= place < d, name, place, f"0 to {d - 1}")
        require(i != j, "j", j, f"another input than i = {i}")
        self.d, self.i, self.j = d, i, j

    @property
    def draws_per_example(self) -> int:
        return self.d

    def describe(self) -> dict[str, Any]:
        return {"d": self.d, "i": self.i, "j": self.j}

    def draw(self, split: Split, index: Tensor) -> Batch:
        x = signs(self.key(split), index, self.d, self.dtype)
        return x, -x[:, self.i] * x[:, self.j]


class GaussianMixture(StreamData):
    """A class drawn from k, and x ~ N(μ_class, σ²I): inputs ``[n, d]``, targets int64 ``[n]``.

    Args:
        d: number of inputs.
        classes: k, at least 2.
        separation: length of each mean μ, whose direction is uniform on the sphere; for two classes μ and −μ.
        orthonormal: the directions are at right angles to each other instead, also those of two classes.
        variance: σ², of each input given the class.
        class_weights: how often each class is drawn, in proportion; None draws all alike.
        teacher_seed: a seed for the means alone; None takes ``data_seed``.
        stream: see :class:`StreamData`.

    Raises:
        UserError: fewer than two classes; a separation or variance that is not positive; more orthonormal
            means than inputs; weights that are not one positive number per class.
    """

    key_name = "Gaussian mixture"
    small = (
        {"d": 30, "classes": 3},
        {"d": 30, "classes": 3, "orthonormal": True, "variance": 0.1, "class_weights": [1, 2, 5]},
    )

    def __init__(
        self,
        d: int,
        classes: int = 2,
        separation: float = 2.0,
        orthonormal: bool = False,
        variance: float = 1.0,
        class_weights: list[float] | None = None,
        teacher_seed: int | None = None,
        **stream: Any,
    ) -> None:
        super().__init__(**stream)
        require(d >= 1, "d", d, "1 or more")
        require(classes >= 2, "classes", classes, "2 or more")
        require(0 < separation < float("inf"), "separation", separation, "a number above 0")
        require(not orthonormal or classes <= d, "classes", classes, f"at most d = {d} orthonormal means")
        require(0 < variance < float("inf"), "variance", variance, "a number above 0")
        fine = class_weights is None or (len(class_weights) == classes and min(class_weights) > 0)
        require(fine, "class_weights", class_weights, f"{classes} numbers above 0")
        self.d, self.classes, self.separation = d, classes, separation
        self.orthonormal, self.variance, self.class_weights = orthonormal, variance, class_weights
        self.teacher_seed = self.data_seed if teacher_seed is None else teacher_seed
        self.means = self._means().to(self.dtype)
        self._ends = torch.tensor(class_weights or [1.0] * classes, dtype=torch.float64).cumsum(0)

    def _means(self) -> Tensor:
        """μ of each class, float64 ``[k, d]``."""
        key = derive_key(self.teacher_seed, f"{self.key_name} teacher")
        means = normal(key, torch.arange(self.classes), self.d, dtype=torch.float64)
        if self.orthonormal:
            q, r = torch.linalg.qr(means.T)
            return self.separation * (q * r.diagonal().sign()).T
        if self.classes == 2:
            means[1] = -means[0]
        return self.separation * means / means.norm(dim=1, keepdim=True)

    @property
    def draws_per_example(self) -> int:
        return self.d

    def describe(self) -> dict[str, Any]:
        return {
            "d": self.d,
            "classes": self.classes,
            "separation": self.separation,
            "orthonormal": self.orthonormal,
            "variance": self.variance,
            "class_weights": self.class_weights,
            "teacher_seed": self.teacher_seed,
        }

    def draw(self, split: Split, index: Tensor) -> Batch:
        labels = self._labels(split, index)
        noise = normal(self.key(split), index, self.d, dtype=self.dtype)
        return self.means.to(index.device)[labels] + math.sqrt(self.variance) * noise, labels

    def _labels(self, split: Split, index: Tensor) -> Tensor:
        key = self.key(split)
        if self.class_weights is None:
            return integers(key, index, 1, self.classes, substream=1).squeeze(-1)
        ends = self._ends.to(index.device)
        drawn = uniform(key, index, 1, substream=1, dtype=torch.float64).squeeze(-1) * ends[-1]
        return torch.searchsorted(ends, drawn, right=True)
