"""Conversion: every wrapper and layout that is understood, and one sentence for everything else."""

from __future__ import annotations

import json
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from stylegan2_weights import AVERAGE, DIM, public_checkpoint
from torch import Tensor

from nsbgan_infer.convert import convert_checkpoint
from nsbgan_infer.decoders.srresnet import SRResNet, SRResNetConfig
from nsbgan_infer.decoders.subband import SubbandConfig, SubbandDecoder
from nsbgan_infer.errors import CheckpointError, UsageError
from nsbgan_infer.latents import draw_latents
from nsbgan_infer.samplers.stylegan2 import StyleGAN2
from nsbgan_infer.samplers.stylegan2_layouts import from_public_layout
from nsbgan_infer.storage import checkpoints
from nsbgan_infer.storage.checkpoints import read_pickle
from nsbgan_infer.storage.components import component_config, load_component, read_header, save_component

COVERS = ["storage.checkpoints"]

CONFIG = SRResNetConfig(blocks=2, channels=8, basis="pixel", legacy_skip=True)


@pytest.fixture(scope="module")
def plain() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return SRResNet(CONFIG).state_dict()


def author_style(plain: dict[str, Tensor]) -> dict[str, Tensor]:
    filters = torch.zeros(4, 6, 6)
    return {**plain, "inv_filters": filters, "shift": torch.tensor([3.0]), "scale": torch.tensor([10.0])}


def save(value: Any, path: Path, **options: Any) -> Path:
    torch.save(value, path, **options)
    return path


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: OrderedDict(s),
        lambda s: {"params": s},
        lambda s: {"params_ema": s, "params": {k: v * 0 for k, v in s.items()}},
        lambda s: {"params": {k: v * 0 for k, v in s.items()}, "params_ema": s},
        lambda s: {"state_dict": s, "epoch": 3, "best": 0.5},
        lambda s: {"model": s, "optimizer": {"lr": 1e-4}},
        lambda s: {"state_dict": {"params": s}},
        lambda s: {f"module.{k}": v for k, v in s.items()},
        lambda s: {f"_orig_mod.{k}": v for k, v in s.items()},
        lambda s: {"model": {f"module._orig_mod.{k}": v for k, v in s.items()}},
        lambda s: {k: torch.nn.Parameter(v) for k, v in s.items()},
        lambda s: {k: v.half().float() for k, v in s.items()},
    ],
)
@pytest.mark.parametrize("legacy_file", [False, True])
def test_wrappers_and_prefixes(plain: dict[str, Tensor], tmp_path: Path, wrap: Any, legacy_file: bool) -> None:
    source = save(wrap(plain), tmp_path / "net_g.pth", _use_new_zipfile_serialization=not legacy_file)
    out = convert_checkpoint(source, tmp_path / "out")
    assert out == tmp_path / "out" / "model.safetensors"
    loaded = load_component(tmp_path / "out", kind="decoder")
    assert all(torch.allclose(v, plain[k], atol=1e-3) for k, v in loaded.state_dict().items())
    assert loaded.config.legacy_skip and loaded.config.basis == "pixel" and loaded.config.blocks == 2


