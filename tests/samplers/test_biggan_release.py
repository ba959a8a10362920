"""Released checkpoints: fetched from a server on this machine, converted once, refused when anything is wrong."""

from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from local_server import LocalServer, serve
from safetensors import safe_open
from wheel_weights import random_biggan, random_inputs, wheel_config, wheel_model

from nsbgan_infer.errors import CheckpointError, OfflineError, UnknownNameError
from nsbgan_infer.latents import Latents
from nsbgan_infer.registry import load_sampler
from nsbgan_infer.samplers.biggan import BigGANConfig, BigGANDeep, with_hf_compat
from nsbgan_infer.samplers.biggan_checkpoint import convert_biggan, wheel_shapes
from nsbgan_infer.samplers.biggan_fetch import fetch_released, load_released
from nsbgan_infer.samplers.biggan_release import (
    TENSOR_BYTES,
    can_fetch,
    converted_folder,
    is_cached,
    is_wheel_layout,
    release,
)
from nsbgan_infer.storage import hub

COVERS = ["samplers.biggan_checkpoint", "samplers.biggan_fetch"]

NARROW = 8
NAME = "biggan-deep-128"
PATH = f"/{NAME}-pytorch_model.bin"


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return random_biggan(128, NARROW)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, state: dict[str, torch.Tensor]) -> Path:
    """A narrow checkpoint in the released layout and in the file format of its time."""
    file = tmp_path_factory.mktemp("wheel") / "pytorch_model.bin"
    torch.save(state, file, _use_new_zipfile_serialization=False)
    return file


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch, checkpoint: Path) -> Iterator[LocalServer]:
    with serve() as server:
        monkeypatch.setenv("NSBGAN_BIGGAN_URL", server.url + "/")
        server.put(PATH, checkpoint)
        yield server
    hub.set_offline(False)


def draws_as_the_wheel(sampler: Any, state: dict[str, torch.Tensor], resolution: int, channel_width: int) -> None:
    assert isinstance(sampler, BigGANDeep)
    wheel = wheel_model(resolution, channel_width)
    wheel.load_state_dict(state)
    z, y = random_inputs(1, seed=5)
    with torch.no_grad():
        wanted = (wheel.eval()(0.405 * z, y, 0.405) + 1) / 2
    got = with_hf_compat(sampler)(Latents(0.405 * z, y, (0,), 0.405, "scale"))
    assert (got - wanted).abs().max() <= 5e-5 and wanted.std() > 0.05


def files_in(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def refusal(call: Callable[[], object], error: type[Exception] = CheckpointError) -> str:
    with pytest.raises(error) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text and "Traceback" not in text and "weights_only" not in text and text.endswith(".")
    return text


def test_fetched_converted_once_and_loaded_offline_after(
    mirror: LocalServer, private_cache: Path, state: dict[str, torch.Tensor], checkpoint: Path
) -> None:
    assert not is_cached(NAME) and can_fetch(NAME)
    mirror.requests.clear()
    draws_as_the_wheel(load_released(NAME), state, 128, NARROW)
    assert mirror.requests == [f"GET {PATH}"]
    kept = [f"converted/{NAME}/config.json", f"converted/{NAME}/model.safetensors", "recorded.json"]
    assert files_in(private_cache) == kept
    with safe_open(converted_folder(NAME) / "model.safetensors", "pt") as file:
        assert file.metadata()["source_sha256"] == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert is_cached(NAME) and release(NAME).cached
    hub.set_offline()
    draws_as_the_wheel(load_sampler(NAME), state, 128, NARROW)
    assert load_released(NAME, hf_compat=True).config.hf_compat
    assert len(mirror.requests) == 1


def test_the_first_checksum_is_recorded_and_compared_afterwards(
    mirror: LocalServer, private_cache: Path, checkpoint: Path
) -> None:
    folder = fetch_released(NAME)
    assert release(NAME).sha256 == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    for file in folder.iterdir():
        file.unlink()
    mirror.put(PATH, checkpoint.read_bytes() + b"\0")
    assert "SHA-256" in refusal(lambda: fetch_released(NAME))
    assert files_in(private_cache) == ["recorded.json"]
    mirror.put(PATH, checkpoint)
    assert fetch_released(NAME) == folder and is_cached(NAME)


def test_the_known_checksum_holds_for_mirrors_too(mirror: LocalServer, private_cache: Path, checkpoint: Path) -> None:
    mirror.put("/biggan-deep-256-pytorch_model.bin", checkpoint)
    assert "234,411,737" in refusal(lambda: fetch_released("biggan-deep-256"))
    assert files_in(private_cache) == []


def test_a_checksum_of_the_mirror(
    mirror: LocalServer, monkeypatch: pytest.MonkeyPatch, private_cache: Path, checkpoint: Path
) -> None:
    monkeypatch.setenv("NSBGAN_BIGGAN_SHA256", "0" * 64)
    assert "SHA-256" in refusal(lambda: fetch_released(NAME))
    assert files_in(private_cache) == []
    monkeypatch.setenv("NSBGAN_BIGGAN_SHA256", hashlib.sha256(checkpoint.read_bytes()).hexdigest())
    assert fetch_released(NAME).is_dir()


class _Malicious:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.file}",)


