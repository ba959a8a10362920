"""The paper's figures: the right patches at the right places."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from nsbgan_infer.encoders import WaveletEncoder
from nsbgan_infer.encoders.lifting import dwt2
from nsbgan_infer.evaluation.figures import DETAIL_GAIN, encoders_sheet, packed, pyramid_sheet, slicing_sheet


def photo(seed: int = 1, size: tuple[int, int] = (300, 280)) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)


def test_patches_lie_where_the_paper_puts_them() -> None:
    picture = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(1))
    sheet = packed(picture, 2)
    assert sheet.shape == picture.shape
    assert torch.equal(sheet[:, :16, :16], WaveletEncoder(2)(picture[None])[0])
    _, details = dwt2(picture[None])
    for band, (top, left) in enumerate(((0, 32), (32, 0), (32, 32))):  # TR cH, BL cV, BR cD
        assert torch.allclose(sheet[:, top : top + 32, left : left + 32], 0.5 + DETAIL_GAIN * details[0, band])


def test_sheets_have_a_cell_for_each_picture() -> None:
    assert pyramid_sheet(photo()).size == slicing_sheet(photo()).size == (3 * 264 + 8, 282 + 8)
    page, kept = encoders_sheet([("a", photo(1)), ("b", photo(2))])
    assert page.size == (3 * 264 + 8, 2 * 282 + 8)
    assert [k.name for k in kept] == ["a", "b"]
    assert all(k.wavelet_psnr_y > 20 and k.pixel_psnr_y > 20 for k in kept)


def test_slices_hold_every_second_pixel() -> None:
    image = photo(size=(256, 256))
    page = np.asarray(slicing_sheet(image))[8 : 8 + 256, 8 + 264 : 8 + 264 + 256]
    pixels = np.asarray(image)
    assert np.array_equal(page[:128, 128:], pixels[0::2, 1::2])
    assert np.array_equal(page[128:, :128], pixels[1::2, 0::2])
