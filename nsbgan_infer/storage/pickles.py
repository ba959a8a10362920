"""Read a pickle without running it: an interpreter that can build data, tensors in a file, and nothing else.

A pickle is a program. Python's own reader imports and calls whatever it names; this one knows every instruction that
data needs and three kinds of name:

* a few names of torch and of Python's containers, for which it has a rule of its own (`RULES`);
* names that stand for objects of other programs (`STUBS`): they become a `Stub`, which remembers what it was made of;
* every other name refuses the file.

So nothing is imported, nothing is called, and a tensor is a place in the file (`StoredTensor`) until it is opened.
Instructions, described bytes and depth are bounded, so that a small file cannot fill the memory.
"""

from __future__ import annotations

import math
import pickletools
from collections.abc import Callable, Mapping
from typing import Any

import torch

from nsbgan_infer.storage.stored import (
    DTYPES,
    STORAGES,
    Budget,
    DamagedError,
    Named,
    RefusedNameError,
    StoredStorage,
    StoredTensor,
    Stub,
)

LINE = 4096  # bytes of a line of text inside a pickle
PLAIN = 1 << 16  # from this many bytes on a chunk is a view of the file instead of a copy

# what objects of other programs are called: a whole module (ends in a dot) or one name
STUBS = (
    "torch_utils.persistence._reconstruct_persistent_obj",  # StyleGAN2-ADA
    "torch_utils.",
    "dnnlib.",
    "training.",  # StyleGAN2-ADA and R3GAN
    "R3GAN.",
    "BaselineGAN.",  # R3GAN's name when its weights were published
    "torch.nn.modules.",
    "torch.nn.parameter.",
    "torch.device",
    "torch.sparse_coo",
    "torch.per_tensor_affine",
    "torch._utils._rebuild_sparse_tensor",
    "torch._utils._rebuild_qtensor",
    "torch._tensor._rebuild_from_type_v2",
    "torch.serialization._get_layout",
    "argparse.Namespace",
    "numpy.dtype",
    "numpy.ndarray",
    "numpy.core.multiarray.scalar",
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar",
    "numpy._core.multiarray._reconstruct",
    "collections.defaultdict",
    "builtins.int",  # as what a defaultdict is filled with
    "builtins.long",
    "builtins.float",
    "builtins.list",
    "pathlib.PosixPath",
    "pathlib.WindowsPath",
    "pathlib._local.PosixPath",
    "pathlib._local.WindowsPath",
)


class _Source:
    """A view of a file that reads like one: never more than is there, large chunks without a copy."""

    def __init__(self, view: memoryview) -> None:
        self.view, self.at = view, 0

    def tell(self) -> int:
        return self.at

    def read(self, size: int) -> Any:
        chunk = self.view[self.at : self.at + max(0, size)]
        self.at += len(chunk)
        return chunk if len(chunk) >= PLAIN else bytes(chunk)

    def readline(self) -> bytes:
        found = bytes(self.view[self.at : self.at + LINE])
        line = found[: found.find(b"\n") + 1]
        self.at += len(line)
        return line


Find = Callable[[Any], StoredStorage]  # a persistent id -> a storage
Nested = Callable[[Any], Any]  # the bytes of a file of torch inside the pickle -> what is in it


