"""Everything with weights: config + safetensors, saved whole, loaded strictly. The only place that reads weights.

A component is saved as a folder (`config.json` + `model.safetensors`) or as one `.safetensors` file that carries the
same configuration in its header. Loading reads the header first, builds the network without memory, compares every
name and shape, and only then reads tensors: a malformed file costs nothing and says what differs.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import struct
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints
from weakref import WeakKeyDictionary

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.overrides import TorchFunctionMode

from nsbgan_infer.errors import CheckpointError, UsageError, WorkError, unknown_name
from nsbgan_infer.storage.architectures import C, find_architecture
from nsbgan_infer.storage.architectures import Component as Component  # what users of this module handle
from nsbgan_infer.storage.files import atomic_path, read_json, sha256_of, writable_folder, write_json
from nsbgan_infer.storage.typed import MisfitError, fit

WORTH_MAPPING = 1 << 20  # bytes of a tensor; each that is mapped holds a file open
HEADER_LIMIT = 16 << 20
INTEGER_LIMIT = 1 << 14  # widths and counts in configurations stay far below; a hostile one must not build for hours
CONFIG_KEY = "nsbgan_config"
MODULE = "module"  # stands for an architecture where a folder holds the weights of a module of someone's own
FLOATS = ("F64", "F32", "F16", "BF16")
INTEGERS = ("I64", "I32", "I16", "I8", "U8", "BOOL")


def component_config(component: Component) -> dict[str, Any]:
    """The configuration as it is written to `config.json`: `kind`, `arch` and the fields."""
    return {"kind": component.kind, "arch": component.arch, **asdict(component.config)}


def build_component(config: Mapping[str, Any], *, where: str = "config") -> Component:
    """The network described by `config` (as `component_config` returns it), with its initial weights.

    Raises CheckpointError for unknown keys or values, UnknownNameError for an unknown architecture.
    """
    rest = dict(config)
    rest.pop("kind", None)
    arch = str(rest.pop("arch", None))
    if arch == MODULE:
        raise CheckpointError(
            f"{where} belongs to the weights of someone's own module ({str(rest.get('class'))[:80]}), whose code is "
            "not here: load it from Python with from_pretrained(FOLDER, modules={...}), or make it a plug-in."
        )
    cls = find_architecture(arch)
    settings = parse_config(cls.Config, rest, where=where)
    try:
        return cls(settings)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{where} does not describe a {cls.__name__} that can be built: {reason}.") from error


@contextmanager
def empty_weights() -> Iterator[None]:
    """Networks built in this context have shapes but no memory and no initial weights: these are about to be loaded."""
    with torch.device("meta"), _NoInitialWeights():
        yield


SCALING = ("__truediv__", "div", "__mul__", "__rmul__", "mul", "normalize")


class _NoInitialWeights(TorchFunctionMode):
    """Leaves out what fills tensors with random numbers or scales them.

    The numbers would be thrown away, and the first of these operations on the device "meta" imports torch's compiler,
    which takes over a second.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in (Tensor.normal_, Tensor.uniform_) or getattr(func, "__module__", "") == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        if func in (torch.randn, torch.rand):
            return torch.empty(*args, **{k: v for k, v in kwargs.items() if k != "generator"})
        if getattr(func, "__name__", "") in SCALING and not any(isinstance(a, Tensor) for a in args[1:]):
            return args[0]
        return func(*args, **kwargs)


def parse_config(cls: type[Any], values: Mapping[str, Any], *, where: str) -> Any:
    """`values` as the frozen dataclass `cls`: unknown keys are refused with the nearest name, values of another type
    than the field's too; lists become tuples. Raises CheckpointError."""
    assert is_dataclass(cls)
    hints = get_type_hints(cls)
    known = {f.name for f in fields(cls)}
    for key in values:
        if key not in known:
            raise CheckpointError(str(unknown_name(f"setting in {where}", key, known)))
    frozen = {k: _freeze(v) for k, v in values.items()}
    for key, value in frozen.items():
        try:
            fit(value, hints[key], largest=INTEGER_LIMIT)  # checks only: 1 in place of 1.0 stays as it was written
        except MisfitError as error:
            raise CheckpointError(f"{where} gives {key} as {str(value)[:80]!r}: it {error}.") from None
    try:
        return cls(**frozen)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{where} does not describe a {cls.__qualname__}: {error}.") from error


