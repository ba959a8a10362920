"""The pipeline: latents -> sample -> (encoder -> decoder) ... -> images, steps 1 to 5 on one screen.

It knows no model by name: it holds a sampler and a list of stages, checks reduction and resolution at the joints when
it is built, and runs the steps batch by batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nsbgan_infer.decoders.anchor import decode_over
from nsbgan_infer.decoders.base import Decoder, DecoderInfo
from nsbgan_infer.devices import dtype_name, pick_device, pick_float
from nsbgan_infer.encoders.table import follow
from nsbgan_infer.errors import NonFiniteError, UsageError, WorkError, WrongTypeError
from nsbgan_infer.frame.asking import check_latents, class_ids, holds_mix, latents_of, mixed_latents, seeds_of
from nsbgan_infer.frame.asking import requests_of as requests_of
from nsbgan_infer.frame.calls import AS_TRAINED as AS_TRAINED
from nsbgan_infer.frame.calls import Classes as Classes
from nsbgan_infer.frame.calls import Drawing as Drawing
from nsbgan_infer.frame.calls import Mix
from nsbgan_infer.frame.calls import Output as Output
from nsbgan_infer.frame.calls import Request as Request
from nsbgan_infer.frame.calls import join_outputs as join_outputs
from nsbgan_infer.frame.calls import with_recipe as with_recipe
from nsbgan_infer.frame.joints import Stage as Stage
from nsbgan_infer.frame.joints import check_joints, check_part, check_parts, describe_parts, reductions_of
from nsbgan_infer.frame.progress import bar
from nsbgan_infer.images import Recipe
from nsbgan_infer.latents import Latents, TruncationMode, check_truncation, walk
from nsbgan_infer.latents_file import latents_table
from nsbgan_infer.reductions import Reduction
from nsbgan_infer.registry import load_decoder, package_of
from nsbgan_infer.samplers.base import Sampler
from nsbgan_infer.storage.components import remember_weights, weights_sha256

Progress = Callable[[str, int, int], None]  # step name, images done, images in all


class NsbPipeline:
    """A sampler and its stages. Raises JointError when two neighbours do not fit, WrongTypeError for other objects."""

    def __init__(self, sampler: Sampler, stages: Sequence[Stage] = (), *, name: str = "custom") -> None:
        check_parts(sampler, stages)
        self.sampler = sampler
        self.stages = tuple(stages)
        self.name = name
        self.device = torch.device("cpu")
        self.dtype = torch.float32
        self.engine = "eager"  # what runs the networks, and in which dtype if not in `dtype`: see `engines`
        self.computes_in: torch.dtype | None = None
        self.use_engine: Callable[[Any], Any] | None = None  # brings one more part onto that engine; None: plain torch
        check_joints(sampler, self.stages)
        for part in self._parts():
            remember_weights(part)

    @classmethod
    def from_pretrained(
        cls,
        ref: str | Path,
        *,
        sampler: Sampler | str | Path | None = None,
        decoder: Decoder | str | Path | None = None,
        revision: str | None = None,
        device: str | torch.device | None = None,
        torch_dtype: torch.dtype | None = None,
        modules: Mapping[str, nn.Module] | None = None,
    ) -> NsbPipeline:
        """A preset's name, a folder written by `save_pretrained`, or a Hub id (`owner/name`, `hf://owner/name`).

        `sampler` and `decoder` replace those of the pipeline: an object, or a name, a folder, a file or a Hub
        reference. `device` and `torch_dtype` are handed to `to`. `modules` are your own modules for a folder that holds
        their weights, by the folder's name (`save_pretrained`). Raises UnknownNameError, CheckpointError, OfflineError,
        WrongTypeError or JointError, each with the next step.
        """
        from nsbgan_infer.pretrained import load_pipeline

        if not isinstance(ref, str | Path):
            raise WrongTypeError(f"A pipeline is named by a text or a path, not by a {type(ref).__name__}.")
        target = pick_device(str(device)) if device is not None else None  # before anything is fetched
        dtype = pick_float(torch_dtype) if torch_dtype is not None else None
        pipeline = load_pipeline(str(ref), sampler=sampler, decoder=decoder, revision=revision, modules=modules)
        return pipeline.to(target, dtype)

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write a folder: `model_index.json` and one folder for every component with weights.

        Weights that are as they were loaded keep their file, precision and checksum. Of a torch module of your own
        the weights are kept and its class is named: no code goes into the folder, so whoever loads it brings the
        module (`from_pretrained(folder, modules={"decoder-1": MyNet()})`). Raises UsageError for what has neither
        weights nor a name in the registry.
        """
        from nsbgan_infer.pretrained import save_pipeline

        return save_pipeline(self, Path(folder))

    def to(
        self, device: str | torch.device | torch.dtype | None = None, dtype: torch.dtype | None = None
    ) -> NsbPipeline:
        """Move the networks, in place, and return the pipeline: `to("cuda")`, `to(torch.bfloat16)`, `to("cpu", dtype)`.

        Raises UsageError for a device that is not here, a dtype that is no floating-point one, or parts that an engine
        compiled; WorkError where memory runs out. The pipeline then stays as it was.
        """
        if isinstance(device, torch.dtype):
            device, dtype = None, device
        before = self.device, self.dtype
        after = before[0] if device is None else pick_device(str(device)), pick_float(dtype or self.dtype)
        if self.engine in ("compile", "openvino") and after != before:
            raise UsageError(
                f"The engine {self.engine} runs this pipeline on {before[0]} in {dtype_name(before[1])}: load it anew "
                "and move it before the engine is put on."
            )
        try:
            self._move(*after)
        except RuntimeError as error:  # memory, or a kind of number that the device does not have
            self._move(*before)
            reason = str(error).splitlines()[0]
            raise WorkError(f"Cannot move to {after[0]} ({reason}): the pipeline stays on {before[0]}.") from error
        self.device, self.dtype = after
        return self

    def _move(self, device: torch.device, dtype: torch.dtype) -> None:
        for part in self._parts():
            if isinstance(part, nn.Module):
                part.to(device, dtype)

    def _parts(self) -> tuple[Sampler | Decoder, ...]:
        return (self.sampler, *(s.decoder for s in self.stages))

    def __repr__(self) -> str:
        how = f"{self.device}, {dtype_name(self.computes_in or self.dtype)}, engine {self.engine}"
        lines = [f"NsbPipeline {self.name} on {how}", *describe_parts(self.sampler, self.stages)]
        sides = ", ".join(map(str, self.resolutions))
        return "\n  ".join([*lines, f"makes    {sides} pixels a side"])

    def with_decoder(self, decoder: Decoder | str | Path) -> NsbPipeline:
        """The same pipeline with another decoder in every stage, on the pipeline's device, engine and dtype.

        The encoders make what it reads.
        """
        new = load_decoder(str(decoder)) if isinstance(decoder, str | Path) else decoder
        check_part(new, "decoder", DecoderInfo)
        stages = [Stage(s.encoder and follow(s.encoder, new.info.reads), new) for s in self.stages]
        NsbPipeline(self.sampler, stages, name=self.name)  # what does not fit is refused before an engine compiles it
        if isinstance(new, nn.Module):
            new.to(self.device, self.dtype)
        if self.use_engine is not None:
            new = self.use_engine(new)
        pipeline = NsbPipeline(self.sampler, [Stage(s.encoder, new) for s in stages], name=self.name)
        pipeline.device, pipeline.dtype = self.device, self.dtype
        pipeline.engine, pipeline.computes_in, pipeline.use_engine = self.engine, self.computes_in, self.use_engine
        return pipeline

    def with_parts(self, sampler: Sampler, decoders: Sequence[Decoder]) -> NsbPipeline:
        """The pipeline with another sampler and another decoder in each stage, on the same device."""
        stages = [Stage(s.encoder, d) for s, d in zip(self.stages, decoders, strict=True)]
        pipeline = NsbPipeline(sampler, stages, name=self.name)
        pipeline.device, pipeline.dtype = self.device, self.dtype
        return pipeline

    @property
    def resolutions(self) -> tuple[int, ...]:
        """The sides of the pictures that can be had: the sample's if it is a picture, and each stage's."""
        side = self.sampler.info.resolution
        sides = [side] if self.sampler.info.basis == "pixel" else []
        for stage in self.stages:
            side = stage.emits(side)
            sides.append(side)
        return tuple(sides)

    @property
    def reductions(self) -> tuple[Reduction, ...]:
        """What comes into each stage's decoder: its encoder's reduction, the sample, or the picture of the stage
        before."""
        return reductions_of(self.sampler, self.stages)

    def __call__(
        self,
        classes: Classes | None = None,
        num_images: int = 1,
        *,
        seeds: int | Sequence[int] = 0,
        truncation: float | None = None,
        truncation_mode: TruncationMode | None = None,
        resolution: int | None = None,
        decoder: Decoder | str | Path | None = None,
        latents: Latents | None = None,
        batch_size: int = 1,
        keep_steps: bool = False,
        progress: Progress | bool = True,
    ) -> Output:
        """Make `num_images` of each class (ids, WordNet ids, names, ranges, `all`; None for unconditional samplers).

        A class may be a mix, such as `{"golden retriever": 0.5, "Samoyed": 0.5}`. `seeds`: S, so that image j of each
        class has seed S + j, or one seed for each of the images of a class. `truncation` in (0, 1] and its mode default
        to what the sampler's weights expect. `resolution` stops after the stage that emits it (default: the last).
        `decoder` replaces the decoder of every stage for this call. `latents` are drawn as they are, in place of
        classes, seeds and truncation; they go into the recipes. `progress`: False shows no bar, a function is called
        with each step's name, the images done and all of them.
        Raises UsageError and UnknownNameError before any work, NonFiniteError and WorkError during it.

        To keep only what a classifier recognises: `rejection.draw_accepted`.

        >>> output = NsbPipeline.from_pretrained("embedded")("church", seeds=2, resolution=256, keep_steps=True)
        >>> {name: tuple(tensor.shape) for name, tensor in output.steps.items()}
        {'sample': (1, 3, 64, 64), 'decoded 1': (1, 3, 256, 256)}
        >>> output.recipes[0].seed
        2
        """
        pipeline = self if decoder is None else self.with_decoder(decoder)
        drawing = Drawing(truncation, truncation_mode, resolution)
        if latents is None and holds_mix(classes):
            self.settle(drawing)
            latents = self.latents(classes, drawing, num_images=num_images, seeds=seeds)
        elif latents is not None and (classes, num_images, seeds, drawing.truncation, drawing.mode) != (
            None,
            1,
            0,
            None,
            None,
        ):
            raise UsageError("Latents hold classes, seeds and truncation themselves: leave these out beside them.")
        if latents is None:
            requests = pipeline.requests(classes, num_images, seeds=seeds)
        else:
            check_latents(latents, self.sampler)
            requests, drawing = requests_of(latents), Drawing(latents.truncation, latents.mode, resolution)
        with bar(len(requests), shown=progress is True) as shown:
            told = progress if callable(progress) else None
            parts = []
            for part in pipeline.stream(
                requests, drawing, latents=latents, batch_size=batch_size, keep_steps=keep_steps, progress=told
            ):
                parts.append(part)
                if shown is not None:
                    shown.update(len(part))
        return join_outputs(parts)

    def requests(
        self, classes: Classes | None, num_images: int = 1, *, seeds: int | Sequence[int] = 0
    ) -> list[Request]:
        """The images meant by the arguments of a call, class by class. Raises UsageError and UnknownNameError."""
        each = seeds_of(seeds, num_images)
        return [Request(c, s) for c in class_ids(self.sampler.info, classes) for s in each]

    def stream(
        self,
        requests: Sequence[Request],
        drawing: Drawing = AS_TRAINED,
        *,
        latents: Latents | None = None,
        batch_size: int = 1,
        keep_steps: bool = False,
        progress: Progress | None = None,
    ) -> Iterator[Output]:
        """Make the requested images batch by batch, so that memory stays flat however many there are.

        Arguments as in a call; what is wrong with them is raised here, before the first batch is asked for. `latents`:
        those of the requests (`requests_of`), where they are not to be drawn.
        """
        if batch_size < 1:
            raise UsageError(f"Batch size {batch_size} is out of range: use at least 1.")
        if not requests:
            raise UsageError("No images were asked for.")
        settled = self.settle(drawing)
        if latents is not None:
            check_latents(latents, self.sampler)

        def make(start: int) -> Output:
            batch = requests[start : start + batch_size]
            given = None if latents is None else latents[start : start + batch_size]
            drawn = self.latents(batch, settled) if given is None else given
            kept = {}
            for name, tensor in self.steps(drawn, resolution=drawing.resolution):
                if keep_steps:
                    kept[name] = tensor
                if progress:
                    progress(name, start + len(batch), len(requests))
            shared = self._recipe(replace(settled, resolution=tensor.shape[-1]), batch_size)
            tables = [None if given is None else latents_table(given, i) for i in range(len(batch))]
            recipes = tuple(
                replace(shared, class_id=r.class_id, seed=r.seed, latents=t) for r, t in zip(batch, tables, strict=True)
            )
            finished = tensor.to("cpu", torch.float32, copy=True)  # an inference tensor becomes an ordinary one
            return Output(finished, tuple(batch), recipes, kept, drawn)

        return map(make, range(0, len(requests), batch_size))

    def settle(self, drawing: Drawing = AS_TRAINED) -> Drawing:
        """`drawing` with every field filled in for this pipeline.

        Raises UsageError for a truncation out of range, an unknown mode, or a resolution that no step makes.
        """
        info = self.sampler.info
        truncation = info.truncation if drawing.truncation is None else drawing.truncation
        mode = drawing.mode or info.truncation_mode
        check_truncation(truncation, mode)
        self.stages_for(drawing.resolution)
        return Drawing(truncation, mode, drawing.resolution or self.resolutions[-1])

    def identity(self, drawing: Drawing = AS_TRAINED) -> dict[str, Any]:
        """What decides the bytes of a picture beside its request, the batch it is in and the threads that run it.

        Names of the parts that run for `drawing`, and the SHA-256 of their weights (None: they came from no file); the
        settled drawing; device, dtype and engine that run them; versions. Recipes, plans and caches hold this table.
        """
        settled = self.settle(drawing)
        stages = self.stages[: self.stages_for(settled.resolution)]
        decoders = [s.decoder for s in stages]
        parts = {self.sampler.info.name: self.sampler, **{d.info.name: d for d in decoders}}
        return {
            "preset": self.name,
            "sampler": self.sampler.info.name,
            "decoders": [d.info.name for d in decoders],
            "resolution": settled.resolution,
            "truncation": settled.truncation,
            "truncation_mode": settled.mode,
            "device": self.device.type,
            "dtype": dtype_name(self.computes_in or self.dtype),
            "engine": self.engine,
            "weights": {name: weights_sha256(part) for name, part in parts.items()},
            "versions": {"nsbgan_infer": version("nsbgan-infer"), "torch": torch.__version__}
            | dict(filter(None, map(package_of, [*parts.values(), *(s.encoder for s in stages)]))),
        }

    def latents(
        self,
        classes: Classes | Sequence[str | int | Mix | Request] | None,
        drawing: Drawing = AS_TRAINED,
        *,
        num_images: int = 1,
        seeds: int | Sequence[int] = 0,
        truncation: float | None = None,
    ) -> Latents:
        """Step 1: the latents of classes and mixes as in a call, or of requests.

        The call draws them (`latents=`), `interpolate` goes between two. `truncation` stands over that of `drawing`.
        Raises UsageError as `draw_latents`, and for shares of a mix that are no shares.

        >>> pipeline = NsbPipeline.from_pretrained("embedded")
        >>> latents = pipeline.latents({"golden retriever": 3, "church": 1}, num_images=2, seeds=5)
        >>> latents.z.shape, latents.seeds, latents.y[0, [207, 497]]
        (torch.Size([2, 256]), (5, 6), tensor([0.7500, 0.2500]))
        """
        if isinstance(classes, Sequence) and classes and all(isinstance(item, Request) for item in classes):
            return latents_of(self.sampler.info, classes, drawing)  # type: ignore[arg-type]
        drawing = drawing if truncation is None else replace(drawing, truncation=truncation)
        return mixed_latents(self.sampler.info, classes, seeds_of(seeds, num_images), drawing)

    def interpolate(
        self,
        start: Classes | Latents | None,
        end: Classes | Latents | None,
        steps: int = 8,
        *,
        seeds: tuple[int, int] = (0, 1),
        truncation: float | None = None,
        resolution: int | None = None,
        batch_size: int = 1,
        progress: Progress | bool = True,
    ) -> Output:
        """Pictures on the way from one image to another, both ends included: z by slerp, classes in a straight line.

        An end is a class or a mix, drawn with its seed of `seeds`, or latents of one image. Raises UsageError as
        `latents` and `walk`.

        >>> way = NsbPipeline.from_pretrained("embedded").interpolate("church", "golden retriever", 3, resolution=256)
        >>> way
        <Output: 3 pictures of 256 x 256: church seed 0, golden retriever seed 0, golden retriever seed 0>
        """
        if len(seeds) != 2:
            raise UsageError(f"{len(seeds)} seeds for the two ends: give a pair such as (0, 1).")
        ends = [
            given if isinstance(given, Latents) else self.latents(given, seeds=seed, truncation=truncation)
            for given, seed in zip((start, end), seeds, strict=True)
        ]
        way = walk(ends[0], ends[1], steps)
        return self(latents=way, resolution=resolution, batch_size=batch_size, progress=progress)

    def differentiable(self, latents: Latents, *, resolution: int | None = None) -> Tensor:
        """The pictures (B, 3, H, W) of latents, nominally [0, 1], with gradients to `latents.z` and `latents.y` where
        these ask for them. Memory grows with every layer: take few images at a time.

        Raises UsageError on an engine without gradients, and as `stages_for`.

        >>> from dataclasses import replace
        >>> pipeline = NsbPipeline.from_pretrained("embedded")
        >>> latents = pipeline.latents("church")
        >>> z = latents.z.requires_grad_()
        >>> pipeline.differentiable(replace(latents, z=z), resolution=256).mean().backward()
        >>> z.grad.shape
        torch.Size([1, 256])
        """
        if self.engine == "openvino":
            raise UsageError("The engine openvino has no gradients: load the pipeline anew and leave it on eager.")
        check_latents(latents, self.sampler)
        *_, (_name, picture) = self._run(latents, resolution, gradients=torch.is_grad_enabled())
        return picture

    @torch.inference_mode()
    def steps(self, latents: Latents, *, resolution: int | None = None) -> Iterator[tuple[str, Tensor]]:
        """Every intermediate of one batch by name, in order; the last is the picture.

        The networks run in the pipeline's dtype, the transforms between them in fp32, which costs nothing beside them.
        """
        yield from self._run(latents, resolution)

    def _run(
        self, latents: Latents, resolution: int | None, *, gradients: bool = False
    ) -> Iterator[tuple[str, Tensor]]:
        last = self.stages_for(resolution)
        info, side = self.sampler.info, self.sampler.info.resolution
        x = self.sampler(latents.to(self.device, self.dtype)).float()  # (B, 3, r, r)
        check_made(x, side, f"Step 2 (sampler {info.name})")
        yield "sample", x
        for number, (stage, came) in enumerate(zip(self.stages[:last], self.reductions, strict=False), 1):
            if stage.encoder:
                x = stage.encoder(x)  # (B, 3, r / 2^levels, ...)
                yield f"low band {number}", x
            x = x.to(self.dtype)
            x = decode_over(stage.decoder, x, came.anchor, gradients=gradients).float()  # (B, 3, scale * h, scale * w)
            side = stage.emits(side)
            check_made(x, side, f"Step 4 (decoder {stage.decoder.info.name})", finite=False)
            yield f"decoded {number}", x

    def stages_for(self, resolution: int | None) -> int:
        """How many stages to run for pictures of `resolution` (None: all). Raises UsageError listing those made."""
        if resolution is None:
            return len(self.stages)
        if resolution not in self.resolutions:
            listed = ", ".join(map(str, self.resolutions))
            raise UsageError(f"No step of '{self.name}' makes {resolution} x {resolution} pictures: it makes {listed}.")
        extra = 1 if self.sampler.info.basis == "pixel" else 0
        found = len(self.resolutions) - 1 - self.resolutions[::-1].index(resolution)
        return found + 1 - extra

    def _recipe(self, drawing: Drawing, batch_size: int) -> Recipe:
        """The recipe of a batch; class and seed are each image's own."""
        about = self.identity(drawing)
        about["decoders"] = tuple(about["decoders"])
        about["weights"] = {name: digest for name, digest in about["weights"].items() if digest}
        labels = self.sampler.info.labels
        return Recipe(**about, class_id=None, seed=0, batch_size=batch_size, labels=labels)


def check_made(tensor: Tensor, side: int, step: str, *, finite: bool = True) -> None:
    """Raise WorkError naming the step unless it made (B, 3, side, side), NonFiniteError for NaN or infinity in it."""
    if tuple(tensor.shape[1:]) != (3, side, side):
        made = " x ".join(map(str, tensor.shape[1:]))
        raise WorkError(f"{step} made {made} where its info promises 3 x {side} x {side}: correct one of the two.")
    if finite and not torch.isfinite(tensor).all():
        raise NonFiniteError(f"{step} produced NaN or infinity: run with --dtype fp32, or check the weights.")
