"""Every engine against eager torch: same contract, same pictures within its limits, recipes that name it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from stylegan2_weights import public_checkpoint
from tiny import CLASSES, randomise, tiny_biggan, tiny_decoder, tiny_pipeline

from nsbgan_infer.datasets import open_source, to_tensor
from nsbgan_infer.decoders.interpolate import make_bicubic
from nsbgan_infer.encoders import WaveletEncoder
from nsbgan_infer.encoders.reduce import make_reducer
from nsbgan_infer.engines import ENGINES, pick_engine, place, place_part, with_engine
from nsbgan_infer.engines.baked import BakedBigGAN
from nsbgan_infer.engines.graph import part_graph
from nsbgan_infer.engines.openvino import Network, threads
from nsbgan_infer.errors import MissingExtraError, UsageError, WorkError
from nsbgan_infer.latents import draw_latents
from nsbgan_infer.pipeline import NsbPipeline, Stage
from nsbgan_infer.registry import shipped_file
from nsbgan_infer.samplers.base import SamplerInfo
from nsbgan_infer.samplers.biggan import BigGANDeep
from nsbgan_infer.samplers.stylegan2_layouts import from_public_layout
from nsbgan_infer.storage.components import load_component, save_component
from nsbgan_infer.storage.shipped import manifest

COVERS = ["engines.baked", "engines.graph", "engines.openvino", "engines.eager"]

CPU = torch.device("cpu")


def biggan_pipeline() -> NsbPipeline:
    return NsbPipeline(tiny_biggan(128), [Stage(WaveletEncoder(1), tiny_decoder())], name="tiny biggan")


def stylegan_pipeline() -> NsbPipeline:
    return NsbPipeline(randomise(from_public_layout(public_checkpoint(), None)), name="tiny stylegan2")  # type: ignore[arg-type]


PIPELINES: dict[str, Callable[[], NsbPipeline]] = {
    "learned": tiny_pipeline,
    "biggan-deep": biggan_pipeline,
    "stylegan2": stylegan_pipeline,
}


def varied_biggan() -> BigGANDeep:
    """A tiny BigGAN-deep with other statistics at every truncation."""
    sampler = tiny_biggan(128)
    random = torch.Generator().manual_seed(3)
    with torch.no_grad():
        sampler.statistics.means.normal_(0, 0.1, generator=random)
        sampler.statistics.variances.uniform_(0.5, 2, generator=random)
    return sampler


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(-10 * (a - b).square().mean().log10())


@pytest.mark.usefixtures("kept_networks")
@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.parametrize("engine", ["eager", "openvino"])
def test_fp32_engines_stay_within_one_grey_level_of_eager(name: str, engine: Any) -> None:
    plain = PIPELINES[name]()
    classes = None if name == "stylegan2" else [207, 1]
    wanted = plain(classes, 2, seeds=5, batch_size=3)
    assert wanted.tensors.std() > 0.01
    fast = with_engine(PIPELINES[name](), engine)
    got = fast(classes, 2, seeds=5, batch_size=3)  # a whole batch, and one that is not
    assert got.tensors.shape == wanted.tensors.shape
    assert (got.tensors - wanted.tensors).abs().max() < 1 / 255
    assert got.recipes[0].engine == engine
    assert got.recipes[0].dtype == "fp32"


@pytest.mark.usefixtures("kept_networks")
def test_bf16_in_openvino_is_near_and_the_recipe_says_so() -> None:
    wanted = biggan_pipeline()([207], 2).tensors
    output = with_engine(biggan_pipeline(), "openvino", dtype=torch.bfloat16)([207], 2)
    assert psnr(output.tensors, wanted) > 35
    assert (output.recipes[0].engine, output.recipes[0].dtype) == ("openvino", "bf16")


@pytest.mark.usefixtures("kept_networks")
def test_a_decoder_given_to_a_call_runs_as_its_recipe_says() -> None:
    fast = with_engine(tiny_pipeline(), "openvino", dtype=torch.bfloat16)
    output = fast([207], decoder=tiny_decoder("other-w"))
    assert (output.recipes[0].engine, output.recipes[0].dtype) == ("openvino", "bf16")
    assert output.recipes[0].decoders == ("other-w", "other-w")
    assert torch.equal(output.tensors, fast([207]).tensors)  # the same weights, run in the same way
    assert not torch.equal(output.tensors, tiny_pipeline()([207]).tensors)


@pytest.mark.parametrize("truncation", [0.3, 1.0])
def test_the_baked_biggan_equals_the_sampler(truncation: float) -> None:
    sampler = varied_biggan()
    drawn = draw_latents([1, 2], [207, 3], z_dim=128, truncation=truncation, mode="scale")
    statistics = sampler.statistics.at(truncation, sampler.config)
    wanted = sampler(drawn)
    assert wanted.std() > 0.01
    assert (BakedBigGAN(sampler, statistics)(drawn.z, drawn.y) - wanted).abs().max() < 1e-5


@pytest.mark.usefixtures("kept_networks")
def test_each_truncation_has_its_own_network() -> None:
    plain = NsbPipeline(varied_biggan())
    fast = with_engine(NsbPipeline(plain.sampler), "openvino")
    for truncation in (0.3, 1.0, 0.3):
        difference = fast([207], truncation=truncation).tensors - plain([207], truncation=truncation).tensors
        assert difference.abs().max() < 1 / 255
    assert len(fast.sampler.run.networks) == 2  # type: ignore[attr-defined]


def test_openvino_ties_no_thread_to_a_core(private_cache: Path) -> None:
    """Two processes of one thread each would share the first core otherwise, and take twice the time."""
    for _ in ("compiled", "kept"):
        decoder = tiny_decoder()
        graph = part_graph(decoder)
        assert graph is not None
        network = Network(decoder, graph, torch.float32)
        network(torch.rand(1, 3, 16, 16))
        (request,) = network.requests.values()
        assert request.get_compiled_model().get_property("ENABLE_CPU_PINNING") is False
    assert threads() == {"INFERENCE_NUM_THREADS": str(torch.get_num_threads()), "ENABLE_CPU_PINNING": "NO"}


@pytest.mark.usefixtures("kept_networks")
def test_outputs_of_openvino_are_their_own_memory() -> None:
    pipeline = with_engine(tiny_pipeline(), "openvino")
    first = pipeline([207], 1, seeds=1).tensors
    copy = first.clone()
    pipeline([207], 1, seeds=2)
    assert torch.equal(first, copy)


@pytest.mark.slow
@pytest.mark.parametrize("name", PIPELINES)
def test_compile_stays_within_one_grey_level_of_eager(name: str) -> None:
    classes = None if name == "stylegan2" else [207, 1]
    wanted = PIPELINES[name]()(classes, 2).tensors
    got = with_engine(PIPELINES[name](), "compile")(classes, 2)
    assert (got.tensors - wanted).abs().max() < 1 / 255
    assert got.recipes[0].engine == "compile"


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(manifest().get("components", {})))
def test_shipped_weights_stay_within_the_limits_of_each_engine(
    name: str, shared_data: Path, record_property: Callable[[str, object], None]
) -> None:
    """fp32: 1/255. bf16: the figures go into the report (`pytest -rA`, junit), and 38 dB is the floor."""
    part: Any = load_component(shipped_file(name))
    if part.kind != "decoder":
        pytest.skip("samplers are compared in whole pipelines")
    photo = to_tensor(open_source(shared_data / "set5.zip").image(0))[None, :, :256, :256]
    given = make_reducer(part.info.reads, 4)(photo)  # (1, 3, 64, 64)
    wanted = part(given)
    graph = part_graph(part)
    assert graph is not None
    full = Network(part, graph, torch.float32)(given)
    assert (full - wanted).abs().max() < 1 / 255
    half = Network(part, graph, torch.bfloat16)(given)
    difference = (half - wanted).abs()
    record_property("bf16 max", float(difference.max()))
    record_property("bf16 mean", float(difference.mean()))
    record_property("bf16 PSNR", psnr(half, wanted))
    print(f"{name} bf16: max {difference.max():.4f}, mean {difference.mean():.5f}, PSNR {psnr(half, wanted):.1f} dB")
    assert psnr(half, wanted) > 38


@pytest.mark.usefixtures("kept_networks")
def test_parts_without_weights_stay_as_they_are() -> None:
    bicubic = make_bicubic(4)
    pipeline = NsbPipeline(tiny_biggan(128), [Stage(None, bicubic)])
    fast = with_engine(pipeline, "openvino")
    assert fast.stages[0].decoder is bicubic
    assert fast([207], 1).tensors.shape[-1] == 512


@pytest.mark.usefixtures("kept_networks")
def test_one_decoder_in_two_stages_is_compiled_as_one() -> None:
    fast = with_engine(tiny_pipeline(), "openvino")
    assert fast.stages[0].decoder is fast.stages[1].decoder


def test_a_plug_in_sampler_is_refused_with_the_engine_that_takes_it() -> None:
    class Foreign:
        info = SamplerInfo("foreign", "pixel", 16, 4, CLASSES, "std", 1.0, "none")

        def __call__(self, latents: Any) -> torch.Tensor:
            return torch.zeros(len(latents), 3, 16, 16)

    with pytest.raises(UsageError, match="run foreign with eager"):
        with_engine(NsbPipeline(Foreign()), "openvino")


def run_openvino(decoder: Any) -> torch.Tensor:
    """What a decoder makes of one small low band, freshly placed."""
    low = torch.rand(1, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    return place_part(decoder, "openvino", CPU, torch.float32)(low)


def test_compiled_networks_are_kept_on_disk(private_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = with_engine(tiny_pipeline(), "openvino")([207], 1).tensors
    kept = sorted((private_cache / "openvino").glob("*.blob"))
    assert len(kept) == 3  # the sampler, and the decoder at two sizes

    def refuse(*_: object) -> None:
        raise AssertionError("nothing should be traced again")

    monkeypatch.setattr("nsbgan_infer.engines.openvino.traced", refuse)
    assert torch.equal(with_engine(tiny_pipeline(), "openvino")([207], 1).tensors, wanted)


@pytest.mark.parametrize("left", [b"damaged", b""])
def test_a_damaged_compiled_network_is_compiled_again(left: bytes, private_cache: Path) -> None:
    wanted = run_openvino(tiny_decoder())
    (kept,) = (private_cache / "openvino").glob("*.blob")
    kept.write_bytes(left)
    assert torch.equal(run_openvino(tiny_decoder()), wanted)
    assert kept.stat().st_size > 1000


def test_other_weights_never_meet_a_kept_network(private_cache: Path, tmp_path: Path) -> None:
    one, other = tiny_decoder(), randomise(tiny_decoder(), seed=9)
    save_component(other, tmp_path / "other.safetensors")
    results = [run_openvino(d) for d in (one, other, load_component(tmp_path / "other.safetensors"))]
    assert not torch.equal(results[0], results[1])
    assert torch.equal(results[1], results[2])


def test_a_cache_that_cannot_be_written_only_costs_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("NSBGAN_CACHE", str(tmp_path / "file"))
    assert run_openvino(tiny_decoder()).isfinite().all()


def test_without_openvino_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtraError, match=r"nsbgan-infer\[openvino\]"):
        with_engine(tiny_pipeline(), "openvino")


def test_auto_picks_by_device_and_number_of_images() -> None:
    cuda = torch.device("cuda")
    assert pick_engine("auto", cuda, 1) == ("eager", None)
    assert pick_engine("auto", cuda, 1000) == ("compile", "bf16")
    assert pick_engine("auto", CPU, 1000) == ("eager", None)  # what a pipeline costs decides there: see `rule`
    assert [pick_engine(e, CPU, 1)[0] for e in ENGINES[1:]] == list(ENGINES[1:])
    with pytest.raises(UsageError, match="Unknown engine"):
        pick_engine("tensorrt", CPU, 1)
    with pytest.raises(UsageError, match="runs on the CPU"):
        pick_engine("openvino", cuda, 1)


def test_compiling_asks_no_network(private_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    openvino = pytest.importorskip("openvino")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("it reports every call to its makers")

    monkeypatch.setattr(openvino, "convert_model", refuse)
    assert run_openvino(tiny_decoder()).isfinite().all()


def test_placing_settles_device_dtype_and_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nsbgan_infer.engines.find_spec", lambda _name: None)  # as where OpenVINO is not installed
    pipeline = tiny_pipeline()
    assert place(pipeline, "auto", device=CPU, images=1000) is pipeline
    assert (pipeline.engine, pipeline.dtype) == ("eager", torch.float32)
    assert place(pipeline, "eager", dtype="bf16").dtype == torch.bfloat16
    assert place(pipeline, "eager").dtype == torch.bfloat16  # as it is
    decoder = tiny_decoder()
    assert place_part(decoder, "auto", CPU, torch.bfloat16) is decoder
    assert next(decoder.parameters()).dtype == torch.bfloat16
    iwt = make_bicubic()
    assert place_part(iwt, "openvino", CPU, torch.float32) is iwt  # it has no network
    with pytest.raises(UsageError, match="runs on the CPU"):
        place_part(decoder, "openvino", torch.device("cuda"), torch.float32)


def test_without_a_compiler_the_engine_compile_is_refused_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nsbgan_infer.engines.eager.shutil.which", lambda _name: None)
    with pytest.raises(UsageError, match=r"needs a C\+\+ compiler, and none is found here: install g\+\+"):
        with_engine(tiny_pipeline(), "compile")


def test_what_torch_cannot_compile_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor.exc import InvalidCxxCompiler

    def fails(*_: object) -> torch.Tensor:
        raise InvalidCxxCompiler

    monkeypatch.setattr("nsbgan_infer.engines.eager._has_compiler", lambda: True)
    monkeypatch.setattr(torch, "compile", lambda *_args, **_options: fails)
    with pytest.raises(WorkError, match=r"torch\.compile cannot compile this network here .*: use --engine eager"):
        with_engine(tiny_pipeline(), "compile")(207)
