"""Files of torch and whole pickled networks are read as data: every form, every bound, every name listed."""

from __future__ import annotations

import argparse
import io
import os
import pickle
import struct
import zipfile
from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import pytest
import torch
from peer_files import whole_network
from safetensors.torch import load_file
from torch import Tensor

from nsbgan_infer.errors import CheckpointError
from nsbgan_infer.storage import stored
from nsbgan_infer.storage.stored import Stub
from nsbgan_infer.storage.torch_files import module_attributes, module_tensors, open_tensor, read_torch_file

COVERS = ["storage.stored", "storage.pickles"]

STATE = {"a.weight": torch.arange(6.0).view(2, 3), "a.inner.bias": torch.ones(4), "a.steps": torch.tensor(7)}


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def saved(value: Any, *, new: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=new)
    return buffer.getvalue()


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize(
    "dtype",
    [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.uint8, torch.bool],
)
def test_tensors_of_every_kind(tmp_path: Path, new: bool, dtype: torch.dtype) -> None:
    whole = (torch.arange(24).view(4, 6) % 2 if dtype == torch.bool else torch.arange(24).view(4, 6)).to(dtype)
    value = {"whole": whole, "view": whole[1:, ::2], "turned": whole.t(), "none": whole[:0], "one": whole[2, 3]}
    read = read_torch_file(write(tmp_path / "x.pth", saved(value, new=new)))
    for name, tensor in value.items():
        opened = open_tensor(read[name])
        assert opened.dtype == dtype and opened.shape == tensor.shape and torch.equal(opened, tensor), name


@pytest.mark.parametrize("new", [True, False])
def test_what_training_files_hold_beside_tensors(tmp_path: Path, new: bool) -> None:
    args = argparse.Namespace(size=256, path="data", betas=(0.0, 0.99), out=Path("runs"))
    optimiser = torch.optim.Adam([torch.nn.Parameter(torch.ones(3))])
    value = {"args": args, "optim": optimiser.state_dict(), "losses": [1.5, None, True], "names": {"a", "b"}}
    value |= {
        "table": OrderedDict(x=1),
        "counts": defaultdict(int, b=2),
        "size": torch.Size((2, 3)),
        "raw": b"\x00\xff",
    }
    value |= {"parameter": torch.nn.Parameter(torch.ones(2)), "dtype": torch.float16, "device": torch.device("cpu")}
    read = read_torch_file(write(tmp_path / "x.pt", saved(value, new=new)))
    assert read["args"].name == "argparse.Namespace" and read["args"].state["betas"] == (0.0, 0.99)
    assert read["optim"]["param_groups"][0]["lr"] == 1e-3 and read["losses"] == [1.5, None, True]
    assert read["names"] == {"a", "b"} and read["table"] == {"x": 1} and read["counts"].items == {"b": 2}
    assert read["size"] == (2, 3) and read["raw"] == b"\x00\xff"
    assert torch.equal(open_tensor(read["parameter"]), torch.ones(2))


@pytest.mark.parametrize("persistent", [True, False])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_whole_networks(tmp_path: Path, persistent: bool, protocol: int) -> None:
    content = whole_network(STATE, persistent=persistent, attributes={"clamp": 256}, protocol=protocol)
    read = read_torch_file(write(tmp_path / "x.pkl", content))
    tensors = module_tensors(read["G_ema"])
    assert tensors.keys() == STATE.keys() and all(torch.equal(v, STATE[k]) for k, v in tensors.items())
    assert module_attributes(read["G_ema"])["clamp"] == 256
    assert read["training_set_kwargs"].items["resolution"] == 32 and read["cur_nimg"] == 200


@pytest.mark.parametrize("name", ["stylegan2-ada-cond-32/snapshot_without_source", "r3gan-imagenet64/snapshot_small"])
def test_snapshots_of_their_own_programs(shared_data: Path, name: str) -> None:
    file = shared_data / "parity" / f"{name}.pkl"
    if not file.is_file():
        pytest.skip(f"no {file}")
    tensors = module_tensors(read_torch_file(file)["G_ema"])
    expected = load_file(file.parent / "weights.safetensors")
    assert tensors.keys() == expected.keys() and all(torch.equal(v, expected[k]) for k, v in tensors.items())


class Unlisted:
    """An object whose class is on neither list."""


class Calls:
    def __init__(self, function: Any, *args: Any) -> None:
        self.function, self.args = function, args

    def __reduce__(self) -> Any:
        return self.function, self.args


@pytest.mark.parametrize(
    "value",
    [
        Unlisted(),
        Calls(os.system, "true"),
        Calls(eval, "1"),
        Calls(getattr, "x", "y"),
        Calls(__import__, "os"),
        Calls(open, "x", "w"),
        Calls(bytearray, 1 << 40),
        Calls(torch.load, "x"),
        Calls(torch.hub.load, "x", "y"),
        Calls(torch.empty, (1 << 20, 1 << 20)),
        torch.nn.functional.relu,
        pickle.loads,
        os.environ.__class__,
    ],
)
@pytest.mark.parametrize("form", ["zip", "legacy", "plain", "in a network"])
def test_a_name_on_neither_list_refuses_the_file(tmp_path: Path, value: Any, form: str) -> None:
    if form == "plain":
        content = pickle.dumps({"x": value})
    elif form == "in a network":
        content = whole_network(STATE, persistent=True, attributes={"x": value})
    else:
        content = saved({"w": torch.ones(1), "x": value}, new=form == "zip")
    with pytest.raises(CheckpointError, match=r"refused, because it asks for [\w.]+: only tensors are read"):
        read_torch_file(write(tmp_path / "x.pth", content))
    assert list(tmp_path.iterdir()) == [tmp_path / "x.pth"]


