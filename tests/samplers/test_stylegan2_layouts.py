"""StyleGAN2 of other programs: fixtures of their own forwards, and StyleGAN2-ADA's variants against a literal one."""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from peer_files import whole_network
from peer_stylegan2 import Literal, ada_state
from safetensors.torch import load_file
from stylegan2_weights import DIM, public_checkpoint
from torch import Tensor

from nsbgan_infer.convert import convert_checkpoint
from nsbgan_infer.errors import CheckpointError, UsageError
from nsbgan_infer.latents import Latents
from nsbgan_infer.samplers.stylegan2 import Noise, StyleGAN2
from nsbgan_infer.samplers.stylegan2_layouts import from_ada_state, from_public_layout
from nsbgan_infer.storage.components import load_component, save_component
from nsbgan_infer.storage.torch_files import read_torch_file


def draw(sampler: StyleGAN2, z: Tensor, y: Tensor | None, psi: float, noise: Noise) -> Tensor:
    weights = torch.zeros(len(z), 1000)
    if y is not None:
        weights[:, : y.shape[1]] = y
    sampler.noise = noise
    with torch.no_grad():
        return sampler(Latents(z, weights, tuple(range(len(z))), psi, "scale")) * 2 - 1


@pytest.mark.parametrize(
    ("folder", "files"),
    [
        ("stylegan2-ada-64", ["weights.safetensors"]),
        ("stylegan2-ada-cond-32", ["weights.safetensors", "snapshot_without_source.pkl"]),
    ],
)
def test_fixtures_of_stylegan2_ada(folder: str, files: list[str], shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "parity" / folder
    if not source.is_dir():
        pytest.skip(f"no {source}")
    expected = load_file(source / "expected.safetensors")
    z, c = expected["z"], expected.get("c")
    for file in files:
        convert_checkpoint(source / file, tmp_path / Path(file).stem)
        sampler = load_component(tmp_path / Path(file).stem, kind="sampler")
        assert isinstance(sampler, StyleGAN2)
        assert sampler.config.clamp == (256 if file.endswith(".pkl") else 0)
        with torch.no_grad():
            assert torch.allclose(sampler.map(z, c), expected["w"], atol=1e-5)
        for psi, name in ((1.0, "t1"), (0.7, "t07")):
            assert (draw(sampler, z, c, psi, "stored") - expected[f"output_{name}_const"]).abs().max() < 1e-4
            assert (draw(sampler, z, c, psi, "none") - expected[f"output_{name}_none"]).abs().max() < 1e-4
        assert (sampler.info.classes is None) == (folder == "stylegan2-ada-64") and sampler.info.truncates == "w"


def test_the_fixture_of_rosinalitys_port(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "parity" / "stylegan2-rosinality-64"
    if not source.is_dir():
        pytest.skip(f"no {source}")
    state, expected = load_file(source / "weights.safetensors"), load_file(source / "expected.safetensors")
    torch.save({"g_ema": state, "latent_avg": expected["latent_avg"]}, tmp_path / "ffhq.pt")
    convert_checkpoint(tmp_path / "ffhq.pt", tmp_path / "out")
    sampler = load_component(tmp_path / "out", kind="sampler")
    assert isinstance(sampler, StyleGAN2)
    z = expected["z"]
    for psi, name in ((1.0, "t1"), (0.7, "t07")):
        assert (draw(sampler, z, None, psi, "stored") - expected[f"output_{name}_stored_noise"]).abs().max() < 1e-4
        assert (draw(sampler, z, None, psi, "none") - expected[f"output_{name}_no_noise"]).abs().max() < 1e-4


@pytest.mark.parametrize("new", [True, False])
def test_training_files_of_rosinalitys_port(tmp_path: Path, new: bool) -> None:
    """With an argparse.Namespace inside and without a mean of w."""
    g = public_checkpoint()
    args = argparse.Namespace(size=16, latent=DIM, n_mlp=3, path="data.lmdb", local_rank=0)
    optimiser = torch.optim.Adam([torch.nn.Parameter(torch.ones(2))]).state_dict()
    content = {"g": public_checkpoint(3), "d": {}, "g_ema": g, "g_optim": optimiser, "args": args, "ada_aug_p": 0.0}
    torch.save(content, tmp_path / "110000.pt", _use_new_zipfile_serialization=new)
    convert_checkpoint(tmp_path / "110000.pt", tmp_path / "out")
    sampler = load_component(tmp_path / "out", kind="sampler")
    assert isinstance(sampler, StyleGAN2)
    z = torch.randn(1, DIM)
    wanted = draw(from_public_layout(g, None), z, None, 0.5, "stored")
    assert torch.allclose(draw(sampler, z, None, 0.5, "stored"), wanted, atol=1e-5)


ADA: dict[str, dict[str, Any]] = {
    "skip": {},
    "resnet": {"architecture": "resnet"},
    "orig": {"architecture": "orig"},
    "classes": {"classes": 5},
    "classes, resnet": {"classes": 10, "architecture": "resnet", "widths": (6, 6, 4, 4)},
    "a thousand classes": {"classes": 1000, "embed": 8},
    "other lengths": {"z": 5, "w": 9, "between": 7, "layers": 4, "classes": 3, "embed": 2},
    "one mapping layer": {"layers": 1, "z": 5},
    "4 x 4": {"widths": (6,)},
    "128": {"widths": (8, 8, 6, 6, 4, 4)},
}


@pytest.mark.parametrize("clamp", [None, 1.5])
@pytest.mark.parametrize("name", ADA)
def test_every_variant_against_the_literal_forward(name: str, clamp: float | None) -> None:
    options = ADA[name]
    state, classes = ada_state(**options), options.get("classes", 0)
    sampler = from_ada_state(state, whole(state, clamp))
    assert sampler.config.clamp == (clamp or 0)
    z = torch.randn(2, options.get("z", 8), generator=torch.Generator().manual_seed(1))
    y = torch.eye(classes)[[0, 2]] if classes else None
    reference = Literal(state, clamp)
    for psi in (1.0, 0.6):
        picture = draw(sampler, z, y, psi, "stored")
        for i in range(2):
            wanted = reference.picture(z[i], None if y is None else y[i], psi)
            assert wanted.std() > 0.05
            assert (picture[i] - wanted).abs().max() < 1e-4 * max(1.0, float(wanted.abs().max()))
    info = sampler.info
    assert info.classes == (tuple(range(classes)) or None) and info.z_dim == z.shape[1]
    assert info.labels == ("imagenet" if classes in (0, 1000) else "numbers")


def whole(state: dict[str, Tensor], clamp: float | None) -> Any:
    """The whole network of a state dict, as it is read from a snapshot."""
    attributes = {"conv_clamp": clamp, "activation": "lrelu", "bias_gain": 0.01}
    with TemporaryDirectory() as folder:
        path = Path(folder) / "x.pkl"
        path.write_bytes(whole_network(state, persistent=True, attributes=attributes))
        return read_torch_file(path)["G_ema"]


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_snapshot_as_the_program_writes_it(tmp_path: Path, protocol: int) -> None:
    state = ada_state(classes=4, architecture="resnet")
    content = whole_network(state, persistent=True, attributes={"conv_clamp": 256}, protocol=protocol)
    (tmp_path / "network.pkl").write_bytes(content)
    convert_checkpoint(tmp_path / "network.pkl", tmp_path / "out", licence="NVIDIA Source Code License")
    sampler = load_component(tmp_path / "out", kind="sampler")
    assert isinstance(sampler, StyleGAN2)
    assert sampler.info.licence == "NVIDIA Source Code License"
    assert (sampler.config.clamp, sampler.config.architecture, sampler.info.classes) == (256, "resnet", (0, 1, 2, 3))


def test_a_file_without_noise_maps_or_mean_of_w() -> None:
    state = ada_state(noise=False, classes=3)
    del state["mapping.w_avg"]
    sampler = from_ada_state(state)
    assert not sampler.config.stored_noise and sampler.latent_avg.std() > 0
    z, y = torch.randn(1, 8), torch.eye(3)[:1]
    with pytest.raises(UsageError, match="No noise maps came"):
        draw(sampler, z, y, 1.0, "stored")
    assert draw(sampler, z, y, 1.0, "seeds").std() > 0.1


def test_saved_and_loaded_it_keeps_its_noise(tmp_path: Path) -> None:
    sampler = from_ada_state(ada_state(classes=4))
    save_component(sampler, tmp_path / "s")
    again = load_component(tmp_path / "s")
    assert isinstance(again, StyleGAN2)
    z, y = torch.randn(2, 8), torch.eye(4)[:2]
    modes: list[Noise] = ["stored", "seeds", "none"]
    for noise in modes:
        assert torch.equal(draw(again, z, y, 0.7, noise), draw(sampler, z, y, 0.7, noise))


def test_checkpoints_that_do_not_fit_say_what_differs() -> None:
    state = ada_state()
    for change, message in (
        ({"synthesis.b8.conv0.noise_strength": None}, r"missing synthesis\.b8\.conv0\.noise_strength"),
        ({"synthesis.b8.extra": torch.zeros(1)}, r"unexpected synthesis\.b8\.extra"),
        ({"synthesis.b8.conv0.resample_filter": torch.ones(4, 4)}, r"\[1, 3, 3, 1\]"),
        ({"synthesis.b8.conv1.noise_const": torch.ones(4, 4)}, "8 pixels wide"),
        ({"mapping.w_avg": torch.zeros(3)}, r"latent_avg is \[3\]"),
        ({"synthesis.b64.conv1.weight": torch.zeros(4, 4, 3, 3)}, "do not double"),
        ({"synthesis.b16.torgb.weight": torch.zeros(1, 4, 1, 1)}, "1 channels instead of 3"),
    ):
        changed = {k: v for k, v in (state | change).items() if v is not None}
        with pytest.raises(CheckpointError, match=message):
            from_ada_state(changed)


@pytest.mark.slow
def test_the_published_size_with_classes() -> None:
    state = ada_state((512, 512, 512, 512), z=512, w=512, between=512, layers=2, classes=10, embed=512)
    sampler = from_ada_state(state)
    z, y = torch.randn(1, 512), torch.eye(10)[:1]
    wanted = Literal(state).picture(z[0], y[0], 1.0)
    assert (draw(sampler, z, y, 1.0, "stored")[0] - wanted).abs().max() < 1e-3 * wanted.abs().max()
