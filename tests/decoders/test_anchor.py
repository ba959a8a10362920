"""What enlarges a picture lies over it: every registered decoder, x2 and x4, whole and in tiles."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny_decoder
from torch import Tensor

from nsbgan_infer.datasets import to_tensor
from nsbgan_infer.decoders.anchor import decode_over, move, move_taps, moves
from nsbgan_infer.decoders.base import Decoder, DecoderInfo
from nsbgan_infer.decoders.interpolate import make_bicubic, make_iwt, make_lanczos
from nsbgan_infer.decoders.photo import PhotoConfig, PhotoDecoder
from nsbgan_infer.encoders import PixelEncoder
from nsbgan_infer.encoders.resize import shrink
from nsbgan_infer.errors import CheckpointError, JointError
from nsbgan_infer.latents import Latents
from nsbgan_infer.photos import decode_image
from nsbgan_infer.pipeline import NsbPipeline, Stage
from nsbgan_infer.registry import BUILT_IN, load_decoder
from nsbgan_infer.storage.components import save_component

CENTRE = (101.3, 77.8)  # of the disc: right, down
RADIUS = 30.0


def disc(scale: int, height: int = 160, width: int = 208) -> Tensor:
    """A soft bright disc on grey, (1, 3, H, W), its middle at scale / 4 * CENTRE."""
    x, y, radius = (v * scale / 4 for v in (*CENTRE, RADIUS))
    down, right = torch.meshgrid(torch.arange(height * scale // 4), torch.arange(width * scale // 4), indexing="ij")
    distance = ((down - y).double() ** 2 + (right - x).double() ** 2).sqrt()
    return (0.3 + 0.4 * torch.sigmoid((radius - distance) / scale)).float().expand(1, 3, -1, -1)


def middle(picture: Tensor) -> tuple[float, float]:
    """The centroid of what is brighter than the ground: right, down. The ground is cut away."""
    light = (picture.double().mean((0, 1)) - 0.4).clamp(min=0)
    down, right = (torch.arange(n, dtype=torch.float64) for n in light.shape)
    total = light.sum()
    return float((light.sum(0) * right).sum() / total), float((light.sum(1) * down).sum() / total)


def lies_over(decoder: Decoder, *, tile: int | None) -> None:
    """A disc stays where it was within 0.05 pixels, a ramp within 0.1."""
    scale = decoder.info.scale
    picture = disc(scale)
    got = enlarged(decoder, picture, tile)
    assert got.shape == picture.shape
    for found, wanted in zip(middle(got), middle(picture), strict=True):
        assert found == pytest.approx(wanted, abs=0.05)
    slope = 0.8 / (32 * scale)
    rising = (0.1 + slope * torch.arange(32 * scale)).expand(1, 3, 32 * scale, -1)
    left, right = (
        float((enlarged(decoder, ramp, tile) - ramp)[..., 8 * scale : -8 * scale, 8 * scale : -8 * scale].mean())
        for ramp in (rising, rising.flip(-1))
    )
    assert (right - left) / (2 * slope) == pytest.approx(0, abs=0.1)  # a change of brightness cancels


def enlarged(decoder: Decoder, picture: Tensor, tile: int | None) -> Tensor:
    """`picture` shrunk as an ordinary one, and enlarged again."""
    small = shrink(picture, decoder.info.scale, eight_bits=True)
    return to_tensor(decode_image(decoder, small, tile=tile))[None]


@pytest.mark.parametrize("tile", [None, 24])
@pytest.mark.parametrize("name", sorted(BUILT_IN["decoder"]))
def test_whatever_is_registered_lies_over_the_photo(name: str, tile: int | None) -> None:
    try:
        decoder = load_decoder(name)
    except CheckpointError as error:
        pytest.skip(str(error))
    if tile and decoder.info.halo is None:
        pytest.skip(f"{name} must not be cut into tiles")
    lies_over(decoder, tile=tile)


def make_photo(scale: int) -> PhotoDecoder:
    return PhotoDecoder(PhotoConfig(scale=scale, blocks=1, channels=4))


@pytest.mark.parametrize("tile", [None, 24])
@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("make", [make_iwt, make_bicubic, make_lanczos, make_photo])
def test_every_scale_lies_over_the_photo(make: Callable[[int], Decoder], scale: int, tile: int | None) -> None:
    if scale == 3 and make is not make_photo:
        pytest.skip("interpolation is by powers of two")
    lies_over(make(scale), tile=tile)


@settings(deadline=None, max_examples=20)
@given(by=st.sampled_from([1.5, -1.5, 0.5, -0.5, 1.0, -2.0, 3.5]), degree=st.integers(0, 7))
def test_moving_is_exact_on_polynomials(by: float, degree: int) -> None:
    x = torch.linspace(-1, 1, 60, dtype=torch.float64)
    step = float(x[1] - x[0])
    picture = (x**degree).expand(1, 1, 60, 60)
    want = ((x - by * step) ** degree)[10:-10].expand(1, 1, 60, -1)
    assert torch.allclose(move(picture, by)[..., 10:-10], want, atol=1e-9)
    assert torch.allclose(move(picture.mT, by)[..., 10:-10, :], want.mT, atol=1e-9)
    _first, taps = move_taps(by)
    assert sum(taps) == pytest.approx(1)


def test_moving_there_and_back_keeps_what_an_enlarged_picture_holds() -> None:
    large = make_bicubic(4)(torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(0)))
    back = move(move(large, 1.5), -1.5)
    assert (back - large)[..., 16:-16, 16:-16].abs().max() < 2 / 255
    assert move(large.bfloat16(), 1.5).dtype == torch.bfloat16


def test_the_border_is_decoded_too() -> None:
    """Nothing is repeated from the result: flat stays flat, and a corner decoder's first row is its own."""
    flat = torch.full((1, 3, 9, 11), 0.4)
    assert decode_over(make_iwt(), flat, "centre").sub(0.4).abs().max() < 1e-6
    assert torch.equal(decode_over(make_iwt(), flat, "corner"), make_iwt()(flat))
    assert (
        moves(make_iwt(), "centre") == 1.5
        and moves(make_iwt(2), "centre") == 0.5
        and moves(make_bicubic(), "centre") == 0
    )
    assert moves(PhotoDecoder(PhotoConfig(blocks=1, channels=4)), "corner") == -1.5


