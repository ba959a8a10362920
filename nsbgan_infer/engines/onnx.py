"""ONNX export of steps 2 and 4: one file for the sampler, one for each decoder, checked against eager torch.

A decoder's batch, height and width are free, the sampler's batch is fixed. The truncation is worked into the sampler,
so its inputs are z (B, z_dim) and y (B, 1000 or its own classes), or for StyleGAN2 z and noise. Outputs are what the
parts return: RGB, nominally [0, 1], unclamped.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nsbgan_infer.decoders.anchor import moves
from nsbgan_infer.decoders.base import DecoderInfo
from nsbgan_infer.encoders import encoder_config
from nsbgan_infer.engines.graph import part_graph
from nsbgan_infer.engines.openvino import threads
from nsbgan_infer.errors import WorkError, missing_extra
from nsbgan_infer.latents import draw_latents
from nsbgan_infer.pipeline import NsbPipeline
from nsbgan_infer.storage.files import atomic_path, write_json

LIMIT = 1 / 255  # largest difference from eager torch that an exported network may have
OPSET = 18
FREE_SIDE = 8  # of low bands that a decoder is exported and tried with: multiples of it
FREE_MOST = 4096  # images of a batch, and samples a side, that a file takes
Run = Callable[[Path, Sequence[NDArray[np.float32]]], NDArray[np.float32]]


@dataclass(frozen=True)
class Exported:
    """One file: what is in it, its inputs by name with their shapes (a text is a size that is free, 8 * h a multiple of
    8), and how far it is from eager torch (None where nothing was there to check with)."""

    file: str
    part: str
    inputs: dict[str, tuple[int | str, ...]]
    output: tuple[int | str, ...]
    difference: float | None


class _WithConstants(nn.Module):
    """A graph one of whose inputs, the one at `place`, is fixed."""

    constant: Tensor

    def __init__(self, module: nn.Module, constant: Tensor, place: int) -> None:
        super().__init__()
        self.module, self.place = module, place
        self.register_buffer("constant", constant)

    def forward(self, *free: Tensor) -> Tensor:
        out: Tensor = self.module(*free[: self.place], self.constant, *free[self.place :])
        return out


def export_pipeline(
    pipeline: NsbPipeline, folder: Path, *, truncation: float | None = None, batch: int = 1, check: bool = True
) -> list[Exported]:
    """Write `sampler.onnx`, `decoder-1.onnx` and so on, and `export.json` into `folder`, which exists.

    Raises MissingExtraError before any work where onnx, or with `check` a program that runs it, is missing; UsageError
    for the sampler of a plug-in; WorkError when an exported network differs from eager torch by more than 1/255.
    """
    need("onnx", "onnxscript")
    run = find_runner() if check else None
    pipeline.to("cpu", torch.float32)
    done = [_export(folder / "sampler.onnx", pipeline.sampler.info.name, *_sampler(pipeline, truncation, batch), run)]
    files: dict[int, str] = {}
    for decoder in (s.decoder for s in pipeline.stages):
        graph = part_graph(decoder)
        if graph and id(decoder) not in files:
            files[id(decoder)] = f"decoder-{len(files) + 1}.onnx"
            side = math.lcm(FREE_SIDE, decoder.info.multiple)
            low = _low_band(2, 3 * side, 4 * side)  # no two sizes equal: each is free by itself
            file = folder / files[id(decoder)]
            done.append(_export(file, decoder.info.name, graph.module, {"low_band": low}, run, free=decoder.info))
    stages = [
        {"file": files.get(id(s.decoder)), **facts}
        for s, facts in zip(pipeline.stages, stage_facts(pipeline), strict=True)
    ]
    listed = {"pipeline": pipeline.name, "networks": [vars(d) for d in done], "stages": stages}
    write_json(folder / "export.json", listed)
    return done


def _low_band(batch: int, height: int, width: int) -> Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(0))


def stage_facts(pipeline: NsbPipeline) -> list[dict[str, Any]]:
    """What stands between the exported networks: each stage's encoder, the reduction that its decoder reads and where
    samples lie in it, and by how many pixels right and down its result is moved afterwards (`decoders.anchor`)."""
    return [
        {
            "encoder": encoder_config(stage.encoder) if stage.encoder else None,
            "decoder": stage.decoder.info.name,
            "reads": stage.decoder.info.reads,
            "anchor": stage.decoder.info.reduction.anchor,
            "scale": stage.decoder.info.scale,
            "move": moves(stage.decoder, came.anchor),
        }
        for stage, came in zip(pipeline.stages, pipeline.reductions, strict=True)
    ]


def need(*packages: str) -> None:
    """Raise MissingExtraError for the first of `packages` that is not installed."""
    for package in packages:
        if find_spec(package) is None:
            raise missing_extra(package, "openvino", "The ONNX export")


def find_runner() -> Run:
    """What runs an ONNX file here: ONNX Runtime, else OpenVINO. Raises MissingExtraError if there is neither."""
    if find_spec("onnxruntime"):
        return _run_onnxruntime
    if find_spec("openvino"):
        return _run_openvino
    raise missing_extra("openvino", "openvino", "Checking the export (or leave it out with --no-check)")


def _sampler(pipeline: NsbPipeline, truncation: float | None, batch: int) -> tuple[nn.Module, dict[str, Tensor]]:
    sampler: Any = pipeline.sampler
    info = sampler.info
    latents = draw_latents(
        range(batch),
        [None if info.classes is None else info.classes[0]] * batch,
        z_dim=info.z_dim,
        truncation=info.truncation if truncation is None else truncation,
        mode=info.truncation_mode,
        truncates=info.truncates,
    )
    part_graph(sampler)  # refuses samplers that have none
    graph = sampler.export_graph()
    given = dict(zip(graph.names, graph.inputs(latents), strict=True))
    if graph.fixed is None:
        return graph.module, given
    place = graph.names.index(graph.fixed)
    return _WithConstants(graph.module, given.pop(graph.fixed), place), given


def _export(
    file: Path,
    part: str,
    module: nn.Module,
    inputs: dict[str, Tensor],
    run: Run | None,
    *,
    free: DecoderInfo | None = None,
) -> Exported:
    """One network. `free`: it is a decoder of this info, whose batch, height and width are left open."""
    given = tuple(t.contiguous() for t in inputs.values())
    shapes: Any = None
    if free:
        m, size = free.multiple, torch.export.Dim.DYNAMIC
        sides = [m * torch.export.Dim(n, min=1, max=FREE_MOST // m) if m > 1 else size for n in ("h", "w")]
        shapes = ({0: torch.export.Dim("batch", min=1, max=FREE_MOST), 2: sides[0], 3: sides[1]},)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = module(*given)
        program = torch.onnx.export(
            module.eval(),
            given,
            input_names=list(inputs),
            output_names=["picture"],
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
            dynamic_shapes=shapes,
        )
    difference = None
    with atomic_path(file) as temporary:
        assert program is not None
        program.save(temporary, external_data=False)
        if run is not None:
            side = math.lcm(FREE_SIDE, free.multiple) if free else 0
            tried = [given, (_low_band(1, 2 * side, 2 * side),)] if free else [given]
            difference = max(_difference(run, temporary, module, tensors) for tensors in tried)
            if not difference <= LIMIT:
                raise WorkError(
                    f"The exported network of {part} differs from torch by {difference:.3g}, more than 1/255: {file} "
                    "is not kept. Please report it with the versions of `nsbgan --version`."
                )
    if free:
        named = ["height", "width"] if free.multiple == 1 else [f"{free.multiple} * {n}" for n in ("h", "w")]
        large = [f"{free.scale} * {side}" for side in named]
        return Exported(file.name, part, {"low_band": ("batch", 3, *named)}, ("batch", 3, *large), difference)
    sizes: dict[str, tuple[int | str, ...]] = {name: tuple(t.shape) for name, t in inputs.items()}
    return Exported(file.name, part, sizes, tuple(wanted.shape), difference)


@torch.no_grad()
def _difference(run: Run, file: Path, module: nn.Module, inputs: tuple[Tensor, ...]) -> float:
    return float(np.abs(run(file, [t.numpy() for t in inputs]) - module(*inputs).numpy()).max())


def _run_onnxruntime(file: Path, inputs: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(file.read_bytes(), options, providers=["CPUExecutionProvider"])
    feed = {i.name: array for i, array in zip(session.get_inputs(), inputs, strict=True)}
    out: NDArray[np.float32] = session.run(None, feed)[0]
    return out


def _run_openvino(file: Path, inputs: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    import openvino

    model = openvino.Core().read_model(file.read_bytes())
    settings = {"INFERENCE_PRECISION_HINT": "f32", **threads()}
    request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()
    out: NDArray[np.float32] = request.infer(list(inputs))[0].copy()
    return out
