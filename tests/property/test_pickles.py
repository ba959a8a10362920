"""Property: whatever is done to the bytes of a pickled network, it is read or refused, and nothing runs."""

from __future__ import annotations

import io
import pickletools
import tracemalloc
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peer_files import whole_network

from nsbgan_infer.errors import CheckpointError
from nsbgan_infer.storage.stored import Stub
from nsbgan_infer.storage.torch_files import module_tensors, open_tensor, read_torch_file

STATE = {"a.weight": torch.ones(2, 3), "a.b.bias": torch.ones(4), "a.counter": torch.tensor(7)}
BOUND = 96 << 20  # bytes that reading a file of some kilobytes may take


def legacy() -> bytes:
    buffer = io.BytesIO()
    torch.save({"g_ema": STATE, "step": 3}, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def zipped() -> bytes:
    buffer = io.BytesIO()
    torch.save({"g_ema": STATE, "step": 3}, buffer)
    return buffer.getvalue()


@pytest.fixture(
    scope="module",
    params=[
        lambda: whole_network(STATE, persistent=True),
        lambda: whole_network(STATE, persistent=False, protocol=2),
        legacy,
        zipped,
    ],
    ids=["persistent", "plain", "legacy", "zip"],
)
def original(request: pytest.FixtureRequest) -> bytes:
    content: bytes = request.param()
    return content


CODES = [op.code.encode("latin1") for op in pickletools.opcodes]
INJECTED = [
    *CODES,
    b"cos\nsystem\n(S'touch it-ran'\ntR",
    b"c__builtin__\neval\n(S\"open('it-ran','w')\"\ntR",
    b"cbuiltins\nopen\n(S'it-ran'\nS'w'\ntR",
    b"cposix\nsystem\nX\x0c\x00\x00\x00touch it-ran\x85R",
    b"(S'touch it-ran'\nios\nsystem\n",
    b"\x8e\xff\xff\xff\xff\xff\x00\x00\x00",
    b"r\xff\xff\xff\x7f",
    b"2" * 5000,
    b"]" * 5000,
]


def read_bytes(content: bytes) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "x.pkl"
        path.write_bytes(content)
        tracemalloc.start()
        try:
            value = read_torch_file(path)
            for part in list(value.values()) if isinstance(value, dict) else []:
                open_tensor(part)
                if isinstance(part, Stub):
                    module_tensors(part)
        except CheckpointError as error:
            assert str(error) and "Traceback" not in str(error)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < BOUND
        assert [p.name for p in Path(folder).iterdir()] == ["x.pkl"]
    assert not Path("it-ran").exists()


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_flipped_bytes(original: bytes, data: st.DataObject) -> None:
    mutated = bytearray(original)
    for _ in range(data.draw(st.integers(1, 5))):
        mutated[data.draw(st.integers(0, len(original) - 1))] = data.draw(st.integers(0, 255))
    read_bytes(bytes(mutated))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_injected_instructions(original: bytes, data: st.DataObject) -> None:
    content = original
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content) - 1))
        content = content[:at] + data.draw(st.sampled_from(INJECTED)) + content[at:]
    read_bytes(content)


@pytest.mark.parametrize("name", ["stylegan2-ada-cond-32/snapshot_without_source", "r3gan-imagenet64/snapshot_small"])
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_snapshots_of_their_own_programs(shared_data: Path, name: str, data: st.DataObject) -> None:
    file = shared_data / "parity" / f"{name}.pkl"
    if not file.is_file():
        pytest.skip(f"no {file}")
    content = bytearray(file.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    at = data.draw(st.integers(0, len(content)))
    read_bytes(bytes(content[:at]) + data.draw(st.sampled_from([b"", *INJECTED])) + bytes(content[at:]))


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_cut_and_doubled(original: bytes, data: st.DataObject) -> None:
    start, end = sorted(data.draw(st.tuples(*[st.integers(0, len(original))] * 2)))
    read_bytes(original[:start] + original[end:])
    read_bytes(original[:end] + original[start:])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(INJECTED) | st.binary(max_size=4), max_size=60))
def test_random_programs(parts: list[bytes]) -> None:
    read_bytes(b"\x80\x04" + b"".join(parts) + b".")
