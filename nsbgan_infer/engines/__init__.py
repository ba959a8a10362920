"""Engines: what runs the networks of steps 2 and 4. The pipeline's contracts do not change, only its speed.

`eager` is torch with channels_last; `compile` is torch.compile; `openvino` compiles each network for the CPU. An
engine is put on a pipeline last, after weights, device and dtype are settled: ``with_engine(pipeline, name)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal, TypeVar, cast

import torch

from nsbgan_infer.devices import pick_dtype
from nsbgan_infer.errors import UsageError
from nsbgan_infer.steps.calls import Drawing

if TYPE_CHECKING:
    from nsbgan_infer.pipeline import NsbPipeline

Part = TypeVar("Part")  # a sampler or a decoder
EngineName = Literal["eager", "compile", "openvino"]
ENGINES = ("auto", "eager", "compile", "openvino")
WORTH_COMPILING = 200  # images on CUDA; torch.compile takes 16 to 51 s on two CPU cores
CLOSE, CLOSE_BF16 = 1e-4, 0.1  # of pixel values in [0, 1]: what a compiled network may be off on noise
WORTH_WEIGHING = 2  # images; weighing takes some hundredths of a second


@dataclass(frozen=True)
class Pick:
    """The engine that runs a pipeline, the dtype that goes with it where `auto` chose one, and why, in a clause for
    people, where `auto` weighed two."""

    engine: EngineName
    dtype: str | None = None
    why: str | None = None


def pick_engine(name: str, device: torch.device, images: int) -> tuple[EngineName, str | None]:
    """The engine meant by `name` for that number of images on a device, and its dtype where `auto` chose.

    `auto`: on CUDA `compile` in bf16 from 200 images on, else `eager`; what OpenVINO costs on a CPU depends on the
    pipeline (`pick_for`). Raises UsageError for an unknown name, or OpenVINO with a device that is not the CPU.
    """
    if name == "auto":
        return ("compile", "bf16") if device.type == "cuda" and images >= WORTH_COMPILING else ("eager", None)
    if name == "openvino" and device.type != "cpu":
        raise UsageError(f"The engine openvino runs on the CPU, not on {device}: add --device cpu.")
    if name not in ENGINES:
        raise UsageError(f"Unknown engine '{name}': use {', '.join(ENGINES)}.")
    known: dict[str, EngineName] = {"eager": "eager", "compile": "compile", "openvino": "openvino"}
    return known[name], None


def pick_for(
    pipeline: NsbPipeline,
    name: str = "auto",
    *,
    device: torch.device | None = None,
    dtype: torch.dtype | None = None,
    images: int = 0,
    batch_size: int = 1,
    drawing: Drawing | None = None,
) -> Pick:
    """The engine meant by `name` for that number of images of a pipeline, as `pick_engine`; but on a CPU with OpenVINO
    `auto` takes what is through first, loading or compiling the networks included (`engines.rule`).

    `device` and `dtype` None: the pipeline's. `drawing` None: as trained.
    """
    device = device or pipeline.device
    engine, goes_with = pick_engine(name, device, images)
    if name != "auto" or device.type != "cpu" or images < WORTH_WEIGHING or not find_spec("openvino"):
        return Pick(engine, goes_with)
    from nsbgan_infer.engines.needs import needed_networks
    from nsbgan_infer.engines.openvino import HINTS
    from nsbgan_infer.engines.rule import costs_here, weigh

    computes_in = dtype or pipeline.dtype
    if computes_in not in HINTS or not _takes_engines(pipeline.sampler):
        return Pick("eager")
    networks = needed_networks(pipeline, images, computes_in, batch_size=batch_size, drawing=drawing or Drawing())
    weighed = weigh(images, networks, costs_here(computes_in), torch.get_num_threads())
    return Pick("openvino" if weighed.engine == "openvino" else "eager", None, weighed.why)


def place(
    pipeline: NsbPipeline,
    engine: str = "auto",
    *,
    device: torch.device | None = None,
    dtype: torch.dtype | str = "auto",
    images: int = 0,
    batch_size: int = 1,
    drawing: Drawing | None = None,
) -> NsbPipeline:
    """The pipeline on `device`, computing in `dtype`, run by `engine` or what `auto` picks for that number of `images`
    (`pick_for`).

    `device` None: where it is. `dtype` "auto": as it is, or what goes with the engine that `auto` took. Raises as
    `pick_engine`, `pick_dtype` and `with_engine` do.
    """
    device = device or pipeline.device
    asked = None if dtype == "auto" else pick_dtype(dtype, device) if isinstance(dtype, str) else dtype
    pick = pick_for(pipeline, engine, device=device, dtype=asked, images=images, batch_size=batch_size, drawing=drawing)
    computes_in = asked or (pick_dtype(pick.dtype, device) if pick.dtype else pipeline.dtype)
    if pick.engine == "eager":
        return pipeline.to(device, computes_in)
    return with_engine(pipeline.to(device), pick.engine, dtype=computes_in)


def place_part(part: Part, engine: str, device: torch.device, dtype: torch.dtype) -> Part:
    """One sampler or decoder on `device`, computing in `dtype`, run by `engine`; `auto` is eager here; a part
    without weights stays as it is.

    Raises as `pick_engine` does, and MissingExtraError where OpenVINO is not installed.
    """
    name, _ = pick_engine(engine, device, 0)
    if isinstance(part, torch.nn.Module):
        part.to(device, torch.float32 if name == "openvino" else dtype)  # which computes in `dtype` by itself
    return with_engine_part(part, name, dtype)


def place_for_any_size(part: Part, device: torch.device, dtype: torch.dtype) -> Part:
    """`place_part` with OpenVINO for low bands of many sizes: compiled once, not once for each.

    Checked on two sizes here against torch: a decoder whose sizes are worked into its graph, or that OpenVINO cannot
    take so, is run by `eager`. Raises as `place_part` does.
    """
    from nsbgan_infer.engines.graph import Engined, part_graph
    from nsbgan_infer.engines.openvino import Network

    pick_engine("openvino", device, 0)
    graph = part_graph(part)
    if graph is None or not isinstance(part, torch.nn.Module):
        return place_part(part, "eager", device, dtype)
    part.to(device, torch.float32)
    engined = Engined(part, graph, Network(part, graph, dtype, any_size=True))
    step = 8 * engined.info.multiple
    generator = torch.Generator().manual_seed(0)
    try:
        for batch, rows, columns in ((2, 2, 3), (1, 3, 2)):
            low = torch.rand(batch, 3, rows * step, columns * step, generator=generator)
            with torch.inference_mode():
                off = (engined(low) - part(low)).abs().max()
            if not off < (CLOSE if dtype == torch.float32 else CLOSE_BF16):
                return place_part(part, "eager", device, dtype)
    except RuntimeError:  # OpenVINO's own, whatever it is
        return place_part(part, "eager", device, dtype)
    return cast("Part", engined)


def with_engine(pipeline: NsbPipeline, engine: EngineName, *, dtype: torch.dtype | None = None) -> NsbPipeline:
    """The same pipeline with its networks run by `engine`; parts without weights stay as they are.

    `dtype` fp32 or bf16 (default: the pipeline's). Raises MissingExtraError where OpenVINO is not installed, UsageError
    for a sampler that the engine cannot take.
    """
    computes_in = dtype or pipeline.dtype

    def use_engine(part: Part) -> Part:
        return with_engine_part(part, engine, computes_in)

    if engine == "openvino":  # keeps its tensors in fp32, whatever it computes in
        pipeline.to("cpu", torch.float32)
    else:
        pipeline.to(dtype=dtype)
    decoders = {id(s.decoder): s.decoder for s in pipeline.stages}  # one in several stages is compiled once
    engined = {key: use_engine(part) for key, part in decoders.items()}
    new = pipeline.with_parts(use_engine(pipeline.sampler), [engined[id(s.decoder)] for s in pipeline.stages])
    new.engine, new.computes_in, new.use_engine = engine, computes_in, use_engine
    return new


def with_engine_part(part: Part, engine: EngineName, dtype: torch.dtype) -> Part:
    """One sampler or decoder, on its device already, run by `engine` in `dtype`."""
    from nsbgan_infer.engines.graph import Engined, part_graph

    if engine == "eager":
        from nsbgan_infer.engines.eager import channels_last

        return channels_last(part)
    graph = part_graph(part)
    if graph is None:
        return part
    if engine == "compile":
        from nsbgan_infer.engines.eager import compiled

        return cast("Part", Engined(part, graph, compiled(graph)))
    from nsbgan_infer.engines.openvino import network_for

    return cast("Part", Engined(part, graph, network_for(part, graph, dtype)))


def _takes_engines(sampler: object) -> bool:
    from nsbgan_infer.engines.graph import part_graph

    try:
        return part_graph(sampler) is not None
    except UsageError:  # a plug-in's
        return False
