"""What int8 would give a decoder: Set5's dB and processor time against fp32, both by onnxruntime, one thread.

`python tests/helpers/int8.py subband-w-fast` calibrates onnxruntime's static quantisation (convolutions only, weights
per channel) on pictures that `embedded` draws, and prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nsbgan_infer import NsbPipeline
from nsbgan_infer.datasets import open_source, to_tensor
from nsbgan_infer.decoders.base import Decoder, DecoderInfo
from nsbgan_infer.encoders import WaveletEncoder
from nsbgan_infer.engines.onnx import _export
from nsbgan_infer.evaluation.reconstruction import evaluate_decoders
from nsbgan_infer.registry import load_decoder

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
CALIBRATION, ROUNDS, LOW = 20, 9, 128


class ByOnnxruntime:
    """A file as a decoder."""

    def __init__(self, file: Path, info: DecoderInfo) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.info, self.session = info, onnxruntime.InferenceSession(str(file), options)

    def __call__(self, low_band: Tensor) -> Tensor:
        (out,) = self.session.run(None, {"low_band": low_band.numpy()})
        return torch.from_numpy(out)


class LowBands:
    """What onnxruntime's calibration reads: low bands of drawn pictures, one at a time."""

    def __init__(self, count: int) -> None:
        pipeline = NsbPipeline.from_pretrained("embedded")
        classes = pipeline.sampler.info.classes or range(1000)
        drawn = pipeline(list(classes)[:count], 1, resolution=256).images
        self.rest = [{"low_band": WaveletEncoder(2)(to_tensor(image)[None]).numpy()} for image in drawn]

    def get_next(self) -> dict[str, Any] | None:
        return self.rest.pop() if self.rest else None


def quantised(file: Path, count: int) -> Path:
    """The same network with its convolutions in int8, in a file beside it."""
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared, out = file.with_suffix(".pre.onnx"), file.with_suffix(".int8.onnx")
    quant_pre_process(str(file), str(prepared), skip_symbolic_shape=True)
    quantize_static(
        str(prepared),
        str(out),
        LowBands(count),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["Conv"],
        per_channel=True,
        reduce_range=True,  # seven bits: without VNNI eight overflow
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    return out


def cpu_ms(makes: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The least processor time of each over rounds in turn, after one that warms up."""
    found: dict[str, list[float]] = {name: [] for name in makes}
    for _ in range(rounds + 1):
        for name, make in makes.items():
            begun = time.process_time()
            make()
            found[name].append(1000 * (time.process_time() - begun))
    return {name: round(min(times[1:]), 1) for name, times in found.items()}


def measure(name: str, pictures: str, *, calibration: int = CALIBRATION, rounds: int = ROUNDS) -> dict[str, Any]:
    """dB and milliseconds of `name` in fp32 and int8, and their ratio."""
    torch.set_num_threads(1)
    module: Any = load_decoder(name)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "fp32.onnx"
        _export(file, name, module, {"low_band": torch.rand(2, 3, 64, 64)}, None, free=module.info)
        decoders: dict[str, Decoder] = {
            "fp32": ByOnnxruntime(file, module.info),
            "int8": ByOnnxruntime(quantised(file, calibration), module.info),
        }
        reports = evaluate_decoders(list(decoders.values()), open_source((pictures,)))
        low = torch.rand(1, 3, LOW, LOW)
        times = cpu_ms({n: lambda d=d: d(low) for n, d in decoders.items()}, rounds)  # type: ignore[misc]
    decibels = {n: round(r.psnr_y, 3) for n, r in zip(decoders, reports, strict=True)}
    return {"decoder": name, "psnr_y": decibels, "cpu_ms": times, "speed": round(times["fp32"] / times["int8"], 3)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("decoder")
    parser.add_argument("--pictures", default=str(SHARED / "set5.zip"))
    given = parser.parse_args()
    print(json.dumps(measure(given.decoder, given.pictures)))
