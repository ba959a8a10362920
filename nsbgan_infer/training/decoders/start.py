"""What a decoder's training begins with: the weights of another decoder, or all of them but the last layer."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from nsbgan_infer.errors import CheckpointError
from nsbgan_infer.storage.components import CONFIG_KEY, Component, load_component, read_header, read_tensors

SAME_BODY = ("subband", "photo")  # the same network up to the last layer
LAST = "conv_last."


def start_from(network: Component, start: str) -> None:
    """Copy the weights in `start`, a component's folder or file or a bare file of its keys, into `network`.

    Decoders of SAME_BODY take each other's body; where the last layer does not fit it stays zero, so that training
    begins with plain interpolation. Raises CheckpointError for weights of another shape.
    """
    given, own = _read(Path(start), network), network.state_dict()
    if network.arch in SAME_BODY:
        given |= {k: v for k, v in own.items() if k.startswith(LAST) and k in given and given[k].shape != v.shape}
    try:
        network.load_state_dict(given)
    except RuntimeError:
        raise CheckpointError(
            f"The weights in {start} do not fit a {network.arch} network of these blocks and channels: "
            "start from a decoder of the same shape."
        ) from None


def _read(path: Path, network: Component) -> dict[str, Tensor]:
    if path.is_file() and CONFIG_KEY not in (read_header(path).get("__metadata__") or {}):
        return read_tensors(path)
    given = load_component(path, kind="decoder")
    if given.arch != network.arch and not {given.arch, network.arch} <= set(SAME_BODY):
        raise CheckpointError(
            f"{path} holds a decoder of architecture {given.arch}, and training begins with a {network.arch} network: "
            "start from a decoder of the same architecture."
        )
    return dict(given.state_dict())
