"""Data on a GPU: every stream and every finite set gives what it gives on the CPU."""

import sys
import tempfile
from pathlib import Path

import torch
from benchmarks.common import DEVICE, StandIn
from torch import Tensor

ROOT = Path(__file__).parent.parent.parent


def streams(small: bool) -> None:
    """Batches of steps 0 to 11, integers and bytes to the bit, real numbers to rounding."""
    sys.path.insert(0, str(ROOT / "tests"))
    from cases import DATA  # small ones of everything that the package has

    chosen = dict(list(DATA.items())[::8]) if small else DATA
    worst = ("nothing", 0.0)
    with tempfile.TemporaryDirectory() as folder:
        for name, make in chosen.items():
            seen = []
            for place, device in (("cpu", torch.device("cpu")), ("gpu", DEVICE)):
                data = make(Path(folder, place))
                data.trainer = StandIn()
                data.trainer.strategy.root_device = device
                data.setup()
                batches = data.batches(device)
                seen.append([batches.batch(k, slice(0, batches.size(k))) for k in range(5 if small else 12)])
            for ours, theirs in zip(*seen, strict=True):
                for expected, found in zip(ours, theirs, strict=True):
                    assert isinstance(expected, Tensor)
                    assert found.device.type == DEVICE.type, f"{name}: a batch is on {found.device}"
                    found = found.cpu()
                    if not expected.is_floating_point():
                        assert torch.equal(expected, found), f"{name}: other integers than on the CPU"
                        continue
                    distance = float((expected - found).abs().max() / expected.abs().max().clamp(min=1))
                    worst = max(worst, (name, distance), key=lambda pair: pair[1])
                    assert distance < 2e-6, f"{name}: differs from the CPU by {distance:.1e}"
    print(f"{len(chosen)} kinds of data; largest relative difference {worst[1]:.1e} ({worst[0]})")
