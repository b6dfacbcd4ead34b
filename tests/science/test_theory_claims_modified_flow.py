"""Claims M1–M6 and IGR: slopes 3 and 2 over five halvings of the learning rate, identities to 1e-12."""

import gzip
import struct

import numpy as np
import pytest

from sgdlit.papers.studies.modified_flow import run
from sgdlit.papers.studies.options import ModifiedFlowOptions


@pytest.fixture
def images(tmp_path):
    """A folder in Fashion-MNIST's format: 40 smooth random images, ten labels."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (40, 28, 28), dtype=np.uint8)
    for name, array in (("train-images-idx3-ubyte", pixels), ("train-labels-idx1-ubyte", np.arange(40) % 10)):
        header = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
        with gzip.open(tmp_path / f"{name}.gz", "wb") as file:
            file.write(header + array.astype(np.uint8).tobytes())
    return tmp_path


def test_all_claims_hold_with_every_order_enumerated(monkeypatch):
    monkeypatch.delenv("SGDLIT_DATA", raising=False)
    study = run(ModifiedFlowOptions(m=3))
    failed = [str(claim) for claim in study.claims if not claim.holds]
    assert not failed
    assert {claim.id for claim in study.claims} == {"M1", "M2", "M3", "M4", "M5", "M6", "IGR"}
    assert study.notes  # that the images were left out is said


def test_all_claims_hold_on_image_minibatches_with_sampled_orders(images):
    study = run(ModifiedFlowOptions(data_dir=str(images), m=3, halvings=4, order_pairs=2, n_steps=[1, 2]))
    failed = [str(claim) for claim in study.claims if not claim.holds]
    assert not failed
    assert {row["problem"] for row in study.tables["slopes"]} == {
        "tanh network, normal data",
        "tanh network, Fashion-MNIST",
    }
