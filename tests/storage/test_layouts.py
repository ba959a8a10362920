"""Layouts are offered where they are understood: each tells its own files and no others."""

from __future__ import annotations

import pytest
import torch
from peer_biggan import Peer
from peer_stylegan2 import ada_state
from stylegan2_weights import public_checkpoint

from nsbgan_infer.convert import OWN
from nsbgan_infer.decoders.srresnet import SRResNet, SRResNetConfig
from nsbgan_infer.storage.checkpoints import Checkpoint
from nsbgan_infer.storage.layouts import Layout, all_layouts, has, offer

STATES = {
    "srresnet": lambda: SRResNet(SRResNetConfig(blocks=1, channels=4, basis="pixel", legacy_skip=True)).state_dict(),
    "stylegan2": lambda: public_checkpoint(),
    "stylegan2-ada": lambda: ada_state(classes=4, architecture="resnet"),
    "biggan-family": lambda: Peer(side=32, attention=(16,)).state,
}


@pytest.mark.parametrize("name", STATES)
def test_a_state_dict_matches_one_layout(name: str) -> None:
    checkpoint = Checkpoint(dict(STATES[name]()), {})
    assert [n for n, layout in {"own": OWN, **all_layouts()}.items() if layout.matches(checkpoint)] == [name]


@pytest.mark.parametrize("name", all_layouts())
def test_a_layout_says_whose_it_is_and_how_it_is_read(name: str) -> None:
    layout = all_layouts()[name]
    assert layout.name == name and layout.summary and (layout.build is None) != (layout.convert is None)
    assert not layout.matches(Checkpoint({"weight": torch.zeros(1)}, {}))


def test_a_name_is_offered_once() -> None:
    with pytest.raises(ValueError, match="srresnet is offered twice"):
        offer(Layout("srresnet", "another", has("x"), None))
