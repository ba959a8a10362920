"""The photo rows of `nsbgan bench`: one photo enlarged by each engine, beside another program's network of equal work.

That network is Real-ESRGAN's compact one (SRVGG: 64 features, 32 convolutions) with random weights, run by spandrel.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from nsbgan_infer.decoders.base import Decoder
from nsbgan_infer.decoders.foreign import load_foreign
from nsbgan_infer.devices import computes_bf16
from nsbgan_infer.diagnostics.bench_parts import smooth_picture
from nsbgan_infer.engines import EngineName, place_part
from nsbgan_infer.errors import MissingExtraError, UsageError
from nsbgan_infer.images import to_uint8
from nsbgan_infer.photos import Photo, encode_photo, enlarge
from nsbgan_infer.registry import load_decoder
from nsbgan_infer.storage.shipped import default_upscaler

SIZE = (1200, 900)
SMALL = (300, 225)  # with --quick
COMPACT = "compact"
MEMORY_LIMIT = 500  # MiB

Row = tuple[EngineName, torch.dtype, str, Callable[[Any], Photo]]  # engine, dtype, decoder, what is timed


def bench_photo(size: tuple[int, int] = SIZE) -> Photo:
    """A smooth picture with some noise as a photo of 8 bits."""
    return Photo(to_uint8(smooth_picture(size[1], size[0]))[0])


def photo_rows(
    engines: Iterable[tuple[EngineName, torch.dtype]],
    device: torch.device,
    size: tuple[int, int],
    say: Callable[[str], None],
) -> list[Row]:
    """The default decoder of photos by each engine, and the compact network where spandrel can be used.

    bf16 on a CPU without instructions for it is left out: it is not faster, and its picture not the same.
    """
    photo, name = bench_photo(size), default_upscaler()
    rows: list[Row] = []
    for engine, dtype in engines:
        if dtype == torch.bfloat16 and not computes_bf16(device):
            say(f"this {device.type} has no instructions for bf16: photos are timed in fp32 only")
            continue
        decoder = place_part(load_decoder(name), engine, device, dtype)
        rows.append((engine, dtype, name, _enlarging(photo, decoder)))
    try:
        rows.append(("eager", torch.float32, COMPACT, _enlarging(photo, compact_upscaler().to(device))))
    except (MissingExtraError, UsageError) as error:
        say(f"without the compact network: {error}")
    return rows


def compact_upscaler(features: int = 64, convolutions: int = 32) -> Any:
    """Real-ESRGAN's compact network, x4, with random weights as spandrel's `ForeignUpscaler`.

    Raises MissingExtraError without spandrel, UsageError where it cannot be imported.
    """
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(0)
    widths = [3, *[features] * (convolutions + 1), 48]
    state: dict[str, torch.Tensor] = {}
    for i, (before, after) in enumerate(pairwise(widths)):
        state[f"body.{2 * i}.weight"] = torch.randn(after, before, 3, 3, generator=generator) / (9 * before) ** 0.5
        state[f"body.{2 * i}.bias"] = torch.zeros(after)
        if i <= convolutions:
            state[f"body.{2 * i + 1}.weight"] = torch.full((after,), 0.1)  # of its PReLU
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "compact.safetensors"
        save_file(state, file)
        return load_foreign(file)


def photo_ratios(seconds: dict[str, list[float]], name: str) -> dict[str, list[float]]:
    """By what eager fp32 and the compact network take longer than the quickest engine, a value a round.

    `seconds` has keys `engine dtype decoder`.
    """
    ours = {k: v for k, v in seconds.items() if k.endswith(f" {name}")}
    best = min(ours.values(), key=lambda values: sorted(values)[len(values) // 2])
    pairs = {
        "photo_eager_over_photo": seconds.get(f"eager fp32 {name}"),
        "compact_over_photo": seconds.get(f"eager fp32 {COMPACT}"),
    }
    return {k: [a / b for a, b in zip(v, best, strict=True)] for k, v in pairs.items() if v}


def enlarge_once(size: tuple[int, int] = SIZE) -> int:
    """What a fresh process does whose memory is measured: enlarge a photo, encode it as PNG. The bytes of the file."""
    made = enlarge(bench_photo(size), load_decoder(default_upscaler()))
    return len(encode_photo(made))


def _enlarging(photo: Photo, decoder: Decoder) -> Callable[[Any], Photo]:
    return lambda _none: enlarge(photo, decoder)
