"""Property: whatever bytes an old checkpoint holds, converting works or gives one clear sentence and no file."""

from __future__ import annotations

import io
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nsbgan_infer.convert import convert_checkpoint
from nsbgan_infer.decoders.srresnet import SRResNet, SRResNetConfig
from nsbgan_infer.errors import NsbError
from nsbgan_infer.storage.components import load_component


@pytest.fixture(scope="module", params=[True, False], ids=["zip", "legacy"])
def original(request: pytest.FixtureRequest) -> bytes:
    buffer = io.BytesIO()
    state = SRResNet(SRResNetConfig(blocks=1, channels=2, basis="pixel")).state_dict()
    torch.save({"params": state}, buffer, _use_new_zipfile_serialization=request.param)
    return buffer.getvalue()


def convert_bytes(data: bytes) -> None:
    with TemporaryDirectory() as folder:
        source, out = Path(folder) / "x.pth", Path(folder) / "out.safetensors"
        source.write_bytes(data)
        try:
            convert_checkpoint(source, out)
        except NsbError as error:
            assert error.exit_code == 2 and str(error)
            assert list(Path(folder).iterdir()) == [source]
        else:
            load_component(out, kind="decoder")


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_mutated_bytes(original: bytes, data: st.DataObject) -> None:
    mutated = bytearray(original)
    for _ in range(data.draw(st.integers(1, 6))):
        mutated[data.draw(st.integers(0, len(original) - 1))] = data.draw(st.integers(0, 255))
    convert_bytes(bytes(mutated))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_cut_files(original: bytes, data: st.DataObject) -> None:
    convert_bytes(original[: data.draw(st.integers(0, len(original) - 1))])


@settings(max_examples=80, deadline=None)
@given(st.binary(max_size=40).map(lambda b: b"\x80\x02" + b + b".") | st.binary(max_size=40))
def test_any_bytes(content: bytes) -> None:
    convert_bytes(content)