def test_srresnet_gives_the_same_pictures(plain: dict[str, Tensor], tmp_path: Path) -> None:
    model = SRResNet(CONFIG).eval()
    model.load_state_dict(plain)
    convert_checkpoint(save({"params": plain}, tmp_path / "a.pth"), tmp_path / "a.safetensors", licence="Apache-2.0")
    loaded: Any = load_component(tmp_path / "a.safetensors")
    x = torch.rand(1, 3, 9, 10, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.allclose(loaded(x), model(x), atol=1e-5)
    assert loaded.info.licence == "Apache-2.0" and loaded.info.name == "a" and loaded.info.scale == 4


def test_the_authors_files_for_low_bands_keep_their_skip_and_normalisation(
    plain: dict[str, Tensor], tmp_path: Path
) -> None:
    source = save({"params": author_style(plain)}, tmp_path / "net_g_150000.pth")
    convert_checkpoint(source, tmp_path / "w.safetensors")
    config = load_component(tmp_path / "w.safetensors").config
    # (3, 10) belongs to a raw TL-2, four times the gain-free one
    assert (config.basis, config.legacy_skip, config.shift, config.divisor) == ("wavelet", True, 0.75, 2.5)
    wrong = author_style(plain) | {"inv_filters": torch.zeros(4, 5, 5)}
    with pytest.raises(CheckpointError, match="inv_filters"):
        convert_checkpoint(save(wrong, tmp_path / "x.pth"), tmp_path / "x.safetensors")


def test_a_checkpoint_of_scale_2(tmp_path: Path) -> None:
    state = SRResNet(SRResNetConfig(blocks=1, channels=8, basis="pixel", scale=2)).state_dict()
    convert_checkpoint(save(state, tmp_path / "x2.pth"), tmp_path / "x2.safetensors")
    loaded: Any = load_component(tmp_path / "x2.safetensors")
    assert loaded.info.scale == 2


def test_what_was_converted_is_written_into_the_header(plain: dict[str, Tensor], tmp_path: Path) -> None:
    import hashlib

    source = save(plain, tmp_path / "old file.pth")
    header = read_header(convert_checkpoint(source, tmp_path / "x.safetensors"))["__metadata__"]
    assert header["converted_from"] == "old file.pth" and header["layout"] == "srresnet"
    assert header["source_sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()


@pytest.mark.parametrize("average", [AVERAGE, None])
def test_stylegan2(tmp_path: Path, average: Tensor | None) -> None:
    content = {"g_ema": public_checkpoint(), "g": public_checkpoint(5)} | (
        {} if average is None else {"latent_avg": average}
    )
    convert_checkpoint(save(content, tmp_path / "church.pt"), tmp_path / "church", licence="unknown")
    loaded = load_component(tmp_path / "church", kind="sampler")
    assert isinstance(loaded, StyleGAN2)
    latents = draw_latents([1], [None], z_dim=DIM, truncation=0.5, mode="scale", truncates="w")
    assert torch.allclose(loaded(latents), from_public_layout(public_checkpoint(), average)(latents), atol=1e-5)


def test_our_own_state_dict_beside_its_configuration(tmp_path: Path) -> None:
    model = SubbandDecoder(SubbandConfig(blocks=1, channels=8))
    content: dict[str, Any] = {"config": component_config(model), "state_dict": model.state_dict(), "step": 12}
    convert_checkpoint(save(content, tmp_path / "c.pt"), tmp_path / "c.safetensors")
    loaded = load_component(tmp_path / "c.safetensors", kind="decoder")
    assert loaded.config == model.config
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in loaded.state_dict().items())
    content["config"] = content["config"] | {"blcks": 3}
    with pytest.raises(CheckpointError, match="'blcks': did you mean blocks"):
        convert_checkpoint(save(content, tmp_path / "c.pt"), tmp_path / "d.safetensors")


def test_safetensors_of_a_known_layout_and_our_own(plain: dict[str, Tensor], tmp_path: Path) -> None:
    save_file(dict(plain), tmp_path / "foreign.safetensors")
    convert_checkpoint(tmp_path / "foreign.safetensors", tmp_path / "a.safetensors")
    assert load_component(tmp_path / "a.safetensors").config.legacy_skip
    ours = SRResNet(SRResNetConfig(blocks=1, channels=8))
    save_component(ours, tmp_path / "ours.safetensors")
    convert_checkpoint(tmp_path / "ours.safetensors", tmp_path / "folder")
    assert load_component(tmp_path / "folder").config == ours.config


def test_differences_are_listed_and_nothing_is_written(plain: dict[str, Tensor], tmp_path: Path) -> None:
    state = {k: v for k, v in plain.items() if k != "conv_hr.bias"} | {"attention.weight": torch.zeros(1)}
    state["upconv1.weight"] = torch.zeros(72, 8, 3, 3)  # a x3 network
    with pytest.raises(CheckpointError) as caught:
        convert_checkpoint(save(state, tmp_path / "x.pth"), tmp_path / "out")
    for part in ("missing conv_hr.bias", "unexpected attention.weight", "upconv1.weight is [72, 8, 3, 3] instead of"):
        assert part in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_an_unknown_layout_lists_what_is_understood(tmp_path: Path) -> None:
    source = save({"layer.weight": torch.zeros(2)}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError) as caught:
        convert_checkpoint(source, tmp_path / "out")
    for name in ("srresnet", "stylegan2", "biggan", "own", "layer.weight", "spandrel:FILE"):
        assert name in str(caught.value)


class Custom:
    pass


@pytest.mark.parametrize(
    "content",
    [
        {},
        [],
        [torch.zeros(1)],
        torch.zeros(3),
        7,
        {"params": {}},
        {"params": 3},
        {1: torch.zeros(1)},
        {"conv_first.weight": [1, 2]},
        {"x": torch.zeros(2, 2).to_sparse()},
        {"x": torch.zeros(2, dtype=torch.complex64)},
        {"params": {"params": {"params": {"params": {"params": {"x": torch.zeros(1)}}}}}},
    ],
)
def test_what_is_no_state_dict(tmp_path: Path, content: Any) -> None:
    with pytest.raises(CheckpointError, match=r"state dict|does not know"):
        convert_checkpoint(save(content, tmp_path / "x.pth"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_objects_and_whole_modules_are_refused_without_advice_to_lower_the_guard(tmp_path: Path) -> None:
    for content in (torch.nn.Linear(2, 2), {"x": torch.zeros(1), "args": Custom()}):
        with pytest.raises(CheckpointError) as caught:
            convert_checkpoint(save(content, tmp_path / "x.pth"), tmp_path / "out")
        assert "it asks for" in str(caught.value) and "only tensors are read" in str(caught.value)
        assert "weights_only" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"x", b"\x80\x02.", b"PK\x03\x04", b"\x80\x02}q\x00.", b"\x00" * 100])
def test_what_is_no_checkpoint(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(CheckpointError):
        convert_checkpoint(tmp_path / "x.pth", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_networks_of_tensorflow_name_what_converts_them(tmp_path: Path) -> None:
    network = b"cdnnlib.tflib.network\nNetwork\n)\x81}X\x04\x00\x00\x00nameX\x01\x00\x00\x00Gsb"
    (tmp_path / "ffhq.pkl").write_bytes(b"\x80\x03" + network + network + b"\x86.")
    with pytest.raises(CheckpointError, match=r"legacy\.py"):
        convert_checkpoint(tmp_path / "ffhq.pkl", tmp_path / "out")


def test_weights_that_are_not_numbers_are_refused(plain: dict[str, Tensor], tmp_path: Path) -> None:
    spoilt = plain | {"conv_hr.bias": torch.full_like(plain["conv_hr.bias"], torch.nan)}
    with pytest.raises(CheckpointError, match=r"NaN or infinity in conv_hr\.bias"):
        convert_checkpoint(save(spoilt, tmp_path / "x.pth"), tmp_path / "out")


def test_missing_sources(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="No such checkpoint"):
        convert_checkpoint(tmp_path / "x.pth", tmp_path / "out")
    with pytest.raises(CheckpointError, match=r"No such checkpoint: .*pytorch_model\.bin"):
        convert_checkpoint(tmp_path, tmp_path / "out")


def test_sizes_are_limited_packed_unpacked_and_described(
    plain: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = save(plain, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="the limit is 1,000"):
        read_pickle(source, limit=1000)
    bomb = tmp_path / "bomb.pth"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb/data.pkl", b"\0" * 1_000_000)
    assert bomb.stat().st_size < 10_000
    with pytest.raises(CheckpointError, match="the limit is 100,000"):
        read_pickle(bomb, limit=100_000)
    wide = save({"x": torch.zeros(1).expand(2**40)}, tmp_path / "wide.pth")
    with pytest.raises(CheckpointError, match="describes more than"):
        convert_checkpoint(wide, tmp_path / "out")
    monkeypatch.setattr(checkpoints, "SIZE_LIMIT", 100)
    with pytest.raises(CheckpointError, match="describes more than 100 bytes"):
        convert_checkpoint(source, tmp_path / "out")


def test_an_output_that_cannot_be_written(plain: dict[str, Tensor], tmp_path: Path) -> None:
    source = save(plain, tmp_path / "x.pth")
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(UsageError, match="Cannot write"):
        convert_checkpoint(source, tmp_path / "taken")
    assert (tmp_path / "taken").read_text() == "mine"


def test_a_truncated_file_is_damaged(plain: dict[str, Tensor], tmp_path: Path) -> None:
    for legacy in (False, True):
        source = save(plain, tmp_path / "x.pth", _use_new_zipfile_serialization=not legacy)
        data = source.read_bytes()
        for cut in (len(data) // 3, len(data) - 10):
            source.write_bytes(data[:cut])
            with pytest.raises(CheckpointError):
                convert_checkpoint(source, tmp_path / "out")


def test_the_header_of_the_result_is_plain_json(plain: dict[str, Tensor], tmp_path: Path) -> None:
    out = convert_checkpoint(save(plain, tmp_path / "x.pth"), tmp_path / "y.safetensors")
    config = json.loads(read_header(out)["__metadata__"]["nsbgan_config"])
    assert config["kind"] == "decoder" and config["arch"] == "srresnet"
