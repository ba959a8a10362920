"""The engine `openvino`: each network compiled for the CPU, in fp32 or bf16, once for every shape of its inputs.

A compiled network is kept in the cache folder under a hash of everything that it depends on, so the next process reads
it back instead of tracing and compiling. Inputs and outputs are fp32; with bf16 the layers inside compute in bf16.
"""

from __future__ import annotations

import hashlib
import json
import platform
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache, singledispatch
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nsbgan_infer.engines.baked import BakedBigGAN
from nsbgan_infer.errors import WorkError, missing_extra
from nsbgan_infer.samplers.biggan import BigGANDeep
from nsbgan_infer.storage.architectures import Graph
from nsbgan_infer.storage.components import Component, component_config, weights_sha256
from nsbgan_infer.storage.files import write_bytes
from nsbgan_infer.storage.hub import cache_dir

HINTS = {torch.float32: "f32", torch.bfloat16: "bf16"}


class Network:
    """One component's tensor part, compiled for every shape that comes along, computing in `dtype` (fp32 or bf16).

    Threads: as many as torch uses. `constants` tells graphs of one component apart that have different numbers worked
    in. `any_size`: of low bands, compiled once for all batches, heights and widths; the first call with a shape then
    takes a twentieth longer. Raises MissingExtraError where OpenVINO is not installed.
    """

    def __init__(
        self, part: Any, graph: Graph, dtype: torch.dtype, *, constants: str = "", any_size: bool = False
    ) -> None:
        need_openvino()
        self.part, self.graph, self.dtype, self.constants = part, graph, dtype, constants
        self.any_size = any_size
        self.requests: dict[tuple[torch.Size, ...], Any] = {}
        self.mapped: list[Any] = []

    def __call__(self, *tensors: Tensor) -> Tensor:
        """fp32 tensors -> one fp32 tensor of its own memory."""
        arrays = [t.detach().float().contiguous().numpy() for t in tensors]
        shapes = () if self.any_size else tuple(t.shape for t in tensors)
        if shapes not in self.requests:
            self.requests[shapes] = self._compiled([torch.from_numpy(a) for a in arrays]).create_infer_request()
        results = self.requests[shapes].infer(arrays, share_inputs=True, share_outputs=True)
        return torch.from_numpy(results[0]).clone()  # the request writes its next result to the same place

    def kept_file(self, tensors: Sequence[Tensor]) -> Path:
        """Where the network compiled for the shapes of `tensors` is kept, whether it is there or not.

        Found without OpenVINO's help, whose import takes as long as loading a network.
        """
        return cache_dir() / "openvino" / f"{self._key(tensors)}.blob"

    @property
    def _settings(self) -> dict[str, str]:
        return {
            "INFERENCE_PRECISION_HINT": HINTS[self.dtype],
            "PERFORMANCE_HINT": "LATENCY",
            **threads(),
        }

    def _compiled(self, tensors: list[Tensor]) -> Any:
        core, settings = _openvino().Core(), self._settings
        file = self.kept_file(tensors)
        if file.is_file():
            try:
                return self._imported(core, file, settings)
            except (RuntimeError, ValueError, OSError):  # of another build, or damaged: compiled again below
                with suppress(OSError):
                    file.unlink()
        compiled = core.compile_model(traced(self.graph, tensors, any_size=self.any_size), "CPU", settings)
        _keep(file, compiled.export_model().getvalue())
        return compiled

    def _imported(self, core: Any, file: Path, settings: dict[str, str]) -> Any:
        """The network in `file`, its weights where they lie: read into memory they would be there twice."""
        mapped = _openvino().Tensor(np.memmap(file, np.uint8, "c"), shared_memory=True)
        compiled = core.import_model(mapped, "CPU", settings)
        self.mapped.append(mapped)  # as long as the network
        return compiled

    def _key(self, tensors: Sequence[Tensor]) -> str:
        facts = {
            "config": component_config(self.part),
            "weights": weights_sha256(self.part) or _state_hash(self.part),
            "constants": self.constants,
            "shapes": "any" if self.any_size else [list(t.shape) for t in tensors],
            "settings": self._settings,
            "versions": [version("openvino"), torch.__version__, version("nsbgan-infer")],
            "cpu": _cpu(),
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


class BigGANNetworks:
    """A BigGAN-deep with its statistics worked in (see `baked`): a network for each truncation that comes along."""

    def __init__(self, sampler: BigGANDeep, dtype: torch.dtype) -> None:
        need_openvino()
        self.sampler, self.dtype = sampler, dtype
        self.networks: dict[str, Network] = {}

    def __call__(self, z: Tensor, y: Tensor, statistics: Tensor) -> Tensor:
        """What `BigGANDeep.forward_tensors` is given and gives."""
        return self._network(statistics)(z, y)

    def kept_file(self, tensors: Sequence[Tensor]) -> Path:
        """As `Network.kept_file`."""
        key = _constants_key(tensors[2])
        graph = Graph(self.sampler, ("z", "y"), lambda given: given)  # stands in: only a network that runs is baked
        return Network(self.sampler, graph, self.dtype, constants=key).kept_file(tensors[:2])

    def _network(self, statistics: Tensor) -> Network:
        key = _constants_key(statistics)
        if key not in self.networks:
            graph = Graph(BakedBigGAN(self.sampler, statistics), ("z", "y"), lambda given: given)
            self.networks[key] = Network(self.sampler, graph, self.dtype, constants=key)
        return self.networks[key]


@singledispatch
def network_for(part: Any, graph: Graph, dtype: torch.dtype) -> Network | BigGANNetworks:
    """What computes a part's `graph` in `dtype`. A part whose graph is written anew for OpenVINO registers its own."""
    return Network(part, graph, dtype)


@network_for.register
def _(part: BigGANDeep, graph: Graph, dtype: torch.dtype) -> Network | BigGANNetworks:
    return BigGANNetworks(part, dtype)


def traced(graph: Graph, tensors: list[Tensor], *, any_size: bool = False) -> Any:
    """An OpenVINO model of a graph with the static shapes of `tensors`, or with channels alone fixed.

    From a trace, not from torch.export: that takes bilinear enlargement apart into gathers.
    """
    shapes = [[-1, t.shape[1], -1, -1] if any_size else list(t.shape) for t in tensors]
    return to_model(graph.module, tensors, shapes)


def to_model(module: nn.Module, tensors: Sequence[Tensor], shapes: Sequence[list[int]]) -> Any:
    """An OpenVINO model of a trace of `module` with `tensors`, its inputs of `shapes` (-1: any).

    By OpenVINO's front end for torch itself. `openvino.convert_model` calls the same, but takes four times as long and
    reports every call to its makers over the network, whoever refused the network here.
    """
    _openvino()
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing is deprecated, and warns of every shape that is a number
        script = torch.jit.trace(module, tuple(tensors), check_trace=False)  # type: ignore[no-untyped-call]
        decoder = TorchScriptPythonDecoder(script, example_input=tuple(tensors))  # must live until it is converted
        front_end = FrontEndManager().load_by_framework("pytorch")
        model = front_end.convert(front_end.load(decoder))
    model.reshape(dict(zip(model.inputs, shapes, strict=True)))
    return model


def threads() -> dict[str, str]:
    """OpenVINO's settings for as many threads as torch has, free to run on any core.

    Left to itself it ties them to the first cores, so that two processes of one thread share a core.
    """
    return {"INFERENCE_NUM_THREADS": str(torch.get_num_threads()), "ENABLE_CPU_PINNING": "NO"}


def any_batch(module: nn.Module, example: Tensor) -> Callable[[Tensor], Tensor]:
    """`module` as a function of one tensor (B, ...) with any B and the other sides of `example`, in fp32.

    For a network without a component's configuration and weights file, so the compiled form is not kept (0.5 s for an
    EfficientNet-Lite). Raises MissingExtraError where OpenVINO is not installed.
    """
    model = to_model(module, (example,), [[-1, *example.shape[1:]]])
    settings = {"INFERENCE_PRECISION_HINT": "f32", **threads()}
    request = _openvino().Core().compile_model(model, "CPU", settings).create_infer_request()

    def run(x: Tensor) -> Tensor:
        results = request.infer([x.detach().contiguous().numpy()], share_inputs=True, share_outputs=True)
        return torch.from_numpy(results[0]).clone()  # the request writes its next result to the same place

    return run


def _state_hash(part: Component) -> str:
    digest = hashlib.sha256()
    for name, tensor in part.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _keep(file: Path, data: bytes) -> None:
    """Keep a compiled network for the next process; a cache that cannot be written only costs time."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(file, data)
    except (OSError, WorkError):
        return


def _constants_key(statistics: Tensor) -> str:
    return hashlib.sha256(statistics.contiguous().numpy().tobytes()).hexdigest()


@cache
def _cpu() -> str:
    """The processor and what it can do: a compiled network is of use to no other."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    seen = {name: next((line for line in lines if line.startswith(name)), "") for name in ("model name", "flags")}
    return f"{platform.machine()} {platform.processor()} {seen['model name']} {seen['flags']}"


def need_openvino() -> None:
    """Raise MissingExtraError where OpenVINO is not installed; it is not imported."""
    if "openvino" in sys.modules or find_spec("openvino") is None:
        _openvino()


def _openvino() -> Any:
    try:
        import openvino
    except ImportError as error:
        raise missing_extra("openvino", "openvino", "The engine openvino") from error
    return openvino
