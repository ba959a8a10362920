"""Components on disk: what is saved comes back, and whatever is wrong with a file becomes one sentence."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from nsbgan_infer.errors import CheckpointError, UnknownNameError, UsageError, WorkError
from nsbgan_infer.samplers.stylegan2 import StyleGAN2, StyleGAN2Config
from nsbgan_infer.storage import components
from nsbgan_infer.storage.architectures import all_architectures
from nsbgan_infer.storage.components import (
    CONFIG_KEY,
    Component,
    build_component,
    component_config,
    empty_weights,
    load_component,
    parse_config,
    read_tensors,
    save_component,
    weights_sha256,
)

CONFIG = StyleGAN2Config(channels=(6, 4), style_dim=8, mapping_layers=2, licence="CC0-1.0")


@pytest.fixture
def component() -> Component:
    torch.manual_seed(0)
    return StyleGAN2(CONFIG)


@pytest.fixture(params=["folder", "file"])
def saved(request: pytest.FixtureRequest, component: Component, tmp_path: Path) -> Path:
    path = tmp_path / ("part" if request.param == "folder" else "part.safetensors")
    save_component(component, path)
    return path


def rewrite(path: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    """Save the tensors of a component again after `change`, with the same header."""
    file = path / "model.safetensors" if path.is_dir() else path
    tensors = {k: v.clone() for k, v in load_file(file).items()}
    change(tensors)
    save_file(tensors, file, metadata={CONFIG_KEY: json.dumps(component_config(StyleGAN2(CONFIG)))})


def test_what_is_saved_comes_back(saved: Path, component: Component) -> None:
    loaded = load_component(saved, kind="sampler")
    assert loaded.config == CONFIG and isinstance(loaded, StyleGAN2)
    assert list(loaded.state_dict()) == list(component.state_dict())
    assert all(torch.equal(v, component.state_dict()[k]) for k, v in loaded.state_dict().items())
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())
    assert not any(p.is_meta for p in loaded.state_dict().values())


def test_half_precision_is_stored_and_read_as_fp32(component: Component, tmp_path: Path) -> None:
    file = save_component(component, tmp_path / "half.safetensors", dtype=torch.float16, info={"trained_on": "nothing"})
    assert {v.dtype for v in load_file(file).values()} == {torch.float16}
    loaded = load_component(file)
    for name, value in loaded.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, component.state_dict()[name].half().float())
    assert components.read_header(file)["__metadata__"]["trained_on"] == "nothing"


def test_a_weight_that_half_precision_cannot_hold_is_refused(component: StyleGAN2, tmp_path: Path) -> None:
    with torch.no_grad():
        component.const[0, 0, 0, 0] = 1e6
    with pytest.raises(UsageError, match="const has numbers"):
        save_component(component, tmp_path / "half.safetensors", dtype=torch.float16)
    assert list(tmp_path.iterdir()) == []
    save_component(component, tmp_path / "half.safetensors", dtype=torch.bfloat16)


def test_info_cannot_replace_the_configuration(component: Component, tmp_path: Path) -> None:
    file = save_component(component, tmp_path / "a.safetensors", info={CONFIG_KEY: "{}"})
    assert load_component(file).config == CONFIG


def test_the_checksum_is_that_of_the_file(saved: Path, component: Component) -> None:
    import hashlib

    loaded = load_component(saved)
    file = saved / "model.safetensors" if saved.is_dir() else saved
    assert weights_sha256(loaded) == hashlib.sha256(file.read_bytes()).hexdigest()
    assert weights_sha256(component) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("const"), "missing const"),
        (lambda t: t.update(extra=torch.zeros(1)), "unexpected extra"),
        (lambda t: t.update(const=torch.zeros(1, 6, 4, 5)), r"const is \[1, 6, 4, 5\] instead of \[1, 6, 4, 4\]"),
        (lambda t: t.update(const=torch.zeros(1, 6, 4, 4, dtype=torch.int64)), "const holds I64 numbers"),
        (lambda t: t.update(const=torch.zeros(1, 6, 4, 4, dtype=torch.complex64)), "const holds C64 numbers"),
    ],
)
def test_names_shapes_and_kinds_must_fit(saved: Path, change: Callable[..., None], message: str) -> None:
    rewrite(saved, change)
    with pytest.raises(CheckpointError, match=message):
        load_component(saved)


def test_the_first_five_differences_are_listed_and_the_rest_counted(saved: Path) -> None:
    rewrite(saved, lambda t: t.update({f"extra{i}": torch.zeros(1) for i in range(9)}))
    with pytest.raises(CheckpointError) as caught:
        load_component(saved)
    assert "; ".join(f"unexpected extra{i}" for i in range(5)) + " and 4 more" in str(caught.value)


def test_another_kind_is_refused_whatever_the_file_says(saved: Path) -> None:
    with pytest.raises(CheckpointError, match="is a sampler, but a decoder is wanted here"):
        load_component(saved, kind="decoder")
    if saved.is_dir():
        config = json.loads((saved / "config.json").read_text())
        (saved / "config.json").write_text(json.dumps(config | {"kind": "decoder"}))
        with pytest.raises(CheckpointError):
            load_component(saved, kind="decoder")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chanels": [6, 4]}, "Unknown setting in .*config.json 'chanels': did you mean channels?"),
        ({"channels": "wide"}, "gives channels as 'wide'"),
        ({"channels": [6, "4"]}, "gives channels as"),
        ({"channels": [6, 4.0]}, "gives channels as"),
        ({"style_dim": True}, "gives style_dim as 'True'"),
        ({"style_dim": 10**12}, "gives style_dim as '1000000000000'"),
        ({"truncation": None}, "gives truncation as 'None'"),
        ({"truncation": float("nan")}, "gives truncation as 'nan'"),
        ({"channels": []}, "does not describe a StyleGAN2Config: channels holds"),
        ({"channels": [6, 5]}, "do not fit their configuration"),
        ({"licence": "other"}, "the folder was changed or only half written"),
    ],
)
def test_configurations_are_checked(
    component: Component, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    save_component(component, tmp_path / "part")
    config = component_config(component) | change
    (tmp_path / "part" / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=message):
        load_component(tmp_path / "part")


def test_an_unknown_architecture_names_the_near_one() -> None:
    with pytest.raises(UnknownNameError, match="Unknown architecture 'stylegan3': did you mean stylegan2"):
        build_component({"arch": "stylegan3"})
    with pytest.raises(UnknownNameError, match="Unknown architecture 'None'"):
        build_component({})


def test_every_architecture_is_built_without_memory() -> None:
    for arch, cls in all_architectures().items():
        with empty_weights():
            component = cls(cls.tiny)
        assert component.arch == arch and component.kind in ("sampler", "decoder", "inverter")
        assert all(v.is_meta for v in component.state_dict().values())
        assert all(b.is_meta for b in component.buffers())
        again = parse_config(type(component).Config, _through_json(component), where="here")
        assert again == component.config


def test_building_without_weights_does_not_import_the_compiler() -> None:
    script = """
