"""Foreign upscalers: equal to spandrel called directly, and every wrong file refused with one sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from extras import skip_without
from safetensors.torch import save_file

from nsbgan_infer.decoders.conformance import check_decoder
from nsbgan_infer.decoders.foreign import load_foreign
from nsbgan_infer.decoders.tiling import decode
from nsbgan_infer.errors import CheckpointError, MissingExtraError, UnknownNameError, UsageError
from nsbgan_infer.registry import load_decoder

skip_without("spandrel")


def compact(scale: int = 4, channels: int = 3) -> torch.nn.Module:
    """A tiny SRVGG (Real-ESRGAN Compact) with random weights."""
    from spandrel.architectures.Compact import Compact

    torch.manual_seed(0)
    return Compact(num_in_ch=channels, num_out_ch=channels, num_feat=8, num_conv=2, upscale=scale)


def rrdb() -> torch.nn.Module:
    """A tiny ESRGAN, scale 2."""
    from spandrel.architectures.ESRGAN import ESRGAN

    torch.manual_seed(0)
    return ESRGAN(num_filters=8, num_blocks=1, scale=2)


def reference_of(path: Path) -> Any:
    """What spandrel itself makes of a file."""
    from spandrel import ModelLoader

    return ModelLoader().load_from_file(path).eval()


def saved(tmp_path: Path, model: torch.nn.Module, name: str, wrap: str = "") -> Path:
    path, state = tmp_path / name, {k: v.clone() for k, v in model.state_dict().items()}
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({wrap: state} if wrap else state, path)
    return path


@pytest.mark.parametrize("name", ["x.safetensors", "x.pth"])
@pytest.mark.parametrize("make", [compact, rrdb])
def test_equals_spandrel_called_directly(tmp_path: Path, make: Callable[[], torch.nn.Module], name: str) -> None:
    path = saved(tmp_path, make(), name)
    reference = reference_of(path)
    decoder = load_foreign(path)
    assert decoder.info.scale == reference.scale and decoder.info.basis == "pixel"
    assert decoder.info.licence == "unknown (foreign)" and decoder.info.name == f"spandrel:{name}"
    low = torch.rand(2, 3, 13, 16)
    out = decoder(low)
    torch.testing.assert_close(out, torch.cat([reference(x) for x in low.split(1)]).clone(), atol=0, rtol=0)
    out += 1  # an ordinary tensor, not one of inference mode


def fresh(name: str) -> torch.nn.Module:
    """An architecture of recent years, tiny, with random weights."""
    from spandrel.architectures.OmniSR import OmniSR
    from spandrel.architectures.PLKSR import PLKSR
    from spandrel.architectures.SAFMN import SAFMN
    from spandrel.architectures.SPAN import SPAN
    from spandrel.architectures.SwinIR import SwinIR

    torch.manual_seed(0)
    swin = {"depths": [2, 2], "num_heads": [2, 2], "embed_dim": 24, "window_size": 8, "mlp_ratio": 2}
    makers: dict[str, Callable[[], torch.nn.Module]] = {
        "omnisr": lambda: OmniSR(num_feat=16, block_num=1, window_size=8, res_num=1, up_scale=4),
        "plksr": lambda: PLKSR(dim=16, n_blocks=2, upscaling_factor=2),
        "safmn": lambda: SAFMN(dim=16, n_blocks=2, upscaling_factor=4),
        "span": lambda: SPAN(num_in_ch=3, num_out_ch=3, feature_channels=16, upscale=4),
        "swinir": lambda: SwinIR(upscale=4, img_size=64, upsampler="pixelshuffledirect", **swin),
    }
    return makers[name]()


@pytest.mark.parametrize("name", ["omnisr", "plksr", "safmn", "span", "swinir"])
def test_fresh_architectures_equal_spandrel_at_odd_sizes(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path, fresh(name), f"{name}.safetensors")
    decoder = load_decoder(f"spandrel:{path}")
    scale, low = decoder.info.scale, torch.rand(1, 3, 19, 30)
    out = decode(decoder, low)
    assert out.shape == (1, 3, 19 * scale, 30 * scale)
    reference = reference_of(path)
    torch.testing.assert_close(out, reference(low).clone(), atol=0, rtol=0)
    assert decoder.info.halo == (64 if name == "swinir" else 32)  # spandrel discourages tiles of SwinIR


def test_through_the_registry_with_wrapper_keys(tmp_path: Path) -> None:
    path = saved(tmp_path, compact(2), "wrapped.pth", wrap="params_ema")
    decoder = load_decoder(f"spandrel:{path}")
    low = torch.rand(1, 3, 40, 50)
    whole = decode(decoder, low)
    assert whole.shape == (1, 3, 80, 100) and whole.min() >= 0 and whole.max() <= 1
    torch.testing.assert_close(decode(decoder, low, tile=16), whole, atol=1e-5, rtol=0)


def test_conformance_says_what_an_untrained_network_breaks(tmp_path: Path) -> None:
    """Colours are random here, but everything of form holds."""
    decoder = load_foreign(saved(tmp_path, compact(), "x.safetensors"))
    found = {c.name: c.ok for c in check_decoder(decoder)}
    form = ("info", "shape", "odd sizes", "dtype and device", "determinism", "batch independence", "tiles")
    assert all(found[name] for name in form), found


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (compact(scale=1), "Restoration at scale 1, not an upscaler"),
        (compact(channels=1), "1 to 1 channels"),
        (torch.nn.Linear(3, 3), "no architecture that spandrel knows"),
    ],
)
def test_other_networks_are_refused(tmp_path: Path, model: torch.nn.Module, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        load_foreign(saved(tmp_path, model, "x.safetensors"))


def test_likeness_without_fit_is_refused(tmp_path: Path) -> None:
    model = compact()
    state = model.state_dict()
    state["body.2.weight"] = torch.zeros(8, 7, 3, 3)
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="does not fit it"):
        load_foreign(tmp_path / "x.pth")


class Hostile:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (self.command,)


def test_a_pickle_that_runs_a_command_is_refused(tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    torch.save({"params": Hostile(f"touch {witness}")}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="only tensors are read, never code"):
        load_foreign(tmp_path / "x.pth")
    assert not witness.exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("name", ["x.pth", "x.safetensors"])
@pytest.mark.parametrize("content", [b"", b"garbage", b"\x80\x04N.", b"\xff" * 64])
def test_damaged_files_are_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        load_foreign(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_reads_bicubic_unless_told_otherwise(tmp_path: Path) -> None:
    path = saved(tmp_path, compact(), "x.safetensors")
    decoder = load_decoder(f"spandrel:{path}")
    assert decoder.info.reduction.name == "bicubic" and decoder.info.reduction.anchor == "centre"
    other = load_decoder(f"spandrel:{path}?reads=gaussian")
    assert other.info.reads == "gaussian" and other.info.name == "spandrel:x.safetensors?reads=gaussian"
    with pytest.raises(UsageError, match="not wavelet low bands"):
        load_decoder(f"spandrel:{path}?reads=wavelet")
    with pytest.raises(UnknownNameError, match="did you mean bicubic"):
        load_decoder(f"spandrel:{path}?reads=bicubik")


def test_spandrel_is_imported_beside_any_torch() -> None:
    """In a process of its own, where nobody has declared torchvision's operators."""
    code = (
        "from nsbgan_infer.torch_operators import import_beside_torch as i; print(i('spandrel', 'spandrel', 'x', 'X'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "module 'spandrel'" in done.stdout, done.stderr


def test_wrong_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="No such file"):
        load_foreign(tmp_path / "none.pth")
    with pytest.raises(CheckpointError, match=r"\.safetensors or \.pth file, not 'x\.pt'"):
        load_foreign(tmp_path / "x.pt")


def test_without_spandrel_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spandrel", None)  # as if it were not installed
    with pytest.raises(MissingExtraError, match=r"nsbgan-infer\[upscalers\]"):
        load_foreign(tmp_path / "x.pth")
