"""BigGAN and BigGAN-deep of other programs: folded, they draw what their own forward draws."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peer_biggan import Peer
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from nsbgan_infer.convert import convert_checkpoint
from nsbgan_infer.errors import CheckpointError
from nsbgan_infer.latents import Latents
from nsbgan_infer.samplers.biggan_family import BigGANFamily, BigGANFamilyConfig
from nsbgan_infer.samplers.biggan_layouts import from_peer_state
from nsbgan_infer.storage.components import load_component, save_component

COVERS = ["samplers.biggan_layouts"]

FIXTURES = ("biggan-128", "biggan-deep-128", "bigbigan-128", "studiogan-biggan-128", "studiogan-deep-studiogan-64")


def draw(sampler: BigGANFamily, z: Tensor, y: Tensor | None = None) -> Tensor:
    """What the sampler draws, in the peer's range."""
    weights = torch.zeros(len(z), 1000)
    if y is not None:
        weights[:, : y.shape[1]] = y
    with torch.no_grad():
        return sampler(Latents(z, weights, tuple(range(len(z))), 1.0, "std")) * 2 - 1


@pytest.mark.parametrize("name", FIXTURES)
def test_fixtures_of_the_programs_themselves(name: str, shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "parity" / name
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    expected = load_file(folder / "expected.safetensors")
    torch.save(load_file(folder / "weights.safetensors"), tmp_path / "G_ema.pth")
    convert_checkpoint(tmp_path / "G_ema.pth", tmp_path / "out", licence="tests only")
    sampler = load_component(tmp_path / "out", kind="sampler")
    assert isinstance(sampler, BigGANFamily) and sampler.info.licence == "tests only"
    picture = draw(sampler, expected["z"], expected.get("y_onehot"))
    assert (picture - expected["output"]).abs().max() < 1e-4
    info = sampler.info
    assert (info.classes, info.labels) == ((None if "bigbigan" in name else tuple(range(7))), "numbers")
    assert info.resolution == expected["output"].shape[-1] and info.z_dim == expected["z"].shape[1]


PEERS: dict[str, dict[str, Any]] = {
    "32": {"side": 32, "attention": (16,)},
    "64, two attentions": {"attention": (16, 32), "chunk": 2, "classes": 11},
    "64, no attention": {"attention": ()},
    "128": {"side": 128, "attention": (64,), "class_dim": 5},
    "256": {"side": 256, "attention": (64,), "base": 2},
    "512": {"side": 512, "attention": (64,), "base": 2},
    "z in the start alone": {"hier": False, "chunk": 9},
    "an embedding a norm": {"hier": False, "shared": False, "chunk": 6},
    "no spectral norm": {"spectral": False},
    "cross-replica norms": {"statistics": "bn.running"},
    "its own norms": {"statistics": "bn.stored"},
    "its own norms, standing": {"statistics": "bn.stored", "counter": 5.0},
    "from TF Hub": {"converted": True, "side": 128},
    "deep, 32": {"deep": True, "side": 32, "attention": (16,), "chunk": 7},
    "deep, 32, one block a stage": {"deep": True, "side": 32, "depth": 1, "attention": (16,)},
    "deep, 32, three blocks a stage": {"deep": True, "side": 32, "depth": 3, "attention": (16,)},
    "deep, 64": {"deep": True, "chunk": 5},
    "deep, 256": {"deep": True, "side": 256, "attention": (64,), "base": 4},
    "studiogan, 32": {"program": "studiogan", "side": 32, "attention": (16,)},
    "studiogan, 64": {"program": "studiogan", "classes": 10},
    "studiogan, 256": {"program": "studiogan", "side": 256, "attention": (64,)},
    "studiogan, two attentions": {"program": "studiogan", "attention": (8, 32)},
    "studiogan, no spectral norm": {"program": "studiogan", "spectral": False},
    "studiogan deep, 64": {"program": "studiogan", "deep": True, "base": 8},
    "studiogan deep, 128": {"program": "studiogan", "deep": True, "side": 128, "attention": (64,)},
    "studiogan deep mixed, 64": {"program": "studiogan", "deep": True, "mixed": True, "attention": (16,)},
    "studiogan deep mixed, 32": {"program": "studiogan", "deep": True, "mixed": True, "side": 32, "attention": ()},
}


@pytest.mark.parametrize("name", PEERS)
def test_every_variant_against_its_unfolded_forward(name: str) -> None:
    peer = Peer(**PEERS[name])
    sampler = from_peer_state(peer.state)
    z = torch.randn(2, peer.z_dim, generator=torch.Generator().manual_seed(1))
    y = torch.eye(peer.classes)[[1, 4]]
    with torch.no_grad():
        wanted = peer(z, y)
    assert wanted.std() > 0.05  # not flat
    assert (draw(sampler, z, y) - wanted).abs().max() < 1e-4
    assert sampler.info.resolution == peer.side and sampler.info.z_dim == peer.z_dim
    assert sampler.info.classes == tuple(range(peer.classes))


def test_mixtures_of_classes_follow_the_embedding() -> None:
    peer = Peer()
    z, y = torch.randn(1, peer.z_dim), torch.tensor([[0.25, 0, 0.75, 0, 0, 0, 0]])
    with torch.no_grad():
        assert (draw(from_peer_state(peer.state), z, y) - peer(z, y)).abs().max() < 1e-4


@pytest.mark.parametrize("deep", [False, True])
def test_an_embedding_with_equal_rows_draws_without_classes(deep: bool) -> None:
    peer = Peer(converted=True, deep=deep)
    peer.state["shared.weight"] = peer.state["shared.weight"][:1].repeat(1000, 1)
    peer.state |= {k.replace(".u0", ".sv0"): torch.ones(1) for k in list(peer.state) if k.endswith(".u0")}
    sampler = from_peer_state({f"{k}": v for k, v in peer.state.items()})
    z = torch.randn(2, peer.z_dim)
    with torch.no_grad():
        wanted = peer(z, torch.eye(1000)[:2])
    assert sampler.info.classes is None and (draw(sampler, z) - wanted).abs().max() < 1e-4


def test_a_thousand_classes_are_imagenets() -> None:
    assert from_peer_state(Peer(classes=1000).state).info.labels == "imagenet"


def test_folding_saves_what_it_says() -> None:
    """Transposed convolutions and skips mixed before enlarging: at most 65 % of the unfolded multiply-adds."""
    peer = Peer(side=128, attention=())
    z, y = torch.randn(1, peer.z_dim), torch.eye(7)[:1]
    sampler = from_peer_state(peer.state)
    counts = []
    for work in (lambda: peer(z, y), lambda: draw(sampler, z, y)):
        with FlopCounterMode(display=False) as flops, torch.no_grad():
            work()
        counts.append(flops.get_total_flops())
    assert counts[1] < 0.65 * counts[0]


def test_saved_loaded_and_in_bf16(tmp_path: Path) -> None:
    peer = Peer()
    sampler = from_peer_state(peer.state, name="mine")
    save_component(sampler, tmp_path / "s")
    again = load_component(tmp_path / "s", kind="sampler")
    z, y = torch.randn(2, peer.z_dim), torch.eye(7)[:2]
    assert torch.allclose(draw(again, z, y), draw(sampler, z, y), atol=1e-5)  # type: ignore[arg-type]
    low = draw(again.bfloat16(), z, y)  # type: ignore[arg-type]
    assert low.dtype == torch.bfloat16 and (low.float() - draw(sampler, z, y)).abs().mean() < 0.05


def test_checkpoints_that_do_not_fit_say_what_differs() -> None:
    state = Peer().state
    for change, message in (
        ({"blocks.1.0.bn1.gain.weight": None}, "no tensor blocks.1.0.bn1"),
        ({"blocks.0.0.conv2.bias": None}, "no tensor blocks.0.0.conv2.bias"),
        ({"blocks.0.0.extra": torch.zeros(1)}, r"blocks\.0\.0\.extra"),
        ({"output_layer.2.bias": torch.zeros(5)}, r"to_rgb\.bias is \[5\] instead of \[3\]"),
        ({"linear.bias": torch.zeros(3)}, r"start\.bias is \[3\]"),
    ):
        changed = {k: v for k, v in (state | change).items() if v is not None}
        with pytest.raises(CheckpointError, match=message):
            from_peer_state(changed)
    with pytest.raises(CheckpointError, match="1001 classes"):
        from_peer_state(Peer(classes=1001).state)


@pytest.mark.parametrize(
    "change",
    [
        {"widths": (4,)},
        {"widths": (4, 0)},
        {"hidden": (1, 1, 1)},
        {"enlarging": (5,)},
        {"attention": (-1,)},
        {"z_split": "none"},
        {"z_dim": 7},
        {"num_classes": 0},
        {"num_classes": 1001},
        {"skip": "cut", "widths": (4, 8, 8)},
        {"truncation": 0.0},
        {"start_side": 0},
    ],
)
def test_impossible_configurations_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        replace(BigGANFamilyConfig((8, 8, 4), z_dim=6, enlarging=(0, 1), attention=()), **change)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"side": 128, "base": 96, "chunk": 20, "class_dim": 128, "classes": 1000, "attention": (64,)},
        {"side": 128, "base": 128, "chunk": 128, "class_dim": 128, "classes": 1000, "attention": (64,), "deep": True},
        {"program": "studiogan", "side": 128, "base": 96, "chunk": 20, "class_dim": 128, "attention": (64,)},
    ],
    ids=["BigGAN-PyTorch", "BigGAN-deep", "StudioGAN"],
)
def test_real_sizes(options: dict[str, Any]) -> None:
    """In fp64, because random weights at this width magnify the rounding of both sides in fp32 to 2e-4."""
    peer = Peer(**options)
    sampler = from_peer_state(peer.state).double()
    peer.state = {k: v.double() for k, v in peer.state.items()}
    z, y = torch.randn(1, peer.z_dim, dtype=torch.float64), torch.eye(peer.classes, dtype=torch.float64)[:1]
    with torch.no_grad():
        wanted = peer(z, y)
    assert wanted.std() > 0.05 and (draw(sampler, z, y) - wanted).abs().max() < 1e-4
