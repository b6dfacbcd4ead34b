"""A person's own arrays as a finite set: from a ``.npz`` file, or from tensors in Python.

    data: {class_path: Arrays, init_args: {path: mine.npz, batch_size: 32}}

``sgdlit.save_arrays("mine.npz", inputs, targets, test_inputs, test_targets)`` writes the file.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from sgdlit.data.array_file import NAMES, check_arrays, digest, read_arrays, require_array_file
from sgdlit.data.image_shards import ImageShards
from sgdlit.data.keyed_data import require
from sgdlit.data.shards import Shard, Subset, split
from sgdlit.foundations.errors import UserError

_DTYPES = {"float32": torch.float32, "float64": torch.float64}
_AT_A_TIME = 2**22  # numbers whose sums are taken at once


class ToInput:
    """From what is stored to the network's input: bytes become numbers from 0 to 1, and each feature, or
    each channel, is standardised where its mean and deviation are given.

    Args:
        dtype: of real inputs; whole numbers other than bytes are tokens, and stay as they are.
        mean: of the features ``[d]`` or the channels ``[C, 1, ...]``, of inputs from 0 to 1 where these are
            bytes; None standardises nothing.
        std: their deviation.
    """

    def __init__(self, dtype: torch.dtype, mean: Tensor | None = None, std: Tensor | None = None) -> None:
        self.dtype, self.mean, self.std = dtype, mean, std

    def __call__(self, inputs: Tensor) -> Tensor:
        """``[b, ...]`` from ``[b, ...]``."""
        if not inputs.is_floating_point() and inputs.dtype != torch.uint8:
            return inputs
        x = inputs.to(self.dtype)
        if inputs.dtype == torch.uint8:
            x = x / 255
        if self.mean is None or self.std is None:
            return x
        if self.mean.device != x.device:
            self.mean, self.std = self.mean.to(x.device), self.std.to(x.device)
        return (x - self.mean) / self.std


class Arrays(ImageShards):
    """Examples from a file of arrays: ``inputs`` ``[N, ...]`` and ``targets``, and perhaps a test set.

    Bytes are pixels and are given to the network as numbers from 0 to 1; other whole numbers are tokens, and
    stay as they are. Targets are classes ``[N]`` from 0 on, or real numbers ``[N, ...]``.

    Args:
        path: of the ``.npz`` file.
        test_size: of a file without test examples, how many examples are taken for them.
        names: what the file calls its arrays, such as ``{inputs: x_train, targets: y_train}``.
        standardised: whether each feature ``[N, d]``, or each channel ``[N, C, ...]``, gets mean 0 and
            deviation 1 over the training set; one that never changes becomes 0.
        dtype: of real inputs and targets.
        augment: random crops and flips, of images ``[N, C, H, W]``.
        shard: see :class:`ImageShards`.

    Raises:
        UserError: what :func:`sgdlit.data.array_file.read_arrays` refuses; no test examples.
    """

    small = ({},)

    def __init__(
        self,
        path: str,
        test_size: int | None = None,
        names: dict[str, str] | None = None,
        standardised: bool = False,
        dtype: Literal["float32", "float64"] = "float32",
        augment: bool = False,
        **shard: Any,
    ) -> None:
        super().__init__(augment=augment, **shard)
        require(test_size is None or test_size >= 1, "test_size", test_size, "1 or more, or null")
        self.path, self.test_size, self.names = path, test_size, names
        self.standardised, self.dtype = standardised, _DTYPES[dtype]
        self._given: dict[str, np.ndarray] | None = None
        self._digest = ""

    @classmethod
    def of(
        cls, inputs: Any, targets: Any, test_inputs: Any = None, test_targets: Any = None, **arguments: Any
    ) -> "Arrays":
        """Data of tensors or numpy arrays, for scripts; a config names a file.

        Args:
            inputs, targets, test_inputs, test_targets: see :func:`sgdlit.save_arrays`.
            arguments: of the class, but for ``path`` and ``names``.

        Raises:
            UserError: arrays that cannot be trained on.
        """
        data = cls("memory", **arguments)
        given = (inputs, targets, test_inputs, test_targets)
        found = {
            name: np.asarray(array) for name, array in zip(NAMES, given, strict=True) if array is not None
        }
        check_arrays(found, "Arrays.of")
        data._given, data.path = found, f"memory {digest(found)}"
        return data

    @property
    def source(self) -> dict[str, Any]:
        own = {"path": self.path, "names": self.names, "test_size": self.test_size}
        return super().source | own | {"standardised": self.standardised, "dtype": str(self.dtype)}

    def state_dict(self) -> dict[str, Any]:
        own = {"arrays": self._digest, "standardised": self.standardised, "dtype": str(self.dtype)}
        return super().state_dict() | own

    def take_over(self, other: Any) -> None:
        super().take_over(other)
        self._digest = other._digest

    def require_files(self) -> None:
        if self._given is None:
            require_array_file(self.path)

    def read_splits(self) -> dict[str, Subset]:
        found = self._given or read_arrays(self.path, self.names)
        self._digest = digest(found)
        self._check(found)
        pool = self._shard(found["inputs"], found["targets"])
        if "test_inputs" in found:
            return self.split_pool(pool, self._shard(found["test_inputs"], found["test_targets"]))
        return self._cut(pool)

    def _check(self, found: dict[str, np.ndarray]) -> None:
        """What goes with some arrays only."""
        if "test_inputs" in found and self.test_size is not None:
            raise UserError(
                f"data.test_size: {self.test_size}, but {self.path!r} has test examples; allowed: null"
            )
        if "test_inputs" not in found and self.test_size is None and self.evaluate_test:
            raise UserError(
                f"data.path: {self.path!r} has no test_inputs; allowed: data.test_size, which takes some of "
                "the inputs for them, or data.evaluate_test: false with a data.val_size"
            )
        if self.augment and found["inputs"].ndim != 4:
            raise UserError(
                f"data.augment: true for inputs of shape {list(found['inputs'].shape)}; allowed: images [N, "
                "C, H, W], or false"
            )
        if self.standardised and found["inputs"].dtype.kind in "iu" and found["inputs"].dtype != np.uint8:
            raise UserError(
                f"data.standardised: true for inputs of type {found['inputs'].dtype}, which are tokens; "
                "allowed: false"
            )
        if found["targets"].dtype.kind != "f" and found["targets"].ndim == 1:
            self.check_classes(int(max(array.max() for n, array in found.items() if "targets" in n)) + 1)
        elif self.selection.description or self.balanced:
            key = next(iter(self.selection.description), "balanced")
            raise UserError(f"data.{key}: the targets are no classes; allowed: null or false")

    def _shard(self, inputs: np.ndarray, targets: np.ndarray) -> Shard:
        if inputs.dtype == np.uint8:
            x = torch.from_numpy(np.ascontiguousarray(inputs))
        else:
            x = torch.from_numpy(inputs.astype("float64" if inputs.dtype.kind == "f" else "int64"))
            x = x.to(self.dtype) if inputs.dtype.kind == "f" else x
        kind = "float64" if targets.dtype.kind == "f" else "int64"
        y = torch.from_numpy(targets.astype(kind))
        return Shard(x, y.to(self.dtype) if kind == "float64" else y)

    def _cut(self, pool: Shard) -> dict[str, Subset]:
        """Test examples from the pool too: the same for every ``train_size`` and ``val_size``."""
        selection = self.selection if self.selection.description else None
        if selection is not None:
            pool = Shard(pool.inputs, selection.relabelled(pool.targets))
        tested, held_out = self.test_size or 0, (self.test_size or 0) + self.val_size
        train, held = split(
            pool.targets, held_out, self.train_size, self.split_seed, self.balanced, selection
        )
        return {
            "train": Subset(pool, train),
            "val": Subset(pool, held[tested:]),
            "test": Subset(pool, held[:tested]),
        }

    @cached_property
    def standardise(self) -> ToInput:
        if not self.standardised:
            return ToInput(self.dtype)
        train = self.subsets["train"]
        mean = self._mean(train, lambda x: x)
        std = self._mean(train, lambda x: (x - mean).square()).sqrt()
        std = torch.where(std > 1e-7 * (1 + mean.abs()), std, torch.ones_like(std))
        shape = (-1, *[1] * (len(train.shape) - 1))
        return ToInput(self.dtype, mean.view(shape).to(self.dtype), std.view(shape).to(self.dtype))

    def _mean(self, train: Subset, function: Callable[[Tensor], Tensor]) -> Tensor:
        """The mean of a function of each feature or channel over a set, float64 ``[d, 1]``."""
        at_a_time = max(1, _AT_A_TIME // train.shape.numel())
        total, count = torch.zeros((), dtype=torch.float64), 0
        for indices in torch.arange(len(train)).split(at_a_time):
            x = ToInput(torch.float64)(train.take(indices)[0]).transpose(0, 1).flatten(1)
            total, count = total + function(x).sum(1, keepdim=True), count + x.shape[1]
        return total / count
