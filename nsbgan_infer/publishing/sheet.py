"""Sample sheets for model cards: what a sampler, a decoder or a pipeline makes, not chosen, on one picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from nsbgan_infer.decoders.base import Decoder
from nsbgan_infer.decoders.interpolate import make_bicubic, make_iwt
from nsbgan_infer.encoders import WaveletEncoder
from nsbgan_infer.encoders.table import follow
from nsbgan_infer.images import grid
from nsbgan_infer.inverters.base import Inverter
from nsbgan_infer.pipeline import Drawing, NsbPipeline, Request, Stage
from nsbgan_infer.publishing.subject import Subject
from nsbgan_infer.registry import load_decoder, load_inverter, load_sampler
from nsbgan_infer.samplers.base import Sampler
from nsbgan_infer.samplers.vectors import vectors
from nsbgan_infer.storage.shipped import default_decoder, manifest

if TYPE_CHECKING:
    from PIL import Image

COLUMNS, PICTURES, CELL = 10, 40, 128  # of samplers and pipelines
PAIRS, PAIR_CELL = 5, 256  # of decoders
SHIPPED = {  # whose samples a decoder is shown on; ordinary pictures are made of the first one's
    "wavelet": "embedded-w-64",
    "gaussian": "embedded-p-64",
    "bicubic": "embedded-w-64",
    "bilinear": "embedded-w-64",
}
Progress = Callable[[int], None]  # so many more pictures are made


@dataclass(frozen=True)
class Sheet:
    """A picture and the sentence that says what it shows."""

    image: Image.Image
    caption: str


def sheet_pictures(subject: Subject) -> int:
    """How many pictures its sheet shows."""
    return 2 * PAIRS if subject.kind in ("decoder", "inverter") else PICTURES


def sample_sheet(subject: Subject, progress: Progress = lambda _more: None) -> Sheet | None:
    """The sheet of a subject; None for a decoder of a basis for which no sampler ships.

    Reads weights and runs the networks on the CPU: seconds for what ships, minutes for BigGAN.
    """
    if subject.kind == "pipeline":
        return _pipeline_sheet(NsbPipeline.from_pretrained(subject.source), progress)
    if subject.kind == "inverter":
        return _inverter_sheet(load_inverter(str(subject.source)), progress)
    if subject.kind == "sampler":
        return _sampler_sheet(load_sampler(str(subject.source)), progress)
    return _decoder_sheet(load_decoder(str(subject.source)), progress)


def _decoder_sheet(decoder: Decoder, progress: Progress) -> Sheet | None:
    info, made = decoder.info, decoder.info.reduction
    drawn, levels = SHIPPED[made.name], info.scale.bit_length() - 1
    if drawn not in manifest().get("components", {}) or info.scale != 1 << levels:
        return None
    plain = make_iwt(info.scale) if made.basis == "wavelet" else make_bicubic(info.scale).anchored(made.anchor)
    sampler = load_sampler(drawn)
    before, encoder = [], None
    if made.anchor == "centre":  # a picture first, made smaller as the decoder reads it
        before = [Stage(None, load_decoder(default_decoder("wavelet")))]
        encoder = follow(WaveletEncoder(levels), made.name)
    requests = _requests(sampler.info.classes, PAIRS)
    pictures = []
    for each in (plain, decoder):
        pipeline = NsbPipeline(sampler, [*before, Stage(encoder, each)])
        pictures += _made(pipeline, requests, PAIR_CELL, progress)
    below = f"Below: {info.name}, from the same samples of {drawn}, seed 0."
    return Sheet(grid(pictures, PAIRS), f"Above: plain interpolation ({plain.info.name}). {below}")


def _inverter_sheet(inverter: Inverter, progress: Progress) -> Sheet | None:
    info = inverter.info
    if info.sampler not in manifest().get("components", {}):
        return None
    sampler = load_sampler(info.sampler)
    pipeline = NsbPipeline(sampler, [Stage(None, load_decoder(default_decoder(info.makes)))])
    latents = pipeline.latents(_requests(info.classes, PAIRS))
    with torch.no_grad():
        guess = vectors(sampler).at_vector(inverter(sampler(latents), latents.y), latents)
    pictures = []
    for each in (latents, guess):
        output = pipeline(latents=each, batch_size=PAIRS)
        pictures += [i if i.width <= PAIR_CELL else i.resize((PAIR_CELL, PAIR_CELL)) for i in output.images]
        progress(PAIRS)
    return Sheet(grid(pictures, PAIRS), f"Above: pictures of {info.sampler}, seed 0. Below: the guesses from them.")


def _sampler_sheet(sampler: Sampler, progress: Progress) -> Sheet:
    info = sampler.info
    if info.basis == "pixel" and info.resolution >= CELL:
        return _pipeline_sheet(NsbPipeline(sampler), progress)
    return _pipeline_sheet(NsbPipeline(sampler, [Stage(None, load_decoder(default_decoder(info.makes)))]), progress)


def _pipeline_sheet(pipeline: NsbPipeline, progress: Progress) -> Sheet:
    requests = _requests(pipeline.sampler.info.classes, PICTURES)
    pictures = _made(pipeline, requests, CELL, progress)
    decoders = list(dict.fromkeys(s.decoder.info.name for s in pipeline.stages))
    by = f", decoded by {' and '.join(decoders)}" if decoders else ""
    seeds = sorted({r.seed for r in requests})
    return Sheet(grid(pictures, COLUMNS), f"Seeds {seeds[0]} to {seeds[-1]}, not chosen{by}, shrunk to {CELL} pixels.")


def _requests(classes: Sequence[int] | None, count: int) -> list[Request]:
    """`count` images: two of each of some classes spread over all, or more where there are fewer classes."""
    if classes is None:
        return [Request(None, seed) for seed in range(count)]
    kinds = min(len(classes), count if count <= PAIRS else count // 2)
    picked = [classes[i * len(classes) // kinds] for i in range(kinds)]
    return [Request(picked[i % kinds], i // kinds) for i in range(count)]


def _made(pipeline: NsbPipeline, requests: Sequence[Request], cell: int, progress: Progress) -> list[Image.Image]:
    """The pictures, at the first size that fills a cell, shrunk to it."""
    sides = [r for r in pipeline.resolutions if r >= cell] or [pipeline.resolutions[-1]]
    pictures = []
    for output in pipeline.stream(requests, Drawing(resolution=sides[0]), batch_size=min(len(requests), 5)):
        pictures += [i if i.width <= cell else i.resize((cell, cell)) for i in output.images]
        progress(len(output.requests))
    return pictures
