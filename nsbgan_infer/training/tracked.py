"""What a run is resumed from, declared once: a table of networks, optimisers, running means and tensors by name.

`take_state` makes of it what a checkpoint holds, `restore_state` puts that back. A part says how by `state_dict` and
`load_state_dict`, as torch's do; a tensor is copied into; tables and lists hold further parts; None stands for a part
that this run does without.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor


def take_state(tracked: Any) -> Any:
    """The state of `tracked`: tensors, numbers and containers of these (loadable with weights_only)."""
    if tracked is None or isinstance(tracked, Tensor):
        return tracked
    if isinstance(tracked, Mapping):
        return {name: take_state(part) for name, part in tracked.items()}
    if isinstance(tracked, list):
        return [take_state(part) for part in tracked]
    return tracked.state_dict()


def restore_state(tracked: Any, state: Any) -> None:
    """Put back what `take_state` returned, in place. Raises KeyError, ValueError or RuntimeError if it does not fit."""
    if isinstance(tracked, Tensor):
        tracked.copy_(state)
    elif isinstance(tracked, Mapping):
        for name, part in tracked.items():
            restore_state(part, state[name])
    elif isinstance(tracked, list):
        for part, kept in zip(tracked, state, strict=True):
            restore_state(part, kept)
    elif tracked is not None:
        tracked.load_state_dict(state)
