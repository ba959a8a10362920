"""Files of torch: what `torch.save` and `pickle.dump` wrote -> containers, numbers, texts, stubs and stored tensors.

Three forms: a zip archive (torch 1.6 and later), the older chain of five pickles with the numbers behind them, and a
plain pickle with such chains inside (StyleGAN2-ADA, R3GAN). The file is mapped, not read: a tensor costs nothing until
it is opened. `pickles` runs nothing that a file says.
"""

from __future__ import annotations

import mmap
import struct
import zipfile
from pathlib import Path
from typing import Any

from torch import Tensor

from nsbgan_infer.errors import CheckpointError
from nsbgan_infer.storage.pickles import Interpreter
from nsbgan_infer.storage.stored import (
    DESCRIBED,
    STORAGES,
    Budget,
    DamagedError,
    Named,
    RefusedNameError,
    StoredStorage,
    StoredTensor,
    Stub,
)

SIZE_LIMIT = 4 << 30  # bytes of a file
MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # of the older form
ZIPPED = b"PK\x03\x04"
NESTING = 2  # a plain pickle may hold files of the older form, these hold no more


def read_torch_file(source: Path, *, limit: int = SIZE_LIMIT) -> Any:
    """What a checkpoint file holds: dicts, lists, tuples, sets, numbers, texts, bytes, `Stub` and `StoredTensor`.

    The file must stay as it is while its tensors are in use. Raises CheckpointError for a file over `limit` bytes
    (packed or unpacked), a damaged one, and one that names anything but data and the networks that are known.
    """
    try:
        with source.open("rb") as file:
            size = file.seek(0, 2)
            if size > limit:
                raise CheckpointError(f"{source} holds {size:,} bytes and is refused: the limit is {limit:,}.")
            if not size:
                raise DamagedError("it is empty")
            mapped = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
        budget = Budget(described=4 * size + DESCRIBED)
        return _read_zip(source, mapped, budget, limit) if bytes(mapped[:4]) == ZIPPED else _read(mapped, budget, 0)
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointError(f"Cannot read {source}: {error.strerror or error}.") from error
    except RefusedNameError as error:
        raise refusal(source, str(error)) from error
    except Exception as error:  # a damaged file can make the decoder raise anything
        reason = (str(error).splitlines() or [""])[0][:200] or type(error).__name__
        raise CheckpointError(f"{source} is damaged or no checkpoint ({reason}): fetch it again.") from error


def refusal(source: Path, name: str) -> CheckpointError:
    """The error for a file that would need the object `name` to be made."""
    return CheckpointError(
        f"{source} is refused, because it asks for {name[:200]}: only tensors are read, never code. If you trust its "
        "maker, load it with its own program and save the state dict alone."
    )


def open_tensor(value: Any) -> Any:
    """A stored tensor opened; every other value as it is. Raises CheckpointError for one without its bytes."""
    if not isinstance(value, StoredTensor):
        return value
    try:
        return value.open()
    except (DamagedError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"The checkpoint is damaged ({error}): fetch it again.") from error


def module_tensors(module: Stub) -> dict[str, Tensor]:
    """The state dict of a network that was saved as a whole object: its parameters and buffers by dotted name.

    Raises CheckpointError if it is another kind of network.
    """
    found: dict[str, Tensor] = {}
    waiting: list[tuple[str, Any]] = [("", module)]
    while waiting:
        prefix, part = waiting.pop()
        if len(prefix) > 400 or len(waiting) + len(found) > 100_000:
            raise CheckpointError("The network in this checkpoint holds itself: the file is damaged.")
        state = module_attributes(part)
        skipped = state.get("_non_persistent_buffers_set") or ()
        for table in ("_parameters", "_buffers"):
            for name, value in _table(state, table).items():
                if isinstance(value, StoredTensor) and not (table == "_buffers" and name in skipped):
                    found[f"{prefix}{name}"] = open_tensor(value)
        waiting += [(f"{prefix}{k}.", m) for k, m in _table(state, "_modules").items() if isinstance(m, Stub)]
    return found


def module_attributes(module: Any) -> dict[Any, Any]:
    """The attributes of an object that was saved as a whole: plain, or by StyleGAN's own way of saving classes."""
    if not isinstance(module, Stub):
        return {}
    state = module.state
    if module.name.endswith("._reconstruct_persistent_obj") and module.args and isinstance(module.args[0], dict):
        state = module.args[0].get("state")
    return state if isinstance(state, dict) else {}


def _table(state: dict[Any, Any], name: str) -> dict[str, Any]:
    table = state.get(name)
    return {k: v for k, v in table.items() if isinstance(k, str)} if isinstance(table, dict) else {}


