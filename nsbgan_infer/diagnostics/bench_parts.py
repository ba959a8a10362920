"""What `nsbgan bench` times: networks of the real sizes with random weights, the wheel's own, and small baselines."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from nsbgan_infer.bulk.pipelines import pipeline_maker
from nsbgan_infer.bulk.plan import Plan
from nsbgan_infer.bulk.run import run
from nsbgan_infer.bulk.sinks import Encoding, SinkName
from nsbgan_infer.decoders.base import Decoder
from nsbgan_infer.encoders import WaveletEncoder
from nsbgan_infer.errors import CheckpointError
from nsbgan_infer.images import Format, encode_image, to_uint8
from nsbgan_infer.latents import draw_latents
from nsbgan_infer.registry import load_decoder
from nsbgan_infer.samplers.biggan import LAYERS, BigGANConfig, BigGANDeep
from nsbgan_infer.storage.architectures import trained_networks
from nsbgan_infer.storage.components import build_component


def random_biggan(resolution: int) -> BigGANDeep:
    """Our folded BigGAN-deep of full width with random weights, in eval mode."""
    sampler = BigGANDeep(BigGANConfig(resolution=resolution))
    return sampler.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def random_decoder(name: str) -> Decoder:
    """The decoder that ships under `name`, else one of its size with random weights."""
    try:
        return load_decoder(name)
    except CheckpointError:
        part: Any = build_component(trained_networks()[name])
        for parameter in part.parameters():
            if parameter.ndim > 1 and not parameter.any():
                nn.init.normal_(parameter, std=0.01)
        decoder: Decoder = part.eval().requires_grad_(False)
        return decoder


def wheel_biggan(resolution: int, device: torch.device, batch: int) -> Callable[[Any], Tensor]:
    """The wheel's own BigGAN in eval mode, random weights of full width, as one call without arguments."""
    from pytorch_pretrained_biggan import BigGAN, BigGANConfig

    model = BigGAN(
        BigGANConfig(
            output_dim=resolution,
            layers=[list(layer) for layer in LAYERS[resolution]],
            attention_layer_position=8,
            num_classes=1000,
        )
    )
    final = model.generator.bn  # its weights are allocated, but never set
    nn.init.ones_(final.weight)
    nn.init.zeros_(final.bias)
    model = model.eval().to(device)
    z = torch.randn(batch, 128, device=device) * 0.4
    y = torch.zeros(batch, 1000, device=device)
    y[:, 207] = 1
    with torch.no_grad():
        for module in model.modules():
            if hasattr(module, "weight_u"):  # one power iteration, so that the spectral norms are of the right size
                matrix = module.weight_orig.flatten(1)
                module.weight_v.copy_(nn.functional.normalize(matrix.t() @ module.weight_u, dim=0))
                module.weight_u.copy_(nn.functional.normalize(matrix @ module.weight_v, dim=0))
    return lambda _none: model(z, y, 0.4)


def smooth_picture(height: int, width: int) -> Tensor:
    """(1, 3, height, width) in [0, 1]: smooth colours and a little noise, always the same."""
    generator = torch.Generator().manual_seed(0)
    small = torch.rand(1, 3, 64, 64, generator=generator)
    smooth = nn.functional.interpolate(small, size=(height, width), mode="bicubic", align_corners=False)
    return (smooth + 0.03 * torch.randn(1, 3, height, width, generator=generator)).clamp(0, 1)


class Baseline:
    """One natural-looking 512 x 512 picture and what is done to it besides networks."""

    def __init__(self) -> None:
        self.tensor = smooth_picture(512, 512)
        self.image = Image.fromarray(to_uint8(self.tensor)[0])
        self.array = self.tensor[0].numpy()

    def rows(self) -> dict[str, Callable[[], object]]:
        """Name -> work."""
        import pywt

        return {
            "transform of 512, ours": lambda: WaveletEncoder(1)(self.tensor),
            "transform of 512, pywt": lambda: pywt.dwt2(self.array, "bior2.2", mode="symmetric"),
            "to 8 bit": lambda: to_uint8(self.tensor),
            "PNG level 1 (ours)": lambda: encode_image(self.image),
            "PNG, Pillow's default": self._default_png,
        }

    def _default_png(self) -> int:
        buffer = io.BytesIO()
        self.image.save(buffer, "PNG")
        return len(np.frombuffer(buffer.getbuffer(), np.uint8))


def overhead(
    pipeline: Any, folder: Path, images: int, sink: SinkName = "folder", fmt: Format = "png"
) -> tuple[float, float]:
    """Seconds for `images` images by the networks alone, and by a bulk run that also encodes and writes them.

    The networks run before and after the bulk run, half each, so that a drift of the machine harms neither.
    """
    plan = Plan((207,), images, pipeline.resolutions[-1], encoding=Encoding(sink, fmt))
    requests = [plan.request(i) for i in range(images)]

    def networks(part: list[Any]) -> float:
        start = time.perf_counter()
        with torch.inference_mode():
            for request in part:
                _networks_alone(pipeline, request)
        return time.perf_counter() - start

    _networks_alone(pipeline, requests[0])
    alone = networks(requests[: images // 2])
    start = time.perf_counter()
    run(plan, folder, pipeline_maker(pipeline))
    whole = time.perf_counter() - start
    return alone + networks(requests[images // 2 :]), whole


def _networks_alone(pipeline: Any, request: Any) -> Tensor:
    info = pipeline.sampler.info
    latents = draw_latents(
        [request.seed], [request.class_id], z_dim=info.z_dim, truncation=info.truncation, mode=info.truncation_mode
    )
    x: Tensor = pipeline.sampler(latents)
    low = x[..., ::2, ::2].contiguous()  # of the low band's size, without the encoder's time
    out: Tensor = pipeline.stages[0].decoder(low)
    return out
