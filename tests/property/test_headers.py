"""Property: whatever bytes a weights file or its configuration holds, loading works or gives one clear sentence."""

from __future__ import annotations

import json
import struct
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nsbgan_infer.errors import CheckpointError, NsbError, UnknownNameError
from nsbgan_infer.samplers.stylegan2 import StyleGAN2, StyleGAN2Config
from nsbgan_infer.storage.components import component_config, load_component, parse_config, save_component
from nsbgan_infer.storage.files import read_json

CONFIG = StyleGAN2Config(channels=(2,), style_dim=2, mapping_layers=1)


@pytest.fixture(scope="module")
def original() -> bytes:
    torch.manual_seed(0)
    with TemporaryDirectory() as folder:
        return save_component(StyleGAN2(CONFIG), Path(folder) / "x.safetensors").read_bytes()


def load_bytes(data: bytes) -> None:
    """Load `data` as a file; anything but success or an NsbError of one line fails the test."""
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("error")
        file = Path(folder) / "x.safetensors"
        file.write_bytes(data)
        try:
            load_component(file)
        except NsbError as error:
            assert isinstance(error, CheckpointError | UnknownNameError)
            assert str(error).strip() and len(str(error).splitlines()) == 1


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_mutated_bytes_of_the_header(original: bytes, data: st.DataObject) -> None:
    length = struct.unpack("<Q", original[:8])[0]
    mutated = bytearray(original)
    for _ in range(data.draw(st.integers(1, 4))):
        mutated[data.draw(st.integers(0, 7 + length))] = data.draw(st.integers(0, 255))
    load_bytes(bytes(mutated))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_cut_and_grown_files(original: bytes, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(original) - 1))
    load_bytes(original[:cut] + data.draw(st.binary(max_size=20)) + original[cut + data.draw(st.integers(0, 20)) :])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_headers_with_other_values(original: bytes, data: st.DataObject) -> None:
    length = struct.unpack("<Q", original[:8])[0]
    header = json.loads(original[8 : 8 + length])
    target = header[data.draw(st.sampled_from(sorted(header)))]
    target[data.draw(st.sampled_from(sorted(target)))] = data.draw(JSON)
    text = json.dumps(header).encode()
    load_bytes(struct.pack("<Q", len(text)) + text + original[8 + length :])


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_configurations_with_other_values(original: bytes, data: st.DataObject) -> None:
    length = struct.unpack("<Q", original[:8])[0]
    header = json.loads(original[8 : 8 + length])
    config = component_config(StyleGAN2(CONFIG))
    config[data.draw(st.sampled_from([*sorted(config), "other"]))] = data.draw(JSON)
    header["__metadata__"]["nsbgan_config"] = json.dumps(config)
    text = json.dumps(header).encode()
    load_bytes(struct.pack("<Q", len(text)) + text + original[8 + length :])


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_as_json(content: bytes) -> None:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "config.json"
        file.write_bytes(content)
        try:
            assert isinstance(read_json(file), dict)
        except CheckpointError as error:
            assert str(file) in str(error)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 64), min_size=1, max_size=6),
    st.integers(1, 32),
    st.integers(1, 8),
    st.floats(0.01, 1),
    st.text(max_size=20),
)
def test_a_configuration_survives_json(widths: list[int], dim: int, depth: int, psi: float, licence: str) -> None:
    config = StyleGAN2Config(tuple(widths), dim, depth, psi, licence)
    values = json.loads(json.dumps(config.__dict__))
    assert parse_config(StyleGAN2Config, values, where="here") == config