def _spoil(kind: str, state: dict[str, torch.Tensor], folder: Path) -> Path:
    spoilt: dict[str, Any] = {k: v.clone() for k, v in state.items()}
    name = "generator.layers.3.conv_1.bias"
    if kind == "missing":
        del spoilt[name]
    elif kind == "unexpected":
        spoilt["generator.extra"] = torch.zeros(1)
    elif kind == "shape":
        spoilt[name] = spoilt[name][:-1]
    elif kind == "malicious":
        spoilt[name] = _Malicious(folder / "touched")
    elif kind == "not finite":
        spoilt[name] = spoilt[name] * math.nan
    elif kind == "integers":
        spoilt[name] = spoilt[name].long()
    elif kind == "spectral norm":
        spoilt["generator.layers.3.conv_1.weight_u"] *= 0
    elif kind == "no state dict":
        spoilt = {"answer": 42}
    elif kind == "other network":
        spoilt = {"conv.weight": torch.zeros(1)}
    file = folder / "spoilt.bin"
    torch.save(spoilt, file)
    if kind == "truncated":
        file.write_bytes(file.read_bytes()[:-20_000])
    if kind == "empty":
        file.write_bytes(b"")
    return file


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("truncated", "damaged"),
        ("empty", "damaged"),
        ("missing", "missing generator.layers.3.conv_1.bias"),
        ("unexpected", "unexpected generator.extra"),
        ("shape", "instead of"),
        ("malicious", "refused"),
        ("not finite", "does not draw"),
        ("spectral norm", "does not draw"),
        ("no state dict", "state dict"),
        ("other network", "not a checkpoint of pytorch-pretrained-biggan"),
    ],
)
def test_what_is_wrong_is_refused_by_every_entrance_and_leaves_nothing(
    kind: str,
    says: str,
    mirror: LocalServer,
    private_cache: Path,
    tmp_path: Path,
    state: dict[str, torch.Tensor],
) -> None:
    file = _spoil(kind, state, tmp_path)
    mirror.put(PATH, file)
    assert says in refusal(lambda: load_released(NAME))
    assert says in refusal(lambda: load_sampler(str(file)))
    assert says in refusal(lambda: convert_biggan(file, tmp_path / "out"))
    assert files_in(private_cache) == [] and files_in(tmp_path) == ["spoilt.bin"]


def test_another_resolution_than_its_name(mirror: LocalServer, private_cache: Path, checkpoint: Path) -> None:
    mirror.put("/biggan-deep-512-pytorch_model.bin", checkpoint)
    assert "is a biggan-deep-128" in refusal(lambda: load_released("biggan-deep-512"))
    assert files_in(private_cache) == []


def test_no_network_and_nothing_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve() as gone:
        monkeypatch.setenv("NSBGAN_BIGGAN_URL", gone.url)
    assert not can_fetch(NAME)
    text = refusal(lambda: load_released(NAME), OfflineError)
    assert "nsbgan convert FILE" in text and str(converted_folder(NAME)) in text


def test_a_file_converted_into_the_cache_serves_the_name(checkpoint: Path, state: dict[str, torch.Tensor]) -> None:
    hub.set_offline()
    try:
        convert_biggan(checkpoint, converted_folder(NAME))
        draws_as_the_wheel(load_sampler(NAME), state, 128, NARROW)
    finally:
        hub.set_offline(False)


def test_a_damaged_conversion_says_what_to_delete(mirror: LocalServer) -> None:
    folder = fetch_released(NAME)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert f"delete {folder}" in refusal(lambda: load_released(NAME))


def test_a_file_or_a_folder_of_the_wheel_is_a_sampler(
    tmp_path: Path, checkpoint: Path, state: dict[str, torch.Tensor], private_cache: Path
) -> None:
    draws_as_the_wheel(load_sampler(str(checkpoint)), state, 128, NARROW)
    folder = tmp_path / "wheel"
    folder.mkdir()
    (folder / "pytorch_model.bin").write_bytes(checkpoint.read_bytes())
    (folder / "config.json").write_text(json.dumps(wheel_config(128, NARROW) | {"something": "else"}))
    assert is_wheel_layout(folder)
    draws_as_the_wheel(load_sampler(str(folder)), state, 128, NARROW)
    assert len(files_in(private_cache)) == 2, "the same content is converted once"
    assert "No such weights" in refusal(lambda: load_sampler(str(tmp_path / "absent.bin")))


