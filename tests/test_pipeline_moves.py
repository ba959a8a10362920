"""A pipeline that is moved, replaced in parts, shown, differentiated, and saved with its precision and checksums."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import ship_tiny_weights, tiny_decoder, tiny_pipeline, tiny_sampler
from torch import nn

from nsbgan_infer import NsbPipeline, list_models, regenerate
from nsbgan_infer.errors import UnknownNameError, UsageError, WorkError, WrongTypeError
from nsbgan_infer.pipeline import Drawing
from nsbgan_infer.storage.components import load_component, read_header, save_component, weights_sha256
from nsbgan_infer.storage.files import sha256_of

NO_CUDA = pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")


def half_pipeline(folder: Path) -> NsbPipeline:
    """The tiny pipeline, its parts loaded from files in fp16, as those that ship are."""
    plain = tiny_pipeline()
    parts: list[Any] = [plain.sampler, plain.stages[0].decoder]
    files = [save_component(p, folder / f"{p.info.name}.safetensors", dtype=torch.float16) for p in parts]
    sampler, decoder = (load_component(f) for f in files)
    return plain.with_parts(sampler, [decoder, decoder])  # type: ignore[list-item, arg-type]


class TestTo:
    @NO_CUDA
    def test_a_device_that_is_not_here_changes_nothing(self) -> None:
        pipeline = tiny_pipeline()
        before = pipeline(207, resolution=64).tensors
        with pytest.raises(UsageError, match="'cuda' is not available here"):
            pipeline.to("cuda")
        assert pipeline.device.type == "cpu" and torch.equal(pipeline(207, resolution=64).tensors, before)

    @pytest.mark.parametrize(
        ("where", "message"),
        [
            ("meta", "Unknown device 'meta': use auto, cpu"),
            ("gpu", "Unknown device 'gpu'"),
            (torch.device("meta"), "Unknown device 'meta'"),
            (torch.int8, r"do not compute in torch\.int8"),
        ],
    )
    def test_what_is_no_place_is_refused_in_a_sentence(self, where: Any, message: str) -> None:
        pipeline = tiny_pipeline()
        with pytest.raises(UsageError, match=message):
            pipeline.to(where)
        assert pipeline(207, resolution=64).tensors.isfinite().all()

    def test_a_dtype_alone_is_enough(self) -> None:
        pipeline = tiny_pipeline().to(torch.bfloat16)
        assert pipeline.dtype == torch.bfloat16 and pipeline.to("cpu").dtype == torch.bfloat16
        assert next(pipeline.sampler.parameters()).dtype == torch.bfloat16  # type: ignore[attr-defined]
        with pytest.raises(WrongTypeError, match="not 'bf16'"):
            pipeline.to("cpu", "bf16")  # type: ignore[arg-type]

    def test_a_move_that_fails_half_way_is_taken_back(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pipeline = tiny_pipeline()
        decoder: Any = pipeline.stages[0].decoder
        whole = nn.Module.to

        def refuse(self: nn.Module, *args: Any) -> nn.Module:
            if self is decoder and args[1] == torch.bfloat16:
                raise RuntimeError("out of memory\nmore")
            return whole(self, *args)

        monkeypatch.setattr(nn.Module, "to", refuse)
        with pytest.raises(WorkError, match=r"Cannot move to cpu \(out of memory\): the pipeline stays on cpu"):
            pipeline.to(torch.bfloat16)
        assert pipeline.dtype == torch.float32
        assert {p.dtype for p in pipeline.sampler.parameters()} == {torch.float32}  # type: ignore[attr-defined]


class TestFromPretrained:
    def test_parts_are_names_paths_or_objects(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        ship_tiny_weights(tmp_path, monkeypatch)
        decoder, sampler = tiny_decoder("own"), tiny_sampler("wavelet", name="mine", resolution=64)
        pipeline = NsbPipeline.from_pretrained("embedded", sampler=sampler, decoder=decoder, torch_dtype=torch.bfloat16)
        assert pipeline.sampler is sampler and all(s.decoder is decoder for s in pipeline.stages)
        assert pipeline.dtype == torch.bfloat16
        folder = tiny_pipeline().save_pretrained(tmp_path / "p")
        assert NsbPipeline.from_pretrained(folder, decoder=decoder).stages[1].decoder is decoder
        by_path = NsbPipeline.from_pretrained(folder, decoder=folder / "decoder-1", device="cpu")
        assert by_path.stages[0].decoder.info.name == "tiny-w"

    def test_what_is_no_part_or_place_is_told_before_the_work(self, tmp_path: Path) -> None:
        folder = tiny_pipeline().save_pretrained(tmp_path)
        for wrong in (nn.Linear(2, 2), 5):
            with pytest.raises(WrongTypeError, match="has no `info` of type DecoderInfo"):
                NsbPipeline.from_pretrained(folder, decoder=wrong)  # type: ignore[arg-type]
            with pytest.raises(WrongTypeError, match="has no `info` of type SamplerInfo"):
                NsbPipeline.from_pretrained("embedded", sampler=wrong)  # type: ignore[arg-type]
        with pytest.raises(WrongTypeError, match="not by a int"):
            NsbPipeline.from_pretrained(5)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="Unknown device"):
            NsbPipeline.from_pretrained("no such preset", device="warp")


def test_it_shows_what_it_is() -> None:
    lines = repr(tiny_pipeline()).splitlines()
    assert lines[0] == "NsbPipeline tiny on cpu, fp32, engine eager"
    assert lines[1].strip().startswith("sampler  tiny: wavelet, 16 x 16, 4 classes")
    assert lines[-1].strip() == "makes    64, 128 pixels a side"
    assert "bf16" in repr(tiny_pipeline().to(torch.bfloat16))


class TestSaved:
    def test_precision_and_checksums_stay(self, tmp_path: Path) -> None:
        pipeline = half_pipeline(tmp_path)
        folder = pipeline.save_pretrained(tmp_path / "p")
        for name, part in (("sampler", pipeline.sampler), ("decoder-1", pipeline.stages[0].decoder)):
            file = folder / name / "model.safetensors"
            assert sha256_of(file) == weights_sha256(part)
            assert {row["dtype"] for key, row in read_header(file).items() if key != "__metadata__"} == {"F16"}
        loaded = NsbPipeline.from_pretrained(folder)
        made = loaded(207, seeds=2, resolution=64)
        assert torch.equal(made.tensors, pipeline(207, seeds=2, resolution=64).tensors)
        assert regenerate(made.recipes[0], pipeline=pipeline).differences == ()
        assert loaded.save_pretrained(folder) == folder  # over itself
        assert sha256_of(folder / "sampler" / "model.safetensors") == weights_sha256(pipeline.sampler)

    def test_moved_to_bf16_the_file_stays_as_it_was(self, tmp_path: Path) -> None:
        pipeline = half_pipeline(tmp_path)
        before = weights_sha256(pipeline.sampler)
        pipeline.to(torch.bfloat16).save_pretrained(tmp_path / "p")
        assert sha256_of(tmp_path / "p" / "sampler" / "model.safetensors") == before

    def test_weights_that_were_trained_are_written_anew(self, tmp_path: Path) -> None:
        pipeline = half_pipeline(tmp_path)
        before = pipeline(207, resolution=64).recipes[0].weights["tiny"]
        with torch.no_grad():
            next(pipeline.sampler.parameters()).mul_(2)  # type: ignore[attr-defined]
        assert pipeline(207, resolution=64).recipes[0].weights["tiny"] != before
        pipeline.save_pretrained(tmp_path / "p")
        loaded = NsbPipeline.from_pretrained(tmp_path / "p")
        torch.testing.assert_close(loaded(207, resolution=64).tensors, pipeline(207, resolution=64).tensors)


class TestLatents:
    def test_classes_requests_and_mixes_draw_the_same(self) -> None:
        pipeline = tiny_pipeline()
        drawn = pipeline.latents((207, "goldfish"), num_images=2, seeds=7, truncation=0.4)
        asked = pipeline.latents(pipeline.requests([207, 1], 2, seeds=7), Drawing(0.4))
        assert torch.equal(drawn.z, asked.z) and torch.equal(drawn.y, asked.y) and drawn.seeds == (7, 8, 7, 8)

    def test_a_mix_is_drawn_between_its_classes_and_stands_in_the_recipe(self) -> None:
        pipeline = tiny_pipeline()
        mixed = pipeline({207: 0.5, "goldfish": 0.5}, 2, seeds=3, resolution=64)
        assert len(mixed) == 2 and mixed.latents is not None and mixed.latents.y[0, [1, 207]].tolist() == [0.5, 0.5]
        assert (mixed.recipes[0].latents or {})["y"] == {"1": 0.5, "207": 0.5}
        alone = pipeline({207: 2}, seeds=3, resolution=64)
        assert torch.equal(alone.tensors, pipeline(207, seeds=3, resolution=64).tensors)
        assert not torch.allclose(mixed.tensors[:1], alone.tensors, atol=1e-3)

    def test_a_way_has_both_ends(self) -> None:
        pipeline = tiny_pipeline()
        way = pipeline.interpolate(207, {1: 1}, 5, seeds=(4, 9), truncation=0.5, resolution=64)
        ends = [pipeline(c, seeds=s, truncation=0.5, resolution=64).tensors for c, s in ((207, 4), (1, 9))]
        assert len(way) == 5
        assert torch.allclose(way.tensors[:1], ends[0], atol=1e-5)
        assert torch.allclose(way.tensors[-1:], ends[1], atol=1e-5)
        given = pipeline.interpolate(pipeline.latents(207, seeds=4), pipeline.latents(1, seeds=9), 3, resolution=64)
        assert len(given) == 3
        with pytest.raises(UsageError, match="3 seeds for the two ends"):
            pipeline.interpolate(207, 1, seeds=(1, 2, 3))  # type: ignore[arg-type]
        with pytest.raises(WrongTypeError, match="not a int"):
            pipeline(latents=5)  # type: ignore[arg-type]


class TestDifferentiable:
    def test_gradients_reach_the_latents_and_are_right(self) -> None:
        """Against a central difference along a random direction, in fp64 sums of fp32 pixels."""
        pipeline = tiny_pipeline()
        latents = pipeline.latents([207, 1])
        z, y = latents.z.clone().requires_grad_(), latents.y.clone().requires_grad_()

        def value(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return pipeline.differentiable(replace(latents, z=a, y=b)).double().square().mean()

        value(z, y).backward()
        assert z.grad is not None and y.grad is not None and y.grad[:, [1, 207]].abs().min() > 0
        step = torch.randn(z.shape, generator=torch.Generator().manual_seed(1))
        by = 1e-3
        with torch.no_grad():
            slope = (value(z + by * step, y) - value(z - by * step, y)) / (2 * by)
        assert float((z.grad * step).sum()) == pytest.approx(float(slope), rel=0.01)

    def test_it_is_the_picture_of_the_call(self) -> None:
        pipeline = tiny_pipeline()
        latents = pipeline.latents(207)
        assert torch.equal(pipeline.differentiable(latents, resolution=64), pipeline(207, resolution=64).tensors)

    def test_engines_without_gradients_say_so(self) -> None:
        pipeline = tiny_pipeline()
        pipeline.engine = "openvino"
        with pytest.raises(UsageError, match="no gradients"):
            pipeline.differentiable(pipeline.latents(207))
        with pytest.raises(UsageError, match="before the engine is put on"):
            pipeline.to(torch.bfloat16)


def test_models_are_listed_by_kind() -> None:
    assert "embedded" in list_models() and {"iwt", "subband-w"} <= set(list_models("decoders"))
    assert {"wavelet", "pixel"} <= set(list_models("encoder")) and "inception-v3" in list_models("classifier")
    with pytest.raises(UnknownNameError, match="did you mean sampler"):
        list_models("sampeler")
