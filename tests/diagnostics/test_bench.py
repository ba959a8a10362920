"""`nsbgan bench` with tiny networks in the place of the real ones: what is reported, and that it adds up."""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tiny import tiny_biggan, tiny_decoder

from nsbgan_infer.cli.bench import TARGETS, _text
from nsbgan_infer.diagnostics import bench, bench_photos
from nsbgan_infer.diagnostics.bench_parts import Baseline, random_decoder, wheel_biggan
from nsbgan_infer.storage.components import Component

COVERS = ["cli.bench", "diagnostics.bench_parts", "diagnostics.bench_photos"]

RATIOS = {
    "wheel512_over_nsb512",
    "wheel512_over_nsb128to512",
    "wheel512_over_nsb512_tiny",
    "wheel512_over_nsb128to512_tiny",
    "nsb512fast_over_folded512",
    "nsb128to512_over_folded512",
    "wheel256_over_biggan256",
    "overhead_share",
    "bulk_png_over_bare",
    "bulk_webp_over_bare",
    "bulk_tar_over_bare",
    "memory_nsb512_over_wheel512",
    "photo_eager_over_photo",
    "compact_over_photo",
    "memory_photo_mib",
}
CPU = torch.device("cpu")


@pytest.fixture
def tiny_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Narrow networks, and a wheel that only returns a picture."""

    def wheel(resolution: int, device: torch.device, batch: int) -> Callable[[Any], torch.Tensor]:
        return lambda _none: torch.rand(batch, 3, resolution, resolution).sin()

    peaks = {"torch alone": [1.0, 1.0], "wheel512": [10.0, 20.0], "nsb512": [5.0, 10.0], "photo": [300.0, 400.0]}
    monkeypatch.setattr(bench, "random_biggan", tiny_biggan)
    monkeypatch.setattr(bench, "random_decoder", lambda name: tiny_decoder(name))
    monkeypatch.setattr(bench, "wheel_biggan", wheel)
    monkeypatch.setattr(bench_photos, "load_decoder", lambda name: tiny_decoder(name))
    monkeypatch.setattr(bench_photos, "compact_upscaler", lambda: torch.nn.Sequential())
    monkeypatch.setattr(bench_photos, "enlarge", lambda photo, decoder: photo.rgb.sin())
    monkeypatch.setattr(bench, "MATRIX_SIDES", {"cpu": 64})
    monkeypatch.setattr(bench, "CPU_ENGINES", bench.CPU_ENGINES[:1])
    monkeypatch.setattr(bench, "memory_peaks", lambda say: peaks)
    monkeypatch.setattr(Baseline, "rows", lambda self: {"nothing": lambda: None})


@pytest.mark.usefixtures("tiny_parts")
def test_the_report_has_every_ratio_and_row_and_adds_up() -> None:
    said: list[str] = []
    found = bench.measure(rounds=2, device=CPU, images=2, photo=(40, 30), say=said.append)
    assert set(found["ratios"]) == RATIOS == set(TARGETS) == set(found["spread"])
    assert found["ratios"]["memory_nsb512_over_wheel512"] == 0.5
    assert 0 <= found["ratios"]["overhead_share"] < 1
    rows = {(r["path"], r["decoder"]): r for r in found["rows"]}
    assert {p for p, _ in rows} == {
        "wheel256",
        "wheel512",
        "biggan256",
        "biggan512",
        "nsb128to512",
        "nsb512",
        "photo40x30",
    }
    assert {d for p, d in rows if p == "photo40x30"} == {"photo", "compact"}
    assert found["ratios"]["memory_photo_mib"] == 350
    assert {d for p, d in rows if p == "nsb512"} == {"subband-w-tiny", "subband-w-fast", "subband-w", "resnet-w"}
    for row in found["rows"]:
        low, high = row["quartiles_ms"]
        assert low <= row["ms"] <= high
    steps = rows["nsb512", "subband-w-fast"]["steps_ms"]
    assert list(steps) == ["2 samplers", "3 encoders", "4 decoders"]
    ours = rows["biggan256", None]["multiply_adds"]
    assert rows["nsb512", "subband-w-fast"]["multiply_adds"] > ours > 0
    assert any("round 2 of 2" in line for line in said)
    text = _text(found)
    assert all(name in text for name in RATIOS)


def timing(name: str, engine: str, values: list[float], decoder: str = "") -> bench.Timing:
    return bench.Timing(bench.Path(name, engine, "fp32", decoder, ()), values)


def test_ratios_are_taken_within_a_round_and_with_the_best_engine() -> None:
    timings = [
        timing("wheel512", "wheel", [6.0, 12.0]),
        timing("wheel256", "wheel", [4.0, 4.0]),
        timing("biggan256", "eager", [2.0, 2.0]),
        timing("biggan256", "openvino", [1.0, 1.0]),
        timing("biggan512", "eager", [9.0, 9.0]),
        timing("biggan512", "openvino", [2.0, 4.0]),
        timing("nsb512", "eager", [3.0, 3.0], "subband-w-fast"),
        timing("nsb512", "openvino", [1.0, 2.0], "subband-w-fast"),
        timing("nsb512", "openvino", [0.1, 0.1], "subband-w"),  # beside: no ratio takes it
        timing("nsb128to512", "eager", [0.5, 0.5], "subband-w-fast"),
        timing("nsb128to512", "openvino", [0.6, 0.6], "subband-w-fast"),
        timing("nsb512", "openvino", [0.5, 0.5], "subband-w-tiny"),
        timing("nsb128to512", "eager", [0.25, 0.25], "subband-w-tiny"),
    ]
    assert bench.find_ratios(timings) == {
        "wheel512_over_nsb512": [6.0, 6.0],
        "wheel512_over_nsb128to512": [12.0, 24.0],
        "wheel512_over_nsb512_tiny": [12.0, 24.0],
        "wheel512_over_nsb128to512_tiny": [24.0, 48.0],
        "nsb512fast_over_folded512": [0.5, 0.5],
        "nsb128to512_over_folded512": [0.5 / 9, 0.5 / 9],
        "wheel256_over_biggan256": [4.0, 4.0],
    }


def test_photo_ratios_are_to_the_quickest_engine() -> None:
    seconds = {
        "eager fp32 photo": [6.0, 6.0, 9.0],
        "openvino fp32 photo": [5.0, 4.0, 4.0],
        "openvino bf16 photo": [2.0, 2.0, 3.0],
        "eager fp32 compact": [8.0, 4.0, 3.0],
    }
    assert bench_photos.photo_ratios(seconds, "photo") == {
        "photo_eager_over_photo": [3.0, 3.0, 3.0],
        "compact_over_photo": [4.0, 2.0, 1.0],
    }


def test_the_compact_network_has_the_work_that_is_said() -> None:
    pytest.importorskip("spandrel", reason="needs the extra upscalers")
    network = bench_photos.compact_upscaler()
    assert network.info.scale == 4 and network.descriptor.architecture.id == "Compact"
    weights = sum(p.numel() for n, p in network.model.named_parameters() if p.ndim == 4)
    assert weights == 9 * (3 * 64 + 32 * 64 * 64 + 64 * 48)


def test_the_overhead_is_what_the_networks_do_not_take(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = {("folder", "png"): 10.0, ("folder", "webp"): 18.0, ("tar", "png"): 12.0}
    monkeypatch.setattr(bench, "overhead", lambda pipeline, folder, images, sink, fmt: (9.0, whole[sink, fmt]))
    row = bench.Path("nsb512", "eager", "fp32", "", (), (tiny_biggan(128), tiny_decoder()))
    assert bench.bulk_rates(row, 4) == {
        "bulk_png_over_bare": [0.9],
        "bulk_webp_over_bare": [0.5],
        "bulk_tar_over_bare": [0.75],
        "overhead_share": [pytest.approx(0.1)],
    }


def test_multiply_adds_are_those_of_the_convolutions() -> None:
    conv = torch.nn.Conv2d(3, 8, 3, padding=1)
    given = torch.rand(1, 3, 16, 16)
    row = bench.Path("x", "eager", "fp32", "", (("4 decoders", lambda _none: conv(given)),))
    assert bench.multiply_adds(row) == 3 * 8 * 9 * 16 * 16
    assert bench.multiply_adds(bench.Path("x", "openvino", "fp32", "", row.steps)) is None


def test_missing_decoders_are_built_with_their_real_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    from nsbgan_infer.diagnostics import bench_parts
    from nsbgan_infer.errors import CheckpointError

    def nothing(name: str) -> Any:
        raise CheckpointError("none ships")

    monkeypatch.setattr(bench_parts, "load_decoder", nothing)
    sizes = {"subband-w-fast": 0.37, "subband-w": 1.25, "resnet-w": 1.52}  # millions of parameters
    for name, millions in sizes.items():
        decoder: Any = random_decoder(name)
        assert isinstance(decoder, Component)
        assert sum(p.numel() for p in decoder.parameters()) / 1e6 == pytest.approx(millions, abs=0.02)


def test_pywt_and_ours_transform_the_same_picture() -> None:
    rows = Baseline().rows()
    ours: Any = rows["transform of 512, ours"]()
    theirs: Any = rows["transform of 512, pywt"]()
    inside = (slice(None), slice(4, -4), slice(4, -4))
    start = (theirs[0].shape[-1] - 256) // 2
    cut = theirs[0][:, start : start + 256, start : start + 256] / 2
    assert abs(ours[0].numpy()[inside] - cut[inside]).max() < 1e-4


def test_quartiles() -> None:
    assert bench.spread([3.0]) == (3.0, 3.0, 3.0)
    values = [5.0, 1.0, 4.0, 2.0, 3.0]
    assert bench.spread(values) == (statistics.median(values), 2.0, 4.0)


@pytest.mark.slow
def test_the_wheel_draws_a_finite_picture_that_is_not_flat() -> None:
    with torch.inference_mode():
        picture = wheel_biggan(256, CPU, 1)(None)
    assert picture.shape == (1, 3, 256, 256)
    assert picture.isfinite().all()


def test_peak_memory_is_a_process_of_its_own() -> None:
    held = torch.ones(1 << 28)  # 1 GiB
    command = "from nsbgan_infer.diagnostics.bench import peak_memory; print(peak_memory())"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 1000 < bench.peak_memory()
    assert held.min() == 1


@pytest.mark.slow
def test_memory_of_each_path_is_measured_in_its_own_process() -> None:
    peaks = bench.memory_peaks(lambda _: None, repeats=2)
    assert max(peaks["torch alone"]) < min(peaks["nsb512"]) and max(peaks["nsb512"]) < min(peaks["wheel512"])
