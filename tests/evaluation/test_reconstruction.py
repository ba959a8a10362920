"""The figures of a decoder: against scikit-image, known values of Set5 and Set14, and mixed sizes."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from tiny import TinyClassifier, tiny_decoder
from torch import Tensor

from nsbgan_infer.datasets import ImageSource, open_source
from nsbgan_infer.decoders import tiling
from nsbgan_infer.decoders.base import DecoderInfo
from nsbgan_infer.decoders.interpolate import make_bicubic, make_iwt
from nsbgan_infer.engines.graph import Engined
from nsbgan_infer.errors import ImageFileError, NonFiniteError, UsageError
from nsbgan_infer.evaluation import reconstruction
from nsbgan_infer.evaluation.engine import place_decoder
from nsbgan_infer.evaluation.reconstruction import evaluate_decoder, luma, psnr, reconstruct, ssim, y_scores


class Spy:
    """A decoder that records the low bands it was given and answers as another one would."""

    def __init__(self, info: DecoderInfo, gain: float = 1.0) -> None:
        self.info, self.gain, self.seen = info, gain, list[tuple[int, ...]]()

    def __call__(self, low_band: Tensor) -> Tensor:
        self.seen.append(tuple(low_band.shape))
        return make_iwt()(low_band) * self.gain


def picture(height: int, width: int, seed: int) -> Tensor:
    """A smooth random 8-bit picture (3, H, W) in [0, 1]."""
    g = torch.Generator().manual_seed(seed)
    small = torch.rand(1, 3, height // 8, width // 8, generator=g)
    large = torch.nn.functional.interpolate(small, (height, width), mode="bicubic").clamp(0, 1)[0]
    return (large * 255).round() / 255


def source_of(tmp_path: Path, pictures: list[Tensor]) -> ImageSource:
    with zipfile.ZipFile(tmp_path / "pictures.zip", "w") as archive:
        for i, p in enumerate(pictures):
            data = io.BytesIO()
            Image.fromarray((p.permute(1, 2, 0) * 255).round().byte().numpy()).save(data, "PNG")
            archive.writestr(f"{i:03d}.png", data.getvalue())
    return open_source(tmp_path / "pictures.zip")


@pytest.mark.parametrize(("name", "expected"), [("set5", 28.71), ("set14", 26.38)])
def test_zero_details_give_the_known_figures(shared_data: Path, name: str, expected: float) -> None:
    report = evaluate_decoder(make_iwt(), open_source(shared_data / f"{name}.zip"))
    assert report.psnr_y == pytest.approx(expected, abs=0.005)
    assert report.baseline_psnr_y == pytest.approx(report.psnr_y, abs=1e-9)
    assert report.fd_lite0 is None and report.fd_lite2 is None
    assert report.n == {"set5": 5, "set14": 14}[name]


def test_bicubic_is_its_own_baseline_on_pixels(shared_data: Path) -> None:
    report = evaluate_decoder(make_bicubic(), open_source(shared_data / "set5.zip"))
    assert report.psnr_y == pytest.approx(report.baseline_psnr_y, abs=1e-9)


def test_luma_ends_of_the_scale() -> None:
    black_white_red = torch.tensor([[0.0, 0, 0], [1, 1, 1], [1, 0, 0]]).view(3, 3, 1, 1)
    assert luma(black_white_red).flatten().tolist() == pytest.approx([16, 235, 81.481])


@pytest.mark.parametrize("size", [(32, 40), (64, 48)])
def test_psnr_and_ssim_equal_scikit_image(size: tuple[int, int]) -> None:
    a = torch.stack([picture(*size, 1), picture(*size, 2)])
    b = (a + 0.05 * torch.randn(a.shape, generator=torch.Generator().manual_seed(3))).clamp(0, 1)
    b = (b * 255).round() / 255
    found_psnr, found_ssim = y_scores(b, a)
    for i in range(2):
        ya, yb = (luma(x[i : i + 1])[0, 0, 4:-4, 4:-4].numpy() for x in (a, b))
        expected = structural_similarity(
            ya, yb, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        assert found_ssim[i].item() == pytest.approx(expected, abs=1e-9)
        assert found_psnr[i].item() == pytest.approx(peak_signal_noise_ratio(ya, yb, data_range=255), abs=1e-9)


def test_equal_pictures_score_best() -> None:
    a = picture(32, 32, 5)[None]
    assert psnr(a, a, peak=1).item() == 100
    assert ssim(a, a, peak=1).item() == pytest.approx(1)


def test_mixed_sizes_in_any_batching_give_the_same_report(tmp_path: Path) -> None:
    sizes = [(32, 40), (32, 40), (41, 47), (64, 32), (64, 32), (64, 32)]
    source = source_of(tmp_path, [picture(h, w, i) for i, (h, w) in enumerate(sizes)])
    decoder = Spy(make_iwt().info, gain=0.9)
    one, many = (evaluate_decoder(decoder, source, batch=b) for b in (1, 4))
    assert one.n == many.n == 6
    assert [one.psnr_y, one.ssim, one.mse] == pytest.approx([many.psnr_y, many.ssim, many.mse], rel=1e-6)
    assert one.psnr_y < one.baseline_psnr_y
    assert decoder.seen[:6] == [
        (1, 3, 8, 10), (1, 3, 8, 10), (1, 3, 10, 11), (1, 3, 16, 8), (1, 3, 16, 8), (1, 3, 16, 8),
    ]  # fmt: skip
    assert [s[0] for s in decoder.seen[6:]] == [2, 1, 3]


def test_the_order_of_the_pictures_does_not_matter(tmp_path: Path) -> None:
    """With sizes that alternate, and with fewer places to wait in than there are sizes."""
    sizes = [(32, 40), (64, 32), (40, 40), (32, 40), (64, 32), (48, 32), (32, 40)]
    source = source_of(tmp_path, [picture(h, w, i) for i, (h, w) in enumerate(sizes)])
    decoder = Spy(make_iwt().info, gain=0.9)
    whole = evaluate_decoder(decoder, source)
    assert [shape[0] for shape in decoder.seen] == [3, 2, 1, 1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reconstruction, "WAITING", 2)
        for order in ([6, 5, 4, 3, 2, 1, 0], [2, 0, 5, 3, 1, 6, 4]):
            other = evaluate_decoder(decoder, source.take(order), batch=2)
            figures = [(r.psnr_y, r.ssim, r.mse, r.baseline_psnr_y, r.n) for r in (other, whole)]
            assert figures[0] == pytest.approx(figures[1], rel=1e-6)
    assert sum(shape[0] for shape in decoder.seen) == 3 * len(sizes)


@pytest.mark.usefixtures("kept_networks")
def test_one_network_for_all_sizes_gives_the_figures_of_plain_torch(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    sizes = [(32, 40), (41, 47), (64, 32), (96, 120), (64, 32)]
    source = source_of(tmp_path, [picture(h, w, i) for i, (h, w) in enumerate(sizes)])
    cpu = torch.device("cpu")
    plain = evaluate_decoder(tiny_decoder(), source)
    compiled: Any = place_decoder(tiny_decoder(), "openvino", cpu, torch.float32, 0)
    assert evaluate_decoder(compiled, source).psnr_y == pytest.approx(plain.psnr_y, abs=0.01)
    assert isinstance(compiled, Engined) and len(compiled.run.requests) == 1  # type: ignore[attr-defined]
    assert plain.psnr_y != pytest.approx(plain.baseline_psnr_y, abs=0.01)


def test_tiles_give_the_figures_of_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = source_of(tmp_path, [picture(h, w, i) for i, (h, w) in enumerate([(256, 160), (200, 320)])])
    whole = evaluate_decoder(tiny_decoder(), source)
    monkeypatch.setattr(reconstruction, "decode", lambda d, low: tiling.decode(d, low, tile=24))
    assert evaluate_decoder(tiny_decoder(), source).psnr_y == pytest.approx(whole.psnr_y, abs=0.01)


def test_mse_is_taken_on_rgb_in_unit_range(tmp_path: Path) -> None:
    flat = torch.full((3, 32, 32), 100 / 255)
    decoder = Spy(make_iwt().info, gain=1.1)
    report = evaluate_decoder(decoder, source_of(tmp_path, [flat]))
    assert report.mse == pytest.approx((10 / 255) ** 2, rel=1e-6)


def test_low_bands_are_padded_to_the_decoders_multiple_and_cropped_back() -> None:
    info = DecoderInfo("coarse", "wavelet", 4, "none", multiple=16)
    spy = Spy(info)
    pictures = picture(72, 40, 1)[None]
    decoded, plain = reconstruct(spy, pictures)
    assert spy.seen == [(1, 3, 32, 16)]
    assert decoded.shape == plain.shape == pictures.shape
    assert (decoded - plain).abs()[..., :64, :32].max() == 0


def test_too_small_pictures_and_wrong_scales_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageFileError, match=r"000\.png is 40 x 31"):
        evaluate_decoder(make_iwt(), source_of(tmp_path, [picture(31, 40, 1)]))
    with pytest.raises(UsageError, match="measured at x4"):
        evaluate_decoder(make_iwt(2), source_of(tmp_path, [picture(32, 40, 1)]))


def test_nan_is_an_error_that_names_the_decoder() -> None:
    with pytest.raises(NonFiniteError, match="iwt"):
        reconstruct(Spy(make_iwt().info, gain=float("nan")), picture(32, 32, 1)[None])


def test_frechet_distances_come_with_enough_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconstruction, "FD_LEAST", 3)
    monkeypatch.setattr(reconstruction, "load_lite0", TinyClassifier)
    monkeypatch.setattr(reconstruction, "load_lite2", TinyClassifier)
    source = source_of(tmp_path, [picture(32, 32, i) for i in range(4)])
    good = evaluate_decoder(make_iwt(), source)
    bad = evaluate_decoder(Spy(make_iwt().info, gain=0.3), source)
    assert good.fd_lite0 is not None and bad.fd_lite0 is not None
    assert good.fd_lite0 == good.fd_lite2 and bad.fd_lite0 == bad.fd_lite2
    assert 0 <= good.fd_lite0 < 1e-4 < 0.1 < bad.fd_lite0