class Interpreter:
    """Runs one pickle. `find` looks up persistent ids, `nested` opens a file of torch inside the pickle."""

    def __init__(self, budget: Budget, find: Find | None, nested: Nested) -> None:
        self.budget, self.find, self.nested = budget, find, nested
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self, view: memoryview) -> tuple[Any, int]:
        """The value of the pickle that `view` begins with, and how many bytes it takes.

        Raises RefusedNameError, DamagedError, or any of the usual errors of a damaged pickle.
        """
        source = _Source(view)
        for code, arg, _ in pickletools.genops(source):  # type: ignore[arg-type]
            self.budget.operations -= 1
            if self.budget.operations < 0:
                raise DamagedError("it has more instructions than a file of weights needs")
            if code.name == "STOP":
                return self.stack.pop(), source.at
            self.step(code.name, arg)
        raise DamagedError("it does not end")

    def step(self, name: str, arg: Any) -> None:
        """One instruction."""
        if name in LITERALS:
            self.stack.append(arg)
        elif name in CONSTANTS:
            self.stack.append(CONSTANTS[name]())
        elif name in ("PROTO", "FRAME"):
            pass
        elif name == "MARK":
            self.marks.append(len(self.stack))
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            self.stack.append(self.memo[arg])
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            self.memo[arg] = self.stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = self.stack[-1]
        elif name in ("POP", "DUP", "POP_MARK"):
            self._pop(name)
        elif name in TUPLES:
            self.stack.append(tuple(self._take(TUPLES[name])))
        elif name in MARKED:
            MARKED[name](self, self._marked())
        elif name == "APPEND":
            self._append(self._take(1))
        elif name == "SETITEM":
            self._set_items(self._take(2))
        elif name == "GLOBAL":
            self.stack.append(_named(*arg.split(" ", 1)))
        elif name in CALLS:
            CALLS[name](self)
        elif name == "BUILD":
            self._build(*self._take(1))
        elif name == "BINPERSID" and self.find:
            self.stack.append(self.find(*self._take(1)))
        else:
            raise DamagedError(f"it holds the instruction {name}")

    def _take(self, count: int) -> list[Any]:
        if len(self.stack) - (self.marks[-1] if self.marks else 0) < count:
            raise DamagedError("it takes what is not there")
        taken = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return taken

    def _marked(self) -> list[Any]:
        start = self.marks.pop()
        taken = self.stack[start:]
        del self.stack[start:]
        return taken

    def _pop(self, name: str) -> None:
        if name == "DUP":
            self.stack.append(self.stack[-1])
        elif name == "POP_MARK" or (self.marks and self.marks[-1] == len(self.stack)):
            self._marked()
        else:
            self.stack.pop()

    def _append(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not list:
            raise DamagedError("it appends to what is not a list")
        target.extend(values)

    def _set_items(self, flat: list[Any]) -> None:
        target = self.stack[-1]
        table = target.items if isinstance(target, Stub) else target
        if type(table) is not dict:
            raise DamagedError("it sets an item of what is not a dict")
        table.update(_pairs(flat))

    def _add_items(self, values: list[Any]) -> None:
        if type(self.stack[-1]) is not set:
            raise DamagedError("it adds to what is not a set")
        self.stack[-1].update(_keys(values))

    def _call(self) -> None:
        function, args = self._take(2)
        if not isinstance(function, Named) or type(args) is not tuple:
            raise DamagedError("it calls what is not a name")
        rule = RULES.get(function.name)
        self.stack.append(rule(self, *args) if rule else Stub(function.name, args))

    def _call_with_keywords(self) -> None:
        (keywords,) = self._take(1)
        if type(keywords) is not dict:
            raise DamagedError("its keywords are not a dict")
        self._call()

    def _stack_global(self) -> None:
        module, name = self._take(2)
        if type(module) is not str or type(name) is not str:
            raise DamagedError("a name is not text")
        self.stack.append(_named(module, name))

    def _build(self, state: Any) -> None:
        target = self.stack[-1]
        if isinstance(target, Stub):
            target.state = state
        elif not isinstance(target, dict | StoredTensor):  # a state dict carries versions, which nobody reads
            raise DamagedError("it gives a state to what has none")


def _named(module: str, name: str) -> Named:
    full = f"{module}.{name}"
    full = full.replace("__builtin__.", "builtins.", 1) if full.startswith("__builtin__.") else full
    listed = full in RULES or full in STORAGES or full in DTYPES
    if listed or any(full.startswith(s) if s.endswith(".") else full == s for s in STUBS):
        return Named(full)
    raise RefusedNameError(full)


def _keys(values: list[Any]) -> list[Any]:
    """`values` if all of them can be keys: texts, numbers, and tuples and stubs without more inside."""
    simple = (str, int, float, bool, type(None), bytes)
    for value in values:
        inside = value if type(value) is tuple else (value,)
        if len(inside) > 64 or not all(isinstance(v, simple) or type(v) in (Named, Stub, StoredTensor) for v in inside):
            raise DamagedError("a key is neither text nor number")
    return values


def _pairs(flat: list[Any]) -> dict[Any, Any]:
    if len(flat) % 2:
        raise DamagedError("a key has no value")
    return dict(zip(_keys(flat[::2]), flat[1::2], strict=True))


def _ordered(_: Interpreter, pairs: Any = ()) -> dict[Any, Any]:
    if type(pairs) not in (list, tuple) or any(type(p) not in (list, tuple) or len(p) != 2 for p in pairs):
        raise DamagedError("a table is not made of pairs")
    return _pairs([value for pair in pairs for value in pair])


def _set(_: Interpreter, values: Any = ()) -> set[Any]:
    if type(values) not in (list, tuple):
        raise DamagedError("a set is not made of a list")
    return set(_keys(list(values)))


def _encode(_: Interpreter, text: Any, encoding: Any = "latin1") -> bytes:
    if type(text) is not str or encoding not in ("latin1", "latin-1"):
        raise DamagedError("bytes are written in a way that is unknown")
    return text.encode("latin1")


def _nested(interpreter: Interpreter, data: Any) -> Any:
    if not isinstance(data, bytes | memoryview):
        raise DamagedError("a storage is not made of bytes")
    return interpreter.nested(data)


def _tensor(
    interpreter: Interpreter, storage: Any, offset: Any, shape: Any, stride: Any, *rest: Any, dtype: Any = None
) -> StoredTensor:
    """_rebuild_tensor(_v2): the rest is about gradients and hooks."""
    if not isinstance(storage, StoredStorage):
        raise DamagedError("a tensor has no storage")
    kind: torch.dtype = dtype or storage.dtype
    numbers = (offset, *shape, *stride)
    if any(type(n) is not int or not 0 <= n < 1 << 48 for n in numbers) or len(shape) != len(stride) or len(shape) > 16:
        raise DamagedError("a tensor has an impossible shape")
    count = math.prod(shape)
    end = offset + sum((n - 1) * s for n, s in zip(shape, stride, strict=True)) + 1 if count else 0
    if end * kind.itemsize > storage.count * storage.dtype.itemsize:
        raise DamagedError("a tensor describes more than its storage holds")
    interpreter.budget.describe(count * kind.itemsize)
    return StoredTensor(storage, kind, offset, tuple(shape), tuple(stride))


def _tensor_v3(
    interpreter: Interpreter, storage: Any, offset: Any, shape: Any, stride: Any, _g: Any, _h: Any, dtype: Any, *_: Any
) -> StoredTensor:
    if not isinstance(dtype, Named) or dtype.name not in DTYPES:
        raise DamagedError("a tensor has an unknown dtype")
    return _tensor(interpreter, storage, offset, shape, stride, dtype=DTYPES[dtype.name])


def _first(_: Interpreter, value: Any, *rest: Any) -> Any:
    """A parameter is its tensor, a size its tuple."""
    return value


RULES: Mapping[str, Callable[..., Any]] = {
    "collections.OrderedDict": _ordered,
    "builtins.dict": _ordered,
    "builtins.set": _set,
    "builtins.frozenset": _set,
    "_codecs.encode": _encode,
    "torch.Size": _first,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch.storage._load_from_bytes": _nested,
}
LITERALS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
}
CONSTANTS: Mapping[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
MARKED: Mapping[str, Callable[[Interpreter, list[Any]], Any]] = {
    "LIST": lambda i, v: i.stack.append(v),
    "TUPLE": lambda i, v: i.stack.append(tuple(v)),
    "DICT": lambda i, v: i.stack.append(_pairs(v)),
    "FROZENSET": lambda i, v: i.stack.append(set(_keys(v))),
    "APPENDS": lambda i, v: i._append(v),
    "SETITEMS": lambda i, v: i._set_items(v),
    "ADDITEMS": lambda i, v: i._add_items(v),
}
CALLS: Mapping[str, Callable[[Interpreter], None]] = {
    "REDUCE": Interpreter._call,
    "NEWOBJ": Interpreter._call,
    "NEWOBJ_EX": Interpreter._call_with_keywords,
    "STACK_GLOBAL": Interpreter._stack_global,
}
