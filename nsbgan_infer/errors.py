"""Errors: one clear sentence each, with the next step. The command line turns them into exit codes.

Exit code 2 means that something was wrong before work started (arguments, names, paths, weights);
exit code 1 means that the work itself failed.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence


class NsbError(Exception):
    """Base of every error that this package raises on purpose. Its message is one line.

    Messages quote files and names that others wrote: what a terminal would not print as a character (control
    sequences, undecodable bytes) is replaced by `?`, line breaks by a space.
    """

    exit_code = 1

    def __init__(self, message: object = "") -> None:
        line = re.sub(r"\s*[\r\n]+\s*", " ", str(message))
        super().__init__("".join(c if c.isprintable() else "?" for c in line))


class UsageError(NsbError):
    """An argument, a path or a combination of them cannot work. Nothing has been done yet."""

    exit_code = 2


class WrongTypeError(UsageError, TypeError):
    """An argument is of a type that cannot serve there; the message says which does."""


class UnknownNameError(UsageError):
    """A name that is in no table; the message lists what is near it."""


class CheckpointError(UsageError):
    """A weights file is missing, damaged, foreign or does not fit its configuration."""


class OfflineError(CheckpointError):
    """Weights would have to be fetched, but the network is refused or not reachable."""


class MissingExtraError(UsageError):
    """An optional package is not installed; the message says which extra brings it."""


class JointError(UsageError):
    """Two parts of a pipeline do not fit together; the message names both sides."""


class ImageFileError(UsageError):
    """An image cannot be read, or is not what the operation needs."""


class WorkError(NsbError):
    """Something failed during the work (out of memory, a full disk, non-finite numbers)."""


class NonFiniteError(WorkError):
    """A step produced NaN or infinity; the message names the step."""


def missing_extra(package: str, extra: str, purpose: str) -> MissingExtraError:
    """The error for an optional `package` that is not installed, brought by `extra`."""
    return MissingExtraError(
        f"{purpose} needs the package {package}, which is not installed: run `pip install 'nsbgan-infer[{extra}]'`."
    )


def unknown_name(kind: str, name: str, known: Iterable[str], *, hint: str = "") -> UnknownNameError:
    """The error for a `name` that is not among `known`, with up to three near ones."""
    names: Sequence[str] = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    suggestion = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names)}."
    return UnknownNameError(f"Unknown {kind} '{name}': {suggestion}{' ' + hint if hint else ''}")
