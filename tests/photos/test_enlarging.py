"""What is made of a photo: transparency without dark rims, any size, 16 bits, progress and cancelling."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny import tiny_decoder

from nsbgan_infer.decoders.interpolate import make_bicubic, make_iwt
from nsbgan_infer.errors import CheckpointError, WrongTypeError
from nsbgan_infer.photos import Photo, Wish, enlarge, open_photo
from nsbgan_infer.photos.alpha import spread_colours
from nsbgan_infer.photos.resizing import resize
from nsbgan_infer.photos.writing import on_white
from nsbgan_infer.registry import entries, load_decoder

COVERS = ["photos.alpha", "photos.resizing"]


def disc(depth: int = 8) -> Photo:
    """An opaque disc of (230, 120, 20) on transparent black, smooth at its rim."""
    y, x = np.mgrid[:256, :256]
    cover = Image.fromarray(((np.hypot(y - 127.5, x - 127.5) < 80) * 255).astype(np.uint8)).resize((32, 32), 4)
    pixels = np.zeros((32, 32, 4), np.uint8)
    pixels[..., 3] = np.asarray(cover)
    pixels[pixels[..., 3] > 0, :3] = (230, 120, 20)
    return Photo(pixels if depth == 8 else pixels.astype(np.uint16) * 257)


@pytest.mark.parametrize("decoder", [make_bicubic(), make_iwt(), tiny_decoder()], ids=["bicubic", "iwt", "network"])
@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("wish", [Wish(), Wish(scale=3)], ids=["x4", "x3"])
def test_a_rim_on_transparent_black_keeps_its_colour(decoder: Any, depth: int, wish: Wish) -> None:
    photo = disc(depth)
    large = enlarge(photo, decoder, wish)
    flat = enlarge(Photo(np.full((32, 32, 3), (230, 120, 20), np.uint8)), decoder, wish)
    limits = [(int(c.min()), int(c.max())) for c in np.moveaxis(flat.pixels, -1, 0)]  # what it makes of one colour
    image = large.image
    visible = np.asarray(image)[np.asarray(image)[..., 3] > 16]
    for channel, (low, high) in enumerate(limits):
        assert visible[:, channel].min() >= low - 2 and visible[:, channel].max() <= high + 2
    white = np.asarray(on_white(image))[..., 0].astype(int)
    assert white.min() >= limits[0][0] - 2


def test_opaque_and_empty_places_stay_so() -> None:
    alpha = enlarge(disc(), tiny_decoder()).pixels[..., 3]
    assert alpha[:8, :8].max() == 0 and alpha[56:72, 56:72].min() == 255


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_spread_colours_keep_visible_pixels_and_their_range(height: int, width: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    rgb = torch.rand(1, 3, height, width, generator=generator) * 0.5 + 0.25
    alpha = (torch.rand(1, 1, height, width, generator=generator) > 0.5).float()
    rgb = rgb * alpha  # transparent black
    filled = spread_colours(rgb, alpha)
    assert torch.equal(filled * alpha, rgb)
    if alpha.any():
        assert filled.min() >= 0.25 - 1e-5 and filled.max() <= 0.75 + 1e-5


def test_hidden_colours_do_not_show() -> None:
    photo = disc()
    loud = photo.pixels.copy()
    loud[loud[..., 3] == 0, :3] = (0, 255, 255)
    one, two = (enlarge(Photo(p), tiny_decoder()).pixels for p in (photo.pixels, loud))
    assert np.array_equal(one, two)


def test_sixteen_bits_are_finer_than_eight() -> None:
    ramp = np.linspace(20_000, 21_000, 32).astype(np.uint16)
    photo = Photo(np.repeat(np.tile(ramp, (16, 1))[..., None], 3, -1))
    large = enlarge(photo, make_iwt())
    assert large.depth == 16 and len(np.unique(large.pixels)) > 100
    assert abs(int(large.pixels.max()) - 21_000) < 60
    shrunk = resize(large, (32, 16))
    assert np.abs(shrunk.pixels[:, 4:-4].astype(int) - photo.pixels[:, 4:-4].astype(int)).max() < 80


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 60), st.integers(1, 60), st.sampled_from([2, 3, 4, 8]), st.sampled_from([2, 4]), st.booleans())
def test_every_scale_ends_at_its_exact_size(width: int, height: int, scale: int, own: int, by_size: bool) -> None:
    wish = Wish(size=(width * scale, height * scale)) if by_size else Wish(scale=scale)
    stops = wish.stops((width, height), own)
    assert stops[0] == (width, height) and own ** len(stops) >= scale > own ** (len(stops) - 1) / (1 + 1e-9)
    photo = Photo(np.full((height, width, 1), 77, np.uint8), dpi=(100, 100))
    large = enlarge(photo, make_bicubic(own), wish)
    assert large.size == (width * scale, height * scale) and set(np.unique(large.pixels)) == {77}
    assert large.dpi == pytest.approx((100 * scale, 100 * scale))


def test_eight_times_starts_the_last_pass_at_two() -> None:
    assert Wish(scale=8).stops((100, 50), 4) == [(100, 50), (200, 100)]
    assert Wish(scale=3).stops((100, 50), 2) == [(100, 50), (150, 75)]
    assert Wish(size=(50, 25)).stops((100, 50), 4) == []


def test_progress_counts_tiles_and_its_error_cancels() -> None:
    photo = Photo(np.zeros((40, 40, 3), np.uint8))
    seen: list[tuple[int, int]] = []
    enlarge(photo, make_iwt(), tile=10, tell=lambda *at: seen.append(at))
    assert seen == [(i, 9) for i in range(1, 10)]  # 10 pixels, and 6 more where no tile lies beside
    enlarge(photo, make_iwt(), Wish(scale=8), tell=lambda *at: seen.append(at))
    assert seen[-1] == (2, 2)

    def stop(done: int, _total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        enlarge(photo, make_iwt(), tile=10, tell=stop)


def trained(name: str) -> Any:
    try:
        return load_decoder(name)
    except CheckpointError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", [n for n, row in entries("decoder").items() if row.source != "yours"])
@pytest.mark.parametrize("tile", [None, 8])
@pytest.mark.parametrize("wish", [Wish(), Wish(scale=2)], ids=["own", "x2"])
def test_the_result_lies_over_the_photo(name: str, tile: int | None, wish: Wish) -> None:
    decoder = trained(name)
    if tile and decoder.info.halo is None:
        pytest.skip("must not be cut")
    side, y, x = 40, 18.3, 21.6  # the disc's centre, in pixels of the photo
    rows, columns = (np.mgrid[: side * 8, : side * 8] + 0.5) / 8 - 0.5
    fine = np.hypot(rows - y, columns - x) < 8
    shade = 40 + 180 * fine.reshape(side, 8, side, 8).mean((1, 3))
    photo = Photo(np.repeat(shade.round().astype(np.uint8)[..., None], 3, -1))
    large = enlarge(photo, decoder, wish, tile=tile).pixels[..., 1].astype(float)
    scale = len(large) / side
    weight = (large - 40).clip(0)
    for axis, centre in ((1, y), (0, x)):
        found = (weight.sum(axis) * (np.arange(len(large)) + 0.5)).sum() / weight.sum()
        assert found - 0.5 == pytest.approx((centre + 0.5) * scale - 0.5, abs=0.05)


def test_a_file_or_a_pil_image_and_a_name_are_enough(tmp_path: Path) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8))
    picture.save(tmp_path / "a.png")
    wanted = enlarge(open_photo(tmp_path / "a.png"), make_bicubic()).pixels
    assert np.array_equal(enlarge(picture, "bicubic").pixels, wanted)
    assert np.array_equal(enlarge(str(tmp_path / "a.png"), make_bicubic()).pixels, wanted)
    with pytest.raises(WrongTypeError, match="no `info` of type DecoderInfo"):
        enlarge(picture, 5)  # type: ignore[arg-type]
    with pytest.raises(WrongTypeError, match="A photo is a path"):
        enlarge(None, "bicubic")  # type: ignore[arg-type]


def test_a_hard_outline_gets_no_rings() -> None:
    """One pixel of the photo beside an outline, what is empty stays empty and what is opaque stays opaque."""
    pixels = np.zeros((24, 24, 4), np.uint8)
    pixels[8:16, 8:16] = (0, 80, 200, 255)
    cover = enlarge(Photo(pixels), load_decoder("photo")).pixels[..., 3]
    inside = np.zeros(cover.shape, bool)
    inside[36:60, 36:60] = True
    near = np.zeros(cover.shape, bool)
    near[28:68, 28:68] = True
    assert (cover[inside] == 255).all() and (cover[~near] == 0).all()
    assert (cover[near & ~inside] > 0).any()