def _read(view: memoryview, budget: Budget, depth: int) -> Any:
    """A plain pickle, or the older form of torch, which begins with a number of its own."""
    if depth >= NESTING:
        raise DamagedError("it holds files within files")

    def nested(data: Any) -> Any:
        return _read(memoryview(data), budget, depth + 1)

    value, at = Interpreter(budget, None, nested).run(view)
    if type(value) is not int or value != MAGIC:
        return value
    for expected in (PROTOCOL, None):  # the protocol's number, and a table about the machine
        value, used = Interpreter(budget, None, nested).run(view[at:])
        at += used
        if expected is not None and value != expected:
            raise DamagedError("its format is unknown")
    if isinstance(value, dict) and value.get("little_endian") is False:
        raise DamagedError("its numbers are big-endian")
    storages: dict[str, StoredStorage] = {}
    value, used = Interpreter(budget, _finder(storages), nested).run(view[at:])
    at += used
    keys, used = Interpreter(budget, None, nested).run(view[at:])
    at += used
    for key in keys:
        storage = storages[key]
        size = storage.count * storage.dtype.itemsize
        if int.from_bytes(view[at : at + 8], "little") != storage.count or len(view) - at - 8 < size:
            raise DamagedError("numbers are missing")
        storage.view = view[at + 8 : at + 8 + size]
        at += 8 + size
    return value


def _finder(storages: dict[str, StoredStorage]) -> Any:
    """Look up persistent ids; each key has one storage, whose bytes are found later."""

    def find(given: Any) -> StoredStorage:
        kind, key, count = _persistent(given)
        storage = storages.setdefault(key, StoredStorage(kind, count))
        if (storage.dtype, storage.count) != (kind, count):
            raise DamagedError("one storage has two sizes")
        return storage

    return find


def _persistent(given: Any) -> tuple[Any, str, int]:
    """('storage', class, key, place, count, ...) -> dtype, key, count."""
    if type(given) is not tuple or len(given) < 5 or given[0] != "storage" or not isinstance(given[1], Named):
        raise DamagedError("a storage is described in a way that is unknown")
    if len(given) > 5 and given[5] is not None:
        raise DamagedError("a storage is a part of another one")
    _, kind, key, _, count = given[:5]
    if kind.name not in STORAGES or type(key) is not str or type(count) is not int or not 0 <= count < 1 << 48:
        raise DamagedError("a storage is described in a way that is unknown")
    return STORAGES[kind.name], key, count


def _read_zip(source: Path, view: memoryview, budget: Budget, limit: int) -> Any:
    with zipfile.ZipFile(source) as archive:
        members = {member.filename: member for member in archive.infolist()}
    unpacked = sum(member.file_size for member in members.values())
    if unpacked > limit:
        raise CheckpointError(f"{source} holds {unpacked:,} bytes and is refused: the limit is {limit:,}.")
    programs = [name for name in members if name == "data.pkl" or name.endswith("/data.pkl")]
    if len(programs) != 1:
        raise DamagedError("it holds no data.pkl")
    folder = programs[0].removesuffix("data.pkl")
    if f"{folder}byteorder" in members and bytes(_stored(view, members[f"{folder}byteorder"])) != b"little":
        raise DamagedError("its numbers are big-endian")
    storages: dict[str, StoredStorage] = {}
    look_up = _finder(storages)

    def find(given: Any) -> StoredStorage:
        storage: StoredStorage = look_up(given)
        if storage.view is None:
            data = _stored(view, members[f"{folder}data/{given[2]}"])
            if len(data) < storage.count * storage.dtype.itemsize:
                raise DamagedError("numbers are missing")
            storage.view = data[: storage.count * storage.dtype.itemsize]
        return storage

    def nested(data: Any) -> Any:
        return _read(memoryview(data), budget, 1)

    return Interpreter(budget, find, nested).run(_stored(view, members[programs[0]]))[0]


def _stored(view: memoryview, member: zipfile.ZipInfo) -> memoryview:
    """The bytes of a member; torch packs without compression, so that they lie in the file as they are."""
    if member.compress_type != zipfile.ZIP_STORED:
        raise DamagedError("it is compressed, which torch's files are not")
    header = bytes(view[member.header_offset : member.header_offset + 30])
    if header[:4] != ZIPPED:
        raise DamagedError("a member has no header")
    start = member.header_offset + 30 + sum(struct.unpack("<HH", header[26:30]))  # its name and extra field
    if start + member.file_size > len(view):
        raise DamagedError("a member leaves the file")
    return view[start : start + member.file_size]
