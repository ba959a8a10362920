"""Import packages that stand on torchvision, beside any build of torch.

torchvision's own compiled operators are missing beside a build of torch that it was not made for, and its import fails.
The networks used here need none of them, so their names are declared and the import is tried again.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import torch

from nsbgan_infer.errors import UsageError, missing_extra

SCHEMAS = (  # what torchvision's Python parts look up when they are imported
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "roi_align(Tensor input, Tensor rois, float spatial_scale, int pooled_height, int pooled_width, "
    "int sampling_ratio, bool aligned) -> Tensor",
)
_declared: list[Any] = []


def import_beside_torch(name: str, package: str, extra: str, purpose: str) -> Any:
    """The module `name` of an installed `package`.

    Raises MissingExtraError, which names `extra`, if it is not installed, and UsageError if it cannot be imported.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise missing_extra(package, extra, purpose) from error
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise _broken(package, purpose, error) from error
    for loaded in [m for m in sys.modules if m.partition(".")[0] in ("torchvision", name.partition(".")[0])]:
        del sys.modules[loaded]
    if not _declared:
        _declare()
    try:
        return import_module(name)
    except (ImportError, RuntimeError) as error:
        raise _broken(package, purpose, error) from error


def _declare() -> None:
    library: Any = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for schema in SCHEMAS:
        library.define(schema)
    _declared.append(library)  # kept alive


def _broken(package: str, purpose: str, error: Exception) -> UsageError:
    return UsageError(f"{purpose} needs {package}, which cannot be imported: {first_line(error)}.")


def first_line(error: Exception) -> str:
    """The first line of a long message, or the second where the first is a heading."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return (lines[1] if len(lines) > 1 and lines[0].endswith(":") else lines[0]).rstrip(".")[:200]
