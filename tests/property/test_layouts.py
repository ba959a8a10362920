"""Property: a state dict of another program with anything changed is read, or refused with one sentence."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peer_biggan import Peer
from peer_stylegan2 import ada_state
from stylegan2_weights import public_checkpoint
from torch import Tensor, nn

from nsbgan_infer.errors import CheckpointError
from nsbgan_infer.samplers import biggan_layouts, r3gan
from nsbgan_infer.samplers.stylegan2_layouts import from_ada_state, from_public_layout

State = dict[str, Tensor]


def r3gan_state() -> State:
    taps = torch.tensor([1.0, 3, 3, 1])
    state = {"Model.EmbeddingLayer.weight": torch.ones(3, 7), "Model.MainLayers.0.Layers.0.Basis": torch.ones(4, 4, 4)}
    state |= {"Model.MainLayers.0.Layers.0.LinearLayer.weight": torch.ones(4, 8)}
    state |= {"Model.MainLayers.1.Layers.0.Resampler.Kernel": torch.outer(taps, taps) / 64}
    state |= {"Model.AggregationLayer.Layer.weight": torch.ones(3, 4, 1, 1)}
    for s in range(2):
        block = f"Model.MainLayers.{s}.Layers.1"
        state |= {f"{block}.LinearLayer1.Layer.weight": torch.ones(8, 4, 1, 1)}
        state |= {f"{block}.LinearLayer2.Layer.weight": torch.ones(8, 4, 3, 3)}
        state |= {f"{block}.LinearLayer3.Layer.weight": torch.ones(4, 8, 1, 1)}
        state |= {f"{block}.NonLinearity{n}.Bias": torch.ones(8) for n in (1, 2)}
    return state


@cache
def layouts() -> dict[str, tuple[State, Callable[[State], nn.Module]]]:
    read = biggan_layouts.from_peer_state
    return {
        "BigGAN-PyTorch": (Peer(side=32, attention=(16,)).state, read),
        "BigGAN-PyTorch, deep": (Peer(side=32, attention=(16,), deep=True).state, read),
        "StudioGAN": (Peer(side=32, attention=(16,), program="studiogan").state, read),
        "R3GAN": (r3gan_state(), r3gan.from_peer_state),
        "StyleGAN2-ADA": (ada_state(classes=3, architecture="resnet"), from_ada_state),
        "rosinality": (public_checkpoint(), lambda state: from_public_layout(state, None)),
    }


SHAPES = [(), (0,), (1,), (3,), (1, 1), (0, 4), (7, 5), (4, 4), (3, 4, 1, 1), (0, 0, 3, 3), (2, 2, 2, 2, 2)]


@pytest.mark.parametrize("name", ["BigGAN-PyTorch", "BigGAN-PyTorch, deep", "StudioGAN", "R3GAN", "StyleGAN2-ADA", "rosinality"])  # fmt: skip  # noqa: E501
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_changed_names_shapes_and_numbers(name: str, data: st.DataObject) -> None:
    original, read = layouts()[name]
    state = dict(original)
    for _ in range(data.draw(st.integers(1, 3))):
        key = data.draw(st.sampled_from(sorted(state)))
        kind = data.draw(st.sampled_from(["drop", "shape", "whole", "zero", "nan", "rename", "number"]))
        tensor = state.pop(key)
        if kind == "shape":
            state[key] = torch.ones(data.draw(st.sampled_from(SHAPES)))
        elif kind == "whole":
            state[key] = tensor.long()
        elif kind == "zero":
            state[key] = torch.zeros_like(tensor)
        elif kind == "nan":
            state[key] = torch.full_like(tensor.float(), torch.nan)
        elif kind == "rename":
            state[f"{key}.more"] = tensor
        elif kind == "number":
            state[key.replace("0", "9")] = tensor
        if not state:
            return
    try:
        read(state)
    except CheckpointError as error:
        assert str(error) and "\n" not in str(error)