def save_component(
    component: Component,
    path: Path,
    *,
    dtype: torch.dtype | None = None,
    info: Mapping[str, str] | None = None,
) -> Path:
    """Save to `path`: one file if it ends in `.safetensors`, else a folder. Returns the path of the weights file.

    `dtype` converts floating-point tensors (weights that ship are fp16); `info` goes into the header (trained_on,
    licence, ...). Both files are written whole or not at all. Raises UsageError where nothing can be written or `dtype`
    cannot hold a weight, WorkError where writing fails.
    """
    config = component_config(component)
    single = path.suffix == ".safetensors"
    target = path if single else path / "model.safetensors"
    tensors = {k: _storable(v, dtype, k) for k, v in component.state_dict().items()}
    metadata = {**(info or {}), "format": "pt", CONFIG_KEY: json.dumps(config)}
    writable_folder(path.parent if single else path)
    with atomic_path(target) as part:
        try:
            save_file(tensors, part, metadata=metadata)
        except SafetensorError as error:  # how the library reports a full disk
            raise WorkError(f"Cannot write {target}: {error}.") from error
    if not single:
        write_json(path / "config.json", config)
    return target


def load_component(path: Path, *, kind: str | None = None, name: str | None = None) -> Component:
    """Load a folder or a `.safetensors` file: strictly, in fp32, in eval mode, without gradients.

    `kind` (sampler | decoder) refuses a component of another kind. Raises CheckpointError with one sentence for
    everything that can be wrong with the files.
    """
    component = outline_component(path, kind=kind, name=name)
    assert component.weights_file is not None
    tensors = read_tensors(component.weights_file, order=component.kernel_order)
    component.load_state_dict(tensors, strict=True, assign=True)
    return component.float().eval().requires_grad_(False)


def outline_component(path: Path, *, kind: str | None = None, name: str | None = None) -> Component:
    """What `load_component` would return, checked in the same way but on the `meta` device: no weights are read."""
    label = name or path.name
    file, config = _locate(path)
    header = read_header(file)
    config = config or header_config(header, file)
    with empty_weights():
        component = build_component(config, where=str(file if file == path else path / "config.json"))
    if kind and component.kind != kind:
        raise CheckpointError(f"{label} is a {component.kind}, but a {kind} is wanted here.")
    check_tensors(header, component.state_dict(), label=label)
    _check_same_config(component, header, path)
    component.weights_file = file
    return component.eval().requires_grad_(False)


