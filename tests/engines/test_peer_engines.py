"""Samplers of other programs in other engines: they say themselves which tensors they take."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peer_biggan import Peer
from peer_stylegan2 import ada_state
from tiny import randomise

from nsbgan_infer.engines import with_engine
from nsbgan_infer.engines.graph import part_graph
from nsbgan_infer.pipeline import NsbPipeline
from nsbgan_infer.samplers.base import Sampler
from nsbgan_infer.samplers.biggan_family import BigGANFamily, BigGANFamilyConfig
from nsbgan_infer.samplers.biggan_layouts import from_peer_state
from nsbgan_infer.samplers.r3gan import R3GAN, R3GANConfig
from nsbgan_infer.samplers.stylegan2_layouts import from_ada_state

SMALL_BIGBIGAN = BigGANFamilyConfig((8,) * 3, enlarging=(0, 1), attention=(1,), z_dim=12, class_dim=0, num_classes=0)


def random_parts(sampler: BigGANFamily | R3GAN) -> Sampler:
    torch.manual_seed(0)
    return randomise(sampler)  # type: ignore[return-value]


SAMPLERS: dict[str, Callable[[], Sampler]] = {
    "biggan": lambda: from_peer_state(Peer(side=32, attention=(16,)).state),
    "biggan-deep": lambda: from_peer_state(Peer(side=32, attention=(16,), deep=True).state),
    "bigbigan": lambda: random_parts(BigGANFamily(SMALL_BIGBIGAN)),
    "r3gan": lambda: random_parts(R3GAN(R3GANConfig((4,) * 3, (8,) * 3, (2,) * 3, (1,) * 3, z_dim=4, class_dim=4))),
    "stylegan2 with classes": lambda: from_ada_state(ada_state(classes=4, architecture="resnet")),
}
NAMES = {"bigbigan": ("z",), "stylegan2 with classes": ("z", "y", "truncation", "noise")}


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_tensors_of_a_sampler(name: str) -> None:
    sampler = SAMPLERS[name]()
    graph = part_graph(sampler)
    assert graph is not None and graph.names == NAMES.get(name, ("z", "y"))
    pipeline = NsbPipeline(sampler)
    latents = pipeline.latents(pipeline.requests(None if sampler.info.classes is None else 2, 2))
    assert torch.equal(graph.module(*graph.inputs(latents)), sampler(latents))


@pytest.mark.usefixtures("kept_networks")
@pytest.mark.parametrize("name", SAMPLERS)
def test_openvino_stays_within_one_grey_level(name: str) -> None:
    pytest.importorskip("openvino")
    classes = None if SAMPLERS[name]().info.classes is None else 2
    wanted = NsbPipeline(SAMPLERS[name]())(classes, 2, seeds=5)
    got = with_engine(NsbPipeline(SAMPLERS[name]()), "openvino")(classes, 2, seeds=5)
    scale = max(1.0, float(wanted.tensors.abs().max()))
    assert wanted.tensors.std() > 0.01 and (got.tensors - wanted.tensors).abs().max() < scale / 255


@pytest.mark.parametrize("name", ["biggan", "bigbigan", "r3gan", "stylegan2 with classes"])
def test_onnx_files_take_what_is_free(name: str, tmp_path: Path) -> None:
    for package in ("onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    from nsbgan_infer.engines.onnx import export_pipeline

    done = export_pipeline(NsbPipeline(SAMPLERS[name]()), tmp_path)
    free = [n for n in NAMES.get(name, ("z", "y")) if n != "truncation"]
    assert list(done[0].inputs) == free
    assert done[0].difference is not None and done[0].difference < 1e-3