class Doubling:
    """A plug-in of the pixel basis that reads what it is told to."""

    def __init__(self, reads: str) -> None:
        self.info = DecoderInfo("doubling", "pixel", 2, "none", halo=2, reads=reads)

    def __call__(self, low_band: Tensor) -> Tensor:
        anchor = self.info.reduction.anchor
        return make_bicubic(2).anchored(anchor)(low_band)


@pytest.mark.parametrize("reads", ["gaussian", "bicubic", "bilinear"])
def test_pictures_in_a_pipeline_stay_in_place(reads: str) -> None:
    from nsbgan_infer.samplers.base import SamplerInfo

    picture = disc(4, 160, 160)

    class Drawing:
        info = SamplerInfo("drawing", "pixel", 160, 4, None, "std", 1.0, "none")

        def __call__(self, latents: Latents) -> Tensor:
            return picture.expand(len(latents.z), -1, -1, -1)

    steps = NsbPipeline(Drawing(), [Stage(None, Doubling(reads))])(seeds=1, keep_steps=True).steps
    x, y = middle(steps["sample"])
    assert middle(steps["decoded 1"]) == pytest.approx((2 * x + 0.5, 2 * y + 0.5), abs=0.05)


def test_joints_compare_reductions_and_encoders_follow(tmp_path: Path) -> None:
    from tiny import tiny_sampler

    sampler, photo = tiny_sampler("pixel"), PhotoDecoder(PhotoConfig("p", blocks=1, channels=4)).eval()
    assert sampler.info.makes == "gaussian"
    first = Stage(None, make_bicubic())
    with pytest.raises(JointError) as error:
        NsbPipeline(sampler, [first, Stage(PixelEncoder(1), photo)])
    assert "a gaussian reduction (pixel basis, corner anchored)" in str(error.value)
    assert "the decoder p reads a bicubic reduction (pixel basis, centre anchored)" in str(error.value)
    pipeline = NsbPipeline(sampler, [first, Stage(PixelEncoder(1, "bicubic"), photo)])
    assert [r.name for r in pipeline.reductions] == ["gaussian", "bicubic"]
    assert pipeline.with_decoder(make_bicubic()).stages[1].encoder == PixelEncoder(1)
    save_component(photo, tmp_path / "p")
    again = pipeline.with_decoder(str(tmp_path / "p"))
    assert again.stages[1].encoder == PixelEncoder(1, "bicubic") and again.stages[0].decoder.info.reads == "bicubic"
    with pytest.raises(JointError, match="the sampler tiny makes a wavelet reduction"):
        NsbPipeline(tiny_sampler(), [Stage(None, photo)])
    assert tiny_decoder().info.reduction.name == "wavelet"


def test_whole_numbers_of_pixels_are_moved_exactly() -> None:
    picture = torch.from_numpy(np.random.default_rng(0).random((1, 3, 9, 12)))
    assert torch.equal(move(picture, 2.0)[..., 2:, 2:], picture[..., :-2, :-2])
    assert torch.equal(move(picture, -1.0)[..., :-1, :-1], picture[..., 1:, 1:])
