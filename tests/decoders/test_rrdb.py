"""ESRGAN's generator: equal to other people's programs in all three spellings, sizes told from shapes, contract."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from nsbgan_infer.convert import convert_checkpoint
from nsbgan_infer.decoders.conformance import check_decoder
from nsbgan_infer.decoders.rrdb import RRDB, RRDBConfig, from_public_layout, is_public_layout
from nsbgan_infer.decoders.tiling import decode
from nsbgan_infer.errors import CheckpointError
from nsbgan_infer.storage.components import empty_weights, load_component, save_component

PARITY = ("rrdb", "rrdb-gc32", "rrdb-gc32-esrgan-names", "rrdb-gc32-old-names", "rrdb-x2")
TINY = {"blocks": 1, "channels": 8, "growth": 4}


def tiny(**config: object) -> RRDB:
    torch.manual_seed(0)
    return RRDB(RRDBConfig(**{**TINY, **config})).eval().requires_grad_(False)  # type: ignore[arg-type]


def in_esrgan_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    pairs = (("conv_body", "trunk_conv"), ("body.", "RRDB_trunk."), (".rdb", ".RDB"), ("conv_up", "upconv"))
    renamed = {}
    for key, value in state.items():
        for ours, theirs in (*pairs, ("conv_hr", "HRconv")):
            key = key.replace(ours, theirs)
        renamed[key] = value
    return renamed


def in_old_names(state: dict[str, Tensor], blocks: int, doublings: int) -> dict[str, Tensor]:
    renamed = {}
    table = {"conv_first": 0, "conv_hr": 2 + 3 * doublings, "conv_last": 4 + 3 * doublings}
    table |= {f"conv_up{i}": 3 * i for i in range(1, doublings + 1)}
    for key, value in state.items():
        part, _, kind = key.rpartition(".")
        if part.startswith("body."):
            _, block, dense, conv = part.split(".")
            renamed[f"model.1.sub.{block}.{dense.upper()}.{conv}.0.{kind}"] = value
        elif part == "conv_body":
            renamed[f"model.1.sub.{blocks}.{kind}"] = value
        else:
            renamed[f"model.{table[part]}.{kind}"] = value
    return renamed


@pytest.mark.parametrize("name", PARITY)
def test_equals_the_peers_own_forward(shared_data: Path, name: str) -> None:
    folder = shared_data / "parity" / name
    if not folder.is_dir():
        pytest.skip(f"../shared/data/parity/{name} is absent")
    expected = load_file(folder / "expected.safetensors")
    decoder = from_public_layout(load_file(folder / "weights.safetensors"), name=name)
    assert (decoder(expected["input"]) - expected["output"]).abs().max() < 1e-4
    assert decoder.config.growth == (8 if name == "rrdb" else 32) and decoder.info.licence == "unknown"


@pytest.mark.parametrize("name", PARITY)
def test_convert_recognises_such_a_file(shared_data: Path, tmp_path: Path, name: str) -> None:
    folder = shared_data / "parity" / name
    if not folder.is_dir():
        pytest.skip(f"../shared/data/parity/{name} is absent")
    expected = load_file(folder / "expected.safetensors")
    state = load_file(folder / "weights.safetensors")
    torch.save({"params": {k: v * 0 for k, v in state.items()}, "params_ema": state}, tmp_path / "net.pth")
    convert_checkpoint(tmp_path / "net.pth", tmp_path / "net", licence="BSD-3-Clause")
    decoder = load_component(tmp_path / "net", kind="decoder")
    assert isinstance(decoder, RRDB) and decoder.info.licence == "BSD-3-Clause" and decoder.info.name == "net"
    assert (decoder(expected["input"]) - expected["output"]).abs().max() < 1e-4


def test_size_of_the_published_network() -> None:
    with empty_weights():
        decoder = RRDB(RRDBConfig())
    assert sum(p.numel() for p in decoder.parameters()) == 16_697_987
    assert decoder.info.scale == 4 and decoder.info.halo == 32 and decoder.info.basis == "pixel"


def test_initial_weights_are_a_tenth_of_kaiming_normal_in_dense_blocks() -> None:
    torch.manual_seed(0)
    decoder = RRDB(RRDBConfig(blocks=1))
    for name, value in decoder.named_parameters():
        if name.endswith("bias"):
            assert not value.any()
        elif value.numel() > 10_000:
            gain = 0.1 if name.startswith("body.") else 1.0
            assert value.std().item() == pytest.approx(gain * (2 / (value.shape[1] * 9)) ** 0.5, rel=0.05), name


@pytest.mark.parametrize(("scale", "unshuffle"), [(2, 1), (4, 1), (8, 1), (2, 2), (4, 2)])
def test_any_size_is_told_from_shapes_in_every_spelling(scale: int, unshuffle: int) -> None:
    decoder = tiny(scale=scale, unshuffle=unshuffle, blocks=2, channels=6, growth=5)
    state = decoder.state_dict()
    old = in_old_names(state, 2, decoder.config.doublings)
    low = torch.rand(2, 3, 8, 12, generator=torch.Generator().manual_seed(1))
    want = decoder(low)
    assert want.shape == (2, 3, 8 * scale, 12 * scale)
    for spelled in (state, in_esrgan_names(state), old):
        assert is_public_layout(spelled)
        read = from_public_layout(spelled, name="rrdb", licence="none")
        assert read.config == decoder.config and torch.equal(read(low), want)


def test_a_dense_block_by_hand() -> None:
    """x + 0.2 (x' - x) of three dense blocks in a row, each of five convolutions of all that came before."""
    decoder = tiny()
    state, block = decoder.state_dict(), decoder.body[0]
    x = torch.rand(1, 8, 6, 7)
    y = x
    for n in (1, 2, 3):
        seen = [y]
        for k in range(1, 6):
            name = f"body.0.rdb{n}.conv{k}"
            z = F.conv2d(torch.cat(seen, 1), state[f"{name}.weight"], state[f"{name}.bias"], padding=1)
            seen.append(z.where(z > 0, 0.2 * z) if k < 5 else z)
        y = y + 0.2 * seen[-1]
    torch.testing.assert_close(block(x), x + 0.2 * y)


def test_saved_and_loaded_it_is_the_same(tmp_path: Path) -> None:
    decoder = tiny(scale=2, unshuffle=2)
    save_component(decoder, tmp_path / "x.safetensors")
    loaded = load_component(tmp_path / "x.safetensors", kind="decoder")
    low = torch.rand(1, 3, 8, 8)
    assert loaded.config == decoder.config and torch.equal(loaded(low), decoder(low))


@pytest.mark.parametrize("config", [{"scale": 4}, {"scale": 2}, {"scale": 2, "unshuffle": 2}])
def test_the_form_of_the_contract_holds(config: dict[str, int]) -> None:
    """Colours and places are random before training; all else must hold, tiles and odd sizes included."""
    decoder = tiny(**config)
    found = {c.name: (c.ok, c.message) for c in check_decoder(decoder)}
    for name in ("info", "shape", "odd sizes", "dtype and device", "determinism", "batch independence", "tiles"):
        assert found[name][0], (name, found[name])
    low = torch.rand(1, 3, 21, 35)
    whole = decode(decoder, low)
    assert whole.shape[-2:] == (21 * decoder.info.scale, 35 * decoder.info.scale)
    torch.testing.assert_close(decode(decoder, low, tile=8), whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"conv_first.weight": torch.zeros(8, 48, 3, 3)}, "enlarges by 0"),  # 16 * 3 channels: an x1 network at x4
        ({"conv_first.weight": torch.zeros(8, 1, 3, 3)}, "takes 1 channels"),
        ({"conv_last.weight": torch.zeros(1, 8, 3, 3)}, "conv_last.weight is"),
        ({"body.0.rdb2.conv1.weight": torch.zeros(3, 8, 3, 3)}, "rdb2.conv1.weight is"),
        ({"attention.weight": torch.zeros(1)}, "unexpected attention.weight"),
    ],
)
def test_what_is_no_such_decoder_is_refused(change: dict[str, Tensor], says: str) -> None:
    state = tiny(scale=2).state_dict() | change
    with pytest.raises(CheckpointError, match=says):
        from_public_layout(state, name="x")


def test_a_restorer_of_scale_1_is_refused() -> None:
    state = tiny(scale=4).state_dict() | {"conv_first.weight": torch.zeros(8, 48, 3, 3)}
    with pytest.raises(CheckpointError, match="x enlarges by 1: a decoder enlarges by 2, 4, 8 or 16"):
        from_public_layout(state, name="x")