def test_a_repository_in_the_wheel_s_layout(
    monkeypatch: pytest.MonkeyPatch, checkpoint: Path, state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    settings = json.dumps(wheel_config(128, NARROW)).encode()
    own = convert_biggan(checkpoint, tmp_path / "own")
    with serve() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        files = {"config.json": settings, "pytorch_model.bin": checkpoint.read_bytes(), "modeling.py": b"evil"}
        server.put_repo("someone/wheel", files)
        server.put_repo("someone/own", {p.name: p.read_bytes() for p in own.parent.iterdir()})
        draws_as_the_wheel(load_sampler("hf://someone/wheel"), state, 128, NARROW)
        draws_as_the_wheel(load_sampler("hf://someone/own"), state, 128, NARROW)
        assert not any("modeling.py" in request for request in server.requests)
    draws_as_the_wheel(load_sampler("hf://someone/wheel"), state, 128, NARROW)


@pytest.mark.parametrize(
    ("change", "says"),
    [({"output_dim": 256}, "output_dim"), ({"layers": []}, "layers"), ({"channel_width": 128}, "channel_width"),
     ({"eps": "small"}, "eps"), ({"eps": 0.3}, None), ({}, None)],
)  # fmt: skip
def test_settings_beside_the_weights(
    tmp_path: Path, checkpoint: Path, change: dict[str, Any], says: str | None
) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(checkpoint.read_bytes())
    (tmp_path / "config.json").write_text(json.dumps(change))  # other fields may be missing
    if says:
        assert says in refusal(lambda: convert_biggan(tmp_path, tmp_path / "out"))
        return
    convert_biggan(tmp_path, tmp_path / "out")
    sampler = load_sampler(str(tmp_path / "out"))
    assert isinstance(sampler, BigGANDeep) and sampler.config.eps == change.get("eps", 1e-4)


def test_facts_for_lists_and_plans() -> None:
    for resolution in (128, 256, 512):
        facts = release(f"biggan-deep-{resolution}")
        shapes = wheel_shapes(BigGANConfig(resolution=resolution))
        assert 4 * sum(math.prod(s) for s in shapes.values()) == TENSOR_BYTES[facts.name]
        assert facts.size == pytest.approx(TENSOR_BYTES[facts.name], rel=1e-3)
        assert facts.url.startswith("https://s3.amazonaws.com/") and not facts.cached and facts.licence
    assert release("biggan-deep-256").size == 234_411_737
    with pytest.raises(UnknownNameError, match="biggan-deep-256"):
        release("biggan-deep-255")


def test_facts_do_not_import_torch() -> None:
    code = (
        "import sys; from nsbgan_infer.samplers.biggan_release import release; release('biggan-deep-128')\n"
        "print([m for m in ('torch', 'huggingface_hub', 'pytorch_pretrained_biggan') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_loading_from_the_cache_does_not_import_the_wheel(checkpoint: Path) -> None:
    convert_biggan(checkpoint, converted_folder(NAME))
    code = (
        f"import sys; from nsbgan_infer.registry import load_sampler; load_sampler('{NAME}')\n"
        "print([m for m in ('scipy', 'huggingface_hub', 'pytorch_pretrained_biggan') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


@pytest.mark.slow
def test_a_full_size_checkpoint(
    mirror: LocalServer, monkeypatch: pytest.MonkeyPatch, private_cache: Path, tmp_path: Path
) -> None:
    state = random_biggan(256)
    file = tmp_path / "biggan-deep-256-pytorch_model.bin"
    torch.save(state, file, _use_new_zipfile_serialization=False)
    assert file.stat().st_size == pytest.approx(234_411_737, rel=1e-3)
    mirror.put(f"/{file.name}", file)
    refusal(lambda: load_released("biggan-deep-256"))  # random weights are not the released ones
    monkeypatch.setenv("NSBGAN_BIGGAN_SHA256", hashlib.sha256(file.read_bytes()).hexdigest())
    fetch_released("biggan-deep-256")
    hub.set_offline()
    draws_as_the_wheel(load_sampler("biggan-deep-256"), state, 256, 128)
    assert files_in(private_cache / "converted") == ["biggan-deep-256/config.json", "biggan-deep-256/model.safetensors"]
    assert mirror.requests == [f"GET /{file.name}"] * 2