def read_header(file: Path) -> dict[str, Any]:
    """The JSON header of a safetensors file: name -> dtype, shape, offsets, and `__metadata__`.

    Raises CheckpointError for a file that is too short, has an absurd header, or whose offsets leave the file.
    """
    try:
        size = file.stat().st_size
        with file.open("rb") as f:
            start = f.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
            if length > min(HEADER_LIMIT, size - 8):
                raise CheckpointError(
                    f"{file} is not a safetensors file: "
                    f"if it is a .bin, .pth, .pt or .pkl, run `nsbgan convert {file.name} OUT` first."
                )
            header = json.loads(f.read(length))
        with safe_open(file, framework="pt"):
            pass  # the library's own check of offsets and of the file's length
    except OSError as error:
        raise CheckpointError(f"Cannot read the weights {file}: {error.strerror or error}.") from error
    except (SafetensorError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{file} is damaged ({error}): fetch or save it again.") from error
    if not isinstance(header, dict):
        raise CheckpointError(f"{file} is damaged (its header is not a table): fetch or save it again.")
    return header


def fill_component(component: C, tensors: Mapping[str, Tensor], *, label: str) -> C:
    """Fill a component built on "meta" with `tensors`, in eval mode, without gradients.

    Raises CheckpointError with the names and shapes in which the two differ.
    """
    wanted = component.state_dict()
    check_tensors({k: {"shape": list(v.shape)} for k, v in tensors.items()}, wanted, label=label)
    own = {k: v.to(wanted[k].dtype).contiguous() for k, v in tensors.items()}
    component.load_state_dict(own, strict=True, assign=True)
    return component.eval().requires_grad_(False)


def check_tensors(header: Mapping[str, Any], wanted: Mapping[str, Tensor], *, label: str) -> None:
    """Compare the names, shapes and kinds of number in `header` with `wanted`.

    Raises CheckpointError with the first five differences. `header` maps a name to `shape` and `dtype` as safetensors
    write them; floating-point tensors of any precision stand for each other. A missing `dtype` is not compared.
    """
    have = {k: tuple(v.get("shape", ())) for k, v in header.items() if k != "__metadata__"}
    differences = [f"missing {k}" for k in wanted if k not in have]
    differences += [f"unexpected {k}" for k in have if k not in wanted]
    differences += [
        f"{k} is {list(have[k])} instead of {list(v.shape)}"
        for k, v in wanted.items()
        if k in have and have[k] != tuple(v.shape)
    ]
    differences += [
        f"{k} holds {header[k]['dtype']} numbers"
        for k, v in wanted.items()
        if "dtype" in header.get(k, {}) and header[k]["dtype"] not in (FLOATS if v.is_floating_point() else INTEGERS)
    ]
    if differences:
        more = f" and {len(differences) - 5} more" if len(differences) > 5 else ""
        raise CheckpointError(
            f"The weights of {label} do not fit their configuration: {'; '.join(differences[:5])}{more}. "
            "Look at both with `nsbgan inspect`."
        )


def read_tensors(file: Path, *, order: torch.memory_format = torch.contiguous_format) -> dict[str, Tensor]:
    """All tensors of a safetensors file, floating-point ones as fp32, those of four dimensions in `order`.

    Large ones in fp32 are mapped from the file, each by itself: one that is put into another order gives its pages back
    at once, where the library's single map of the file would keep them.
    """
    header = read_header(file)
    try:
        with safe_open(file, framework="pt") as f:
            tensors = {k: _read(f, file, k, header[k], order) for k in f.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file} is damaged ({error}): fetch or save it again.") from error
    return {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}


def _read(opened: Any, file: Path, name: str, entry: Mapping[str, Any], order: torch.memory_format) -> Tensor:
    mapped = _map(file, entry)
    tensor: Tensor = opened.get_tensor(name) if mapped is None else mapped
    return tensor.to(memory_format=order) if tensor.ndim == 4 else tensor


def _map(file: Path, entry: Mapping[str, Any]) -> Tensor | None:
    """A large fp32 tensor whose memory is its part of the file, which is never written to; None for any other."""
    begin, end = entry["data_offsets"]
    if entry["dtype"] != "F32" or end - begin < WORTH_MAPPING or sys.byteorder != "little":
        return None
    with file.open("rb") as f:
        start = 8 + struct.unpack("<Q", f.read(8))[0] + begin
    if start % 4:
        return None
    return torch.from_numpy(np.memmap(file, np.float32, "c", start, tuple(entry["shape"])))


def _locate(path: Path) -> tuple[Path, dict[str, Any] | None]:
    if path.is_dir():
        if not (path / "model.safetensors").is_file():
            raise CheckpointError(f"{path} is not a saved component: it holds no model.safetensors.")
        return path / "model.safetensors", read_json(path / "config.json")
    if not path.exists():
        raise CheckpointError(f"No such weights: {path}. See `nsbgan models` for those that are known.")
    return path, None


def _check_same_config(component: Component, header: Mapping[str, Any], path: Path) -> None:
    """The header of a folder's weights repeats its config.json: refuse a folder whose halves were written apart."""
    if not path.is_dir() or CONFIG_KEY not in header.get("__metadata__", {}):
        return
    with empty_weights():
        other = build_component(header_config(header, path / "model.safetensors"), where="the header of the weights")
    if component_config(other) != component_config(component):
        raise CheckpointError(
            f"{path}/config.json and the header of its model.safetensors differ: the folder was changed or only half "
            "written. Save or fetch it again."
        )


def header_config(header: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """The configuration in the header of a single file. Raises CheckpointError if there is none."""
    try:
        config = json.loads(header["__metadata__"][CONFIG_KEY])
    except (KeyError, TypeError, ValueError):
        config = None
    if not isinstance(config, dict):
        raise CheckpointError(
            f"{file} carries no nsbgan configuration: give its folder with config.json, run `nsbgan convert "
            f"{file.name} OUT` if another program wrote it, or for a foreign upscaler write spandrel:{file.name}."
        )
    return config


def _freeze(value: Any) -> Any:
    return tuple(_freeze(v) for v in value) if isinstance(value, list) else value


def _storable(tensor: Tensor, dtype: torch.dtype | None, name: str) -> Tensor:
    stored = tensor.detach().to("cpu", dtype if dtype and tensor.is_floating_point() else tensor.dtype)
    if stored.dtype != tensor.dtype and torch.isinf(stored).any() and not torch.isinf(tensor).any():
        raise UsageError(f"{name} has numbers that {stored.dtype} cannot hold: save in fp32 or bf16.")
    return stored.contiguous().clone()


def fill_module(module: torch.nn.Module, file: Path) -> None:
    """Give a module, whatever its class, the weights in a safetensors file, name by name, on the CPU.

    Raises CheckpointError with the names and shapes in which the two differ.
    """
    check_tensors(read_header(file), module.state_dict(), label=file.parent.name)
    try:
        with safe_open(file, framework="pt") as f:
            module.load_state_dict({k: f.get_tensor(k) for k in f.keys()})  # noqa: SIM118 - safe_open is no mapping
    except (SafetensorError, OSError, RuntimeError) as error:
        raise CheckpointError(f"{file} cannot fill a {type(module).__name__} ({error}).") from error


def is_as_loaded(component: Component) -> bool:
    """Whether the tensors are those of the component's file, in the precision that they have now."""
    file = component.weights_file
    if file is None or not file.is_file() or file.suffix != ".safetensors":
        return False
    own, stored = component.state_dict(), read_tensors(file)
    return own.keys() == stored.keys() and all(
        own[k].device.type != "meta" and torch.equal(own[k].cpu(), v.to(own[k].dtype)) for k, v in stored.items()
    )


def copy_component(component: Component, folder: Path) -> None:
    """Save to a folder: the file that the component was loaded from, with its precision and checksum, while the weights
    are those in it; else as `save_component` does. Raises as that."""
    if not is_as_loaded(component):
        save_component(component, folder)
        return
    assert component.weights_file is not None
    writable_folder(folder)
    if component.weights_file.resolve() != (folder / "model.safetensors").resolve():
        with atomic_path(folder / "model.safetensors") as part:
            shutil.copyfile(component.weights_file, part)
    write_json(folder / "config.json", component_config(component))


_SEEN: WeakKeyDictionary[torch.nn.Module, tuple[tuple[int, ...], str | None]] = WeakKeyDictionary()


def remember_weights(part: object) -> None:
    """Note the weights that `part` has now, before it is moved to a device or a dtype.

    A module that came from no file of ours gets the SHA-256 of its tensors. Training it afterwards is noticed.
    """
    if not isinstance(part, torch.nn.Module) or part in _SEEN:
        return
    try:
        own = None if isinstance(part, Component) or getattr(part, "weights_file", None) else tensors_sha256(part)
        _SEEN[part] = _versions(part), own
    except RuntimeError:  # tensors without content, or of inference mode
        return


def tensors_sha256(module: torch.nn.Module) -> str | None:
    """A SHA-256 of names, shapes, dtypes and values of all parameters and buffers; None where there are none."""
    digest = hashlib.sha256()
    tensors = module.state_dict()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest() if tensors else None


def _versions(module: torch.nn.Module) -> tuple[int, ...]:
    """Counters that every change in place moves on, and no change of device or dtype."""
    return tuple(p._version for p in module.parameters())


def weights_sha256(component: object) -> str | None:
    """The SHA-256 of the file that a component was loaded from, None for one without a file.

    Of a converted checkpoint it is that of the original, since another machine may fold it with other last digits. Of a
    module that a pipeline holds and no file of ours, or that was trained since, it is `tensors_sha256`.
    """
    if isinstance(component, torch.nn.Module) and component in _SEEN:
        versions, own = _SEEN[component]
        if versions != _versions(component):
            own = tensors_sha256(component)
            _SEEN[component] = _versions(component), own
        if own:
            return own
    file = getattr(component, "weights_file", None)
    return _sha256_once(file, file.stat().st_mtime_ns) if isinstance(file, Path) and file.is_file() else None


@cache
def _sha256_once(file: Path, _changed: int) -> str:
    if file.suffix == ".safetensors":
        original = (read_header(file).get("__metadata__") or {}).get("source_sha256")
        if isinstance(original, str) and re.fullmatch(r"[0-9a-f]{64}", original):
            return original
    return sha256_of(file)
