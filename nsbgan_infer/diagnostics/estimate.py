"""What a pipeline would do, told without doing it: steps, shapes, multiply-adds, memory, downloads and licences.

Steps 2 to 4 are run on the `meta` device: real code on tensors without content. Nothing is fetched and no weights are
read; a sampler that is not here yet is built from its known configuration.

* multiply-adds: those of convolutions and matrix products (half of torch's flop count), an image.
* memory: weights of all parts plus the largest sum of intermediate tensors alive at once, a batch. Python and torch
  themselves (about 300 MB), the work space of convolutions and what an engine keeps come on top.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from nsbgan_infer.classes import NUM_CLASSES
from nsbgan_infer.decoders.base import Decoder
from nsbgan_infer.decoders.tiling import extend
from nsbgan_infer.errors import CheckpointError, OfflineError
from nsbgan_infer.latents import Latents
from nsbgan_infer.pipeline import NsbPipeline, Stage
from nsbgan_infer.pretrained import Loaders, load_pipeline
from nsbgan_infer.registry import BUILT_IN, component_path, entries, load_decoder, load_sampler
from nsbgan_infer.samplers.base import Sampler
from nsbgan_infer.samplers.biggan_release import TENSOR_BYTES, release
from nsbgan_infer.storage import hub
from nsbgan_infer.storage.architectures import all_architectures
from nsbgan_infer.storage.components import Component, empty_weights, outline_component

META = torch.device("meta")


@dataclass(frozen=True)
class StepPlan:
    """One step of one batch: `step` (`2 samplers`), what runs, the shape that leaves it, multiply-adds of one image,
    and the largest sum in bytes of intermediate tensors while it runs.
    """

    step: str
    part: str
    shape: tuple[int, ...]
    multiply_adds: int
    memory: int


@dataclass(frozen=True)
class PartPlan:
    """A sampler or decoder: parameters, bytes of its weights in memory, licence, and what would be downloaded."""

    kind: str
    name: str
    parameters: int
    memory: int
    licence: str
    download: int
    url: str | None


@dataclass(frozen=True)
class PipelinePlan:
    """The whole. `memory` is the estimated peak in bytes, `download` the bytes to be fetched first."""

    name: str
    steps: tuple[StepPlan, ...]
    parts: tuple[PartPlan, ...]

    @property
    def multiply_adds(self) -> int:
        """Of one image, all steps."""
        return sum(s.multiply_adds for s in self.steps)

    @property
    def memory(self) -> int:
        """Weights and the worst step."""
        return sum(p.memory for p in self.parts) + max(s.memory for s in self.steps)

    @property
    def download(self) -> int:
        """Bytes."""
        return sum(p.download for p in self.parts)


def outline_pipeline(ref: str, *, sampler: str | None = None, decoder: str | None = None) -> NsbPipeline:
    """The pipeline that `NsbPipeline.from_pretrained` would return, on the `meta` device.

    Raises as that does, and CheckpointError for a Hub repository that is not in the cache.
    """
    loaders = Loaders(outline_sampler, outline_decoder, outline_component)
    with _without_network():
        return load_pipeline(ref, sampler=sampler, decoder=decoder, loaders=loaders)


def outline_sampler(ref: str) -> Sampler:
    """What `load_sampler` would return, without its weights."""
    if ref in BUILT_IN["sampler"] and (published := _published(ref)) is not None:
        return cast(Sampler, published)
    return cast(Sampler, _outline(ref, "sampler", load_sampler))


def outline_decoder(ref: str) -> Decoder:
    """What `load_decoder` would return, without its weights (foreign upscalers and plug-ins are loaded)."""
    if ref.startswith("spandrel:"):
        return cast(Decoder, _on_meta(load_decoder(ref)))
    return cast(Decoder, _outline(ref, "decoder", load_decoder))


def plan_pipeline(
    pipeline: NsbPipeline, *, batch_size: int = 1, resolution: int | None = None, dtype: torch.dtype = torch.float32
) -> PipelinePlan:
    """Run the steps of an outlined pipeline on `meta` tensors and count. Raises UsageError for a wrong resolution."""
    stages = pipeline.stages[: pipeline.stages_for(resolution)]
    parts: dict[str, tuple[str, Any]] = {pipeline.sampler.info.name: ("sampler", pipeline.sampler)}
    parts |= {s.decoder.info.name: ("decoder", s.decoder) for s in stages}
    bytes_each = dtype.itemsize
    steps = []
    x = torch.empty(batch_size, pipeline.sampler.info.z_dim, device=META)
    for step, part, work in _steps(pipeline.sampler, stages):
        x, made = _count_once(step, part, work, x)
        steps.append(made)
    return PipelinePlan(
        pipeline.name,
        tuple(_scaled(s, bytes_each) for s in steps),
        tuple(_part(kind, name, part, bytes_each) for name, (kind, part) in parts.items()),
    )


def _steps(sampler: Sampler, stages: Sequence[Stage]) -> Iterator[tuple[str, str, Callable[[Tensor], Tensor]]]:
    """(step, part, what it does to a tensor) in order."""
    yield "2 samplers", sampler.info.name, partial(_draw, sampler)
    for stage in stages:
        if stage.encoder is not None:
            levels = f"{stage.encoder.levels} level{'s' * (stage.encoder.levels > 1)}"
            yield "3 encoders", f"{stage.encoder.makes}, {levels}", stage.encoder
        yield "4 decoders", stage.decoder.info.name, partial(_decode, stage.decoder)


def _draw(sampler: Sampler, z: Tensor) -> Tensor:
    info = sampler.info
    y = torch.empty(len(z), NUM_CLASSES, device=META)
    return sampler(Latents(z, y, tuple(range(len(z))), info.truncation, info.truncation_mode))


def _decode(decoder: Decoder, low_band: Tensor) -> Tensor:
    height, width = (n * decoder.info.scale for n in low_band.shape[-2:])
    return decoder(extend(low_band, decoder.info.multiple))[..., :height, :width]


def _count_once(step: str, part: str, work: Callable[[Tensor], Tensor], given: Tensor) -> tuple[Tensor, StepPlan]:
    """As `_count`, but a network of this architecture and configuration is run once for each shape: it takes a second,
    and tables of costs ask for the same sampler with every decoder."""
    network = work.args[0] if isinstance(work, partial) else None
    config = getattr(network, "config", None)
    if config is None or not isinstance(network, nn.Module):
        return _count(step, part, work, given)
    key = (type(network), repr(config), given.shape)
    if key not in _COUNTED:
        _COUNTED[key] = _count(step, part, work, given)[1]
    made = _COUNTED[key]
    return torch.empty(made.shape, device=META), replace(made, step=step, part=part)


_COUNTED: dict[tuple[type, str, torch.Size], StepPlan] = {}


def _count(step: str, part: str, work: Callable[[Tensor], Tensor], given: Tensor) -> tuple[Tensor, StepPlan]:
    with torch.no_grad(), LiveBytes() as memory, FlopCounterMode(display=False) as flops:
        out = work(given)
    multiply_adds = flops.get_total_flops() // (2 * len(given))
    return out, StepPlan(step, part, tuple(out.shape), multiply_adds, memory.peak + given.nbytes)


def _scaled(step: StepPlan, bytes_each: int) -> StepPlan:
    """Counted in fp32; the work runs in a dtype of `bytes_each`."""
    return StepPlan(step.step, step.part, step.shape, step.multiply_adds, step.memory * bytes_each // 4)


def _part(kind: str, name: str, part: Any, bytes_each: int) -> PartPlan:
    count = sum(t.numel() for t in part.state_dict().values()) if isinstance(part, nn.Module) else 0
    parameters = sum(p.numel() for p in part.parameters()) if isinstance(part, nn.Module) else 0
    download, url = 0, None
    if name in TENSOR_BYTES and part.weights_file is None and not (facts := release(name)).cached:
        download, url = facts.size, facts.url
    entry = BUILT_IN["sampler"].get(name)
    if kind == "sampler" and entry and getattr(part, "weights_file", None) is None:
        url = url or entry.url
    return PartPlan(kind, name, parameters, count * bytes_each, part.info.licence, download, url)


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Watches every tensor that an operator returns; `peak` is the largest sum of their storages alive at once."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = self.now = 0
        self.owners: dict[int, int] = {}  # storage -> how many tensors look at it

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._watch(tensor, given)
        return out

    def _watch(self, tensor: Tensor, given: set[int]) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key not in self.owners and key in given:
            return  # a view of a weight or of the step's input, which somebody else accounts for
        if key not in self.owners:
            self.now += size
            self.peak = max(self.peak, self.now)
        self.owners[key] = self.owners.get(key, 0) + 1
        weakref.finalize(tensor, self._release, key, size).atexit = False

    def _release(self, key: int, size: int) -> None:
        self.owners[key] -= 1
        if not self.owners[key]:
            del self.owners[key]
            self.now -= size


def _outline(ref: str, kind: Any, load: Callable[[str], Any]) -> Any:
    table = entries(kind)
    if ref in table and table[ref].load:
        return _on_meta(load(ref))  # without weights, or a plug-in
    return outline_component(component_path(ref, kind), kind=kind, name=ref if ref in table else None)


def _published(name: str) -> Component | None:
    """The component called `name` with its published sizes, if it is one whose weights do not ship."""
    for cls in all_architectures().values():
        if name in cls.published:
            licence = BUILT_IN["sampler"][name].licence
            config = cls.published[name]
            with empty_weights():
                component = cls(config if licence == "unknown" else replace(config, licence=licence))
            return component.eval().requires_grad_(False)
    return None


def _on_meta(part: Any) -> Any:
    return part.to(META) if isinstance(part, nn.Module) else part


@contextmanager
def _without_network() -> Iterator[None]:
    before = hub.is_offline()
    hub.set_offline()
    try:
        yield
    except OfflineError as error:
        raise CheckpointError(f"A plan fetches nothing, and {error}") from error
    finally:
        hub.set_offline(before)
