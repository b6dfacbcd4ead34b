"""What every test may use: the real data where there is some, and quiet logs."""

import os
import sys
from pathlib import Path

# Before torch is imported, here and in the processes that tests start: the networks of the tests are small,
# and threads that wait for each other on a busy machine take many times as long as one.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parent))

REPOSITORY = Path(__file__).parent.parent

# How long an example takes says how busy the machine is, and nothing about what is tested.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with Fashion-MNIST and the JPEG copy of CIFAR-10, or a skip that says why."""
    folder = Path(os.environ.get("SGDLIT_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no data folder at SGDLIT_DATA or {folder.name} beside the repository")
    return folder
