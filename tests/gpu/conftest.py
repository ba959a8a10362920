"""Every test here is marked `gpu`; its device is named by `--device` or NSBGAN_TEST_DEVICE.

`--device cpu` proves the tests themselves where there is no GPU: then only what CUDA alone has is skipped, and says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nsbgan_infer.devices import pick_device
from nsbgan_infer.errors import UsageError

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies in this folder."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker("gpu")


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> torch.device:
    """The device that is tested; where it is not here nothing passes."""
    try:
        return pick_device(request.config.getoption("--device"))
    except UsageError as error:
        pytest.exit(f"{error} For these tests: --device cpu.", returncode=2)


@pytest.fixture(scope="session")
def cuda(device: torch.device) -> torch.device:
    """The device, for what only CUDA has."""
    if device.type != "cuda":
        pytest.skip(f"only CUDA has this, and the device is {device}")
    return device


@pytest.fixture(autouse=True)
def exact_products() -> Iterator[None]:
    """fp32 means fp32: without TF32, which torch uses for convolutions, limits can be narrow."""
    with torch.backends.cudnn.flags(allow_tf32=False):
        yield


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pictures with edges, so that there are details to learn."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for i in range(3):
        coarse = rng.integers(0, 256, (12, 14, 3), np.uint8)
        Image.fromarray(coarse).resize((112, 96), Image.Resampling.NEAREST).save(folder / f"{i}.png")
    return folder
