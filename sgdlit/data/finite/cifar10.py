"""CIFAR-10: 50 000 + 10 000 images 3x32x32 in ten classes; 170 MB to fetch.

Source: Krizhevsky, "Learning multiple layers of features from tiny images" (2009), in its binary version.
"""

from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from sgdlit.data.image_shards import ImagesFromFiles
from sgdlit.data.keyed_data import Substitute
from sgdlit.data.official_files import DataMissing, OfficialFiles
from sgdlit.data.reading import Records
from sgdlit.data.shards import PerChannel
from sgdlit.foundations.errors import UserError


def _note(root: Path) -> str:
    """A sentence for those who have only the Python version."""
    if not (root / "cifar-10-batches-py").is_dir() and not (root / "data_batch_1").is_file():
        return ""
    return (
        " The Python version (cifar-10-batches-py) is there, but it is a pickle, which can run code when "
        "loaded, so it is not read: the binary version (cifar-10-binary.tar.gz) is needed."
    )


class CIFAR10(ImagesFromFiles):
    """CIFAR-10 (Krizhevsky 2009) from its official binary files: 50 000 + 10 000 images 3x32x32, ten classes.

    Args:
        fallback: "shapes" runs on the built-in image distribution when the files are not there; None stops.
        files: see :class:`ImagesFromFiles`.
    """

    files = OfficialFiles(
        title="CIFAR-10",
        name="cifar10",
        format=Records(shape=(3, 32, 32)),
        train=tuple(f"data_batch_{k}.bin" for k in range(1, 6)),
        test=("test_batch.bin",),
        counts=(50_000, 10_000),
        base_url="https://www.cs.toronto.edu/~kriz/",
        hashes={"cifar-10-binary.tar.gz": "c32a1d4ab5d03f1284b67883e8d87530"},
        folders=("cifar-10-batches-bin",),
        archived=True,
        config="configs/wrn_modified_loss.yaml",
        note=_note,
    )

    def __init__(self, root: str = "data", fallback: Literal["shapes"] | None = None, **files: Any) -> None:
        super().__init__(root=root, **files)
        self.fallback = fallback

    @classmethod
    def substitute(cls, init_args: dict[str, Any]) -> Substitute | None:
        root = init_args["root"]
        if init_args.get("fallback") is None or cls.files.locate(root) is not None:
            return None
        shared = {key: value for key, value in init_args.items() if key not in ("root", "fallback")}
        if shared.get("train_size") is None:
            shared["train_size"] = cls.files.counts[0] - shared["val_size"]
        why = (
            f"no CIFAR-10 in {str(root)!r} (get it with: python -m sgdlit data cifar10 --root {root}), "
            "so data.fallback: shapes takes its place: the built-in image distribution"
        )
        return Substitute("sgdlit.data.finite.shapes.Shapes", shared, why)

    def require_files(self) -> None:
        try:
            super().require_files()
        except DataMissing as error:
            if self.fallback is not None:  # some of the files are there: a fall-back would hide what is wrong
                raise
            raise UserError(f"{error}\nor run on the built-in images: --data.fallback shapes") from error

    @cached_property
    def standardise(self) -> PerChannel:
        return PerChannel(mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616))