def test_a_listed_name_is_remembered_and_never_called(tmp_path: Path) -> None:
    content = b"\x80\x02ctraining.networks\nGenerator\n(U\x04evilK\x07tR."
    read = read_torch_file(write(tmp_path / "x.pkl", content))
    assert isinstance(read, Stub) and (read.name, read.args) == ("training.networks.Generator", ("evil", 7))


def tensor_program(*, shape: bytes, offset: int = 0, stride: bytes = b"K\x01\x85") -> bytes:
    """A pickle that builds a tensor of `shape` on a storage of two numbers."""
    storage = saved(torch.zeros(2)._typed_storage(), new=False)
    bytes_ = b"B" + struct.pack("<I", len(storage)) + storage
    loaded = b"ctorch.storage\n_load_from_bytes\n" + bytes_ + b"\x85R"
    rest = b"K" + bytes([offset]) + shape + stride + b"\x89c" + b"collections\nOrderedDict\n)R"
    return b"\x80\x03ctorch._utils\n_rebuild_tensor_v2\n(" + loaded + rest + b"tR."


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"x.",  # bytes of a terabyte
        b"\x80\x04\x8d" + struct.pack("<Q", 1 << 62) + b"x.",  # text
        b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"x.",  # a byte array
        b"\x80\x02]r\xff\xff\xff\xff.",  # a memo of four thousand million places is a dict here: harmless, see below
        b"\x80\x02" + b"(" * 100_000 + b"t" * 99_999 + b"}" + b"\x8c\x01x" + b"s.",
        b"\x80\x02]" + b"2" * 1_000 + b"a" * 2_000 + b".",
        b"\x80\x02}" + b")" + b"\x85" * 1_000 + b"K\x01s.",  # a key of tuples within tuples
        b"\x80\x02K\x01(K\x02t0000.",
        b"\x80\x02\x8a\xff.",
        b"\x80\x02I" + b"9" * 5_000 + b"\n.",
        b"\x80\x02" + b"\x8f" * (stored.OPERATIONS + 1) + b".",
        b"(lp0\nI1\nb.",
        b"\x82\x01.",
        b"\x80\x02cos\nsystem\n\x85R.",
        b"P0\n.",
        b"(c__builtin__\neval\no.",
        b"(i__builtin__\neval\n.",
        b"\x80\x02Q.",
        tensor_program(shape=b"K\x03\x85"),
        tensor_program(shape=b"K\x02\x85", offset=200),
        tensor_program(shape=b"K\xff\x85", stride=b"J\xff\xff\xff\xff\x85"),
        tensor_program(shape=b"K\x02K\x02\x86"),
        tensor_program(shape=b"J\xff\xff\xff\x7f\x85", stride=b"K\x00\x85"),  # expanded to two thousand million
        tensor_program(shape=b"N"),
    ],
)
def test_damaged_and_greedy_programs(tmp_path: Path, content: bytes) -> None:
    path = write(tmp_path / "x.pkl", content)
    if content.startswith(b"\x80\x02]r"):
        assert read_torch_file(path) == []
        return
    with pytest.raises(CheckpointError):
        value = read_torch_file(path)
        open_tensor(value)


def test_expanded_tensors_within_the_bound_are_read(tmp_path: Path) -> None:
    row = torch.arange(3.0)
    read = read_torch_file(write(tmp_path / "x.pth", saved({"x": row.expand(1000, 3)})))
    assert torch.equal(open_tensor(read["x"]), row.expand(1000, 3))


def test_limits_of_size_and_of_instructions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "x.pth", saved({"x": torch.zeros(100)}))
    with pytest.raises(CheckpointError, match="the limit is 100"):
        read_torch_file(path, limit=100)
    with monkeypatch.context() as patch:
        patch.setattr(stored.Budget.__init__, "__defaults__", (10, 1 << 20))
        with pytest.raises(CheckpointError, match="more instructions"):
            read_torch_file(path)
    packed = tmp_path / "packed.pth"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for member in old.infolist():
            new.writestr(member.filename, old.read(member))
    with pytest.raises(CheckpointError, match="compressed"):
        read_torch_file(packed)


def test_missing_empty_and_foreign_files(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="Cannot read"):
        read_torch_file(tmp_path / "none.pth")
    with pytest.raises(CheckpointError, match="Cannot read"):
        read_torch_file(tmp_path)
    for content in (b"", b"PK\x03\x04", b"GIF89a", b"\x00" * 50):
        with pytest.raises(CheckpointError, match="damaged"):
            read_torch_file(write(tmp_path / "x.pth", content))


def test_a_network_that_holds_itself(tmp_path: Path) -> None:
    part = Stub("training.networks.Generator")
    part.state = {"_modules": {"again": part}}
    with pytest.raises(CheckpointError, match="holds itself"):
        module_tensors(part)


def test_big_endian_files_are_refused(tmp_path: Path) -> None:
    path, turned = write(tmp_path / "x.pth", saved({"x": torch.zeros(1)})), tmp_path / "y.pth"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(turned, "w") as new:
        for member in old.infolist():
            new.writestr(member.filename, b"big" if member.filename.endswith("byteorder") else old.read(member))
    with pytest.raises(CheckpointError, match="big-endian"):
        read_torch_file(turned)


def test_opening_costs_nothing_until_it_is_asked_for(tmp_path: Path) -> None:
    import tracemalloc

    path = write(tmp_path / "x.pth", saved({"x": torch.zeros(1 << 22)}))  # 16 MB
    tracemalloc.start()
    read = read_torch_file(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 << 20
    opened: Tensor = open_tensor(read["x"])
    assert opened.numel() == 1 << 22 and opened.data_ptr() % 64 == 0