import sys
from nsbgan_infer.storage.architectures import all_architectures
from nsbgan_infer.storage.components import empty_weights
with empty_weights():
    for cls in all_architectures().values():
        cls(cls.tiny)
print(*(m for m in ("torch._dynamo", "sympy", "torchvision", "scipy", "matplotlib") if m in sys.modules))
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""


def _through_json(component: Component) -> dict[str, object]:
    values = json.loads(json.dumps(component_config(component)))
    return {k: v for k, v in values.items() if k not in ("kind", "arch")}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a safetensors file"),
        (b"abc", "is not a safetensors file"),
        (struct.pack("<Q", 2**62) + b"{}", "is not a safetensors file"),
        (struct.pack("<Q", 2) + b"[]", "damaged"),
        (struct.pack("<Q", 2) + b"{}", "carries no nsbgan configuration"),
        (struct.pack("<Q", 3) + b"{a}", "damaged"),
        (struct.pack("<Q", 30_000) + b'{"a":' + b"[" * 29_995, "damaged"),
        (struct.pack("<Q", 4) + b"\xff\xfe{}", "damaged"),
    ],
)
def test_what_is_no_safetensors_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "x.safetensors"
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        load_component(file)


def test_a_name_that_occurs_twice_in_the_header_gives_no_traceback(component: Component, tmp_path: Path) -> None:
    file = save_component(component, tmp_path / "x.safetensors")
    data = file.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    twin = b'"const":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
    text = data[8 : 8 + length].rstrip()[:-1] + b"," + twin[:-1] + b"}"
    file.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])
    with pytest.raises(CheckpointError):
        load_component(file)


