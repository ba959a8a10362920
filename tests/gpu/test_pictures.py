"""Step 4 on the device: tiles, memory that runs out, and photos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from near import LIMITS, error
from tiny import TinyClassifier, randomise, tiny_decoder

from nsbgan_infer.datasets import open_source
from nsbgan_infer.decoders.photo import PhotoConfig, PhotoDecoder
from nsbgan_infer.decoders.subband import SubbandDecoder
from nsbgan_infer.decoders.tiling import decode
from nsbgan_infer.engines import place_part
from nsbgan_infer.evaluation.degraded import evaluate_degraded
from nsbgan_infer.evaluation.reconstruction import evaluate_decoder
from nsbgan_infer.photos import enlarge


def photo_decoder() -> PhotoDecoder:
    torch.manual_seed(0)
    decoder = randomise(PhotoDecoder(PhotoConfig(blocks=1, channels=8)))
    assert isinstance(decoder, PhotoDecoder)
    return decoder


@pytest.fixture(scope="module")
def low_bands() -> torch.Tensor:
    coarse = torch.rand(2, 3, 8, 9, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(coarse, (64, 72), mode="bilinear")


@pytest.mark.parametrize("given", [{"tile": 24}, {"micro_batch": 1}, {"tile": 32, "micro_batch": 1}])
def test_parts_make_the_whole(given: dict[str, int], device: torch.device, low_bands: torch.Tensor) -> None:
    wanted = decode(tiny_decoder(), low_bands)
    found = decode(tiny_decoder().to(device), low_bands.to(device), **given)  # type: ignore[arg-type]
    assert found.device.type == device.type
    assert error(found, wanted) < LIMITS[torch.float32]


class Hungry:
    """A decoder that asks for more memory than there is, from low bands of 64 samples a side on."""

    def __init__(self, decoder: SubbandDecoder) -> None:
        self.decoder, self.info, self.seen = decoder, decoder.info, list[tuple[int, ...]]()

    def __call__(self, low_band: torch.Tensor) -> torch.Tensor:
        if min(low_band.shape[-2:]) >= 64:
            torch.empty(1 << 60, dtype=torch.uint8, device=low_band.device)
        self.seen.append(tuple(low_band.shape))
        out: torch.Tensor = self.decoder(low_band)
        return out


def test_memory_that_runs_out_leads_to_tiles(device: torch.device) -> None:
    """The allocator's own error, whatever the device."""
    coarse = torch.rand(2, 3, 12, 13, generator=torch.Generator().manual_seed(0))
    low = torch.nn.functional.interpolate(coarse, (96, 104), mode="bilinear")
    hungry = Hungry(tiny_decoder().to(device))
    found = decode(hungry, low.to(device))
    assert error(found, decode(tiny_decoder(), low)) < LIMITS[torch.float32]
    assert len(hungry.seen) > 4 and {shape[0] for shape in hungry.seen} == {1}


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_photos_are_enlarged_as_on_the_cpu(precision: torch.dtype, device: torch.device, photos: Path) -> None:
    wanted = np.asarray(enlarge(photos / "0.png", photo_decoder(), tile=48).image).astype(int)
    decoder = place_part(photo_decoder(), "eager", device, precision)
    found = np.asarray(enlarge(photos / "0.png", decoder, tile=48).image).astype(int)
    off = abs(found - wanted)
    assert wanted.std() > 1
    assert off.max() <= (1 if precision == torch.float32 else 8) and off.mean() < 1


def test_photos_are_enlarged_by_a_compiled_decoder(cuda: torch.device, photos: Path) -> None:
    wanted = np.asarray(enlarge(photos / "0.png", photo_decoder(), tile=48).image).astype(int)
    decoder = place_part(photo_decoder(), "compile", cuda, torch.float32)
    found = np.asarray(enlarge(photos / "0.png", decoder, tile=48).image).astype(int)
    off = abs(found - wanted)[: -16 * 4, : -16 * 4]  # a window of another size sees another border there
    assert off.max() <= 1


def test_figures_of_an_evaluation_are_the_cpus(device: torch.device, photos: Path) -> None:
    source = open_source(photos)
    wanted, found = (evaluate_decoder(d, source) for d in (photo_decoder(), photo_decoder().to(device)))
    assert found.psnr_y == pytest.approx(wanted.psnr_y, abs=0.01) and found.n == wanted.n == 3
    assert found.ssim == pytest.approx(wanted.ssim, abs=1e-4)
    [other] = evaluate_degraded([photo_decoder().to(device)], source, classifier=TinyClassifier())
    [given] = evaluate_degraded([photo_decoder()], source, classifier=TinyClassifier())
    assert other.psnr_y == pytest.approx(given.psnr_y, abs=0.01)