def test_a_truncated_file_is_damaged(saved: Path) -> None:
    file = saved / "model.safetensors" if saved.is_dir() else saved
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(CheckpointError, match="damaged"):
        load_component(saved)


def test_missing_files_are_named(component: Component, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"No such weights: .*nowhere"):
        load_component(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"empty is not a saved component: it holds no model\.safetensors"):
        load_component(tmp_path / "empty")
    save_component(component, tmp_path / "part")
    (tmp_path / "part" / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"Cannot read .*config\.json"):
        load_component(tmp_path / "part")


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), SafetensorError("I/O error")])
def test_a_save_that_fails_leaves_the_old_one(
    saved: Path, component: StyleGAN2, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    before = {p: p.read_bytes() for p in saved.parent.rglob("*") if p.is_file()}

    def fails(tensors: object, file: Path, metadata: object) -> None:
        file.write_bytes(b"half of it")
        raise failure

    monkeypatch.setattr(components, "save_file", fails)
    with torch.no_grad():
        component.const.add_(1)
    with pytest.raises(WorkError, match="Cannot write"):
        save_component(component, saved)
    assert {p: p.read_bytes() for p in saved.parent.rglob("*") if p.is_file()} == before


def test_a_component_can_be_saved_over_the_file_that_it_was_loaded_from(saved: Path) -> None:
    loaded = load_component(saved)
    save_component(loaded, saved, dtype=torch.float16)
    again = load_component(saved)
    assert all(torch.equal(v.half().float(), again.state_dict()[k]) for k, v in loaded.state_dict().items())


def test_a_file_in_the_way_of_the_folder_is_a_usage_error(component: Component, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(UsageError, match="Cannot write to the output folder"):
        save_component(component, tmp_path / "taken")
    assert (tmp_path / "taken").read_text() == "a file"


def test_large_tensors_lie_in_the_file_and_writing_to_one_leaves_it(tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    given = {"large": torch.rand(600, 500), "half": torch.rand(600, 500).half(), "small": torch.rand(3)}
    save_file(given, file)
    before = file.read_bytes()
    tensors = read_tensors(file)
    assert all(torch.equal(tensors[name], value.float()) for name, value in given.items())
    tensors["large"].zero_()
    assert file.read_bytes() == before and torch.equal(read_tensors(file)["large"], given["large"])


def test_kernels_are_read_in_the_order_of_eager_torch_and_not_copied_again(tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    given = {"three": torch.rand(40, 30, 3, 3), "one": torch.rand(40, 30, 1, 1), "flat": torch.rand(600, 500)}
    save_file(given, file)
    tensors = read_tensors(file, order=torch.channels_last)
    assert all(torch.equal(tensors[name], value) for name, value in given.items())
    for name in ("three", "one"):
        assert tensors[name].to(memory_format=torch.channels_last).data_ptr() == tensors[name].data_ptr()
        assert tensors[name].stride() != given[name].stride()
