"""Inception from files that hold the right names and shapes, with random values: the real weights are not here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from nsbgan_infer.classifiers import inception
from nsbgan_infer.classifiers.inception import load_fid_inception, load_inception
from nsbgan_infer.errors import CheckpointError, MissingExtraError, OfflineError
from nsbgan_infer.storage.hub import set_offline
from nsbgan_infer.torch_operators import import_beside_torch

COVERS = ["torch_operators"]


@pytest.fixture(scope="module")
def fid_network() -> Any:
    """torch-fidelity's own extractor with random weights (its constructor always loads a file)."""
    module = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    cls = module.FeatureExtractorInceptionV3
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cls, "load_state_dict", lambda *_: None)
        patch.setattr(module.torch, "load", lambda *_, **__: {})
        return cls("reference", ["2048", "logits_unbiased"], feature_extractor_weights_path="none")


def test_fid_inception_equals_torch_fidelity(fid_network: Any, tmp_path: Path) -> None:
    torch.save(fid_network.state_dict(), tmp_path / "fid.pth")
    judge = load_fid_inception(tmp_path / "fid.pth")
    pictures = torch.randint(0, 256, (2, 3, 40, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    features, logits = fid_network(pictures)
    scores = judge(pictures.float() / 255)
    assert scores.features.shape == (2, 2048) and scores.logits.shape == (2, 1008)
    assert torch.equal(scores.features, features) and torch.equal(scores.logits, logits)


def test_the_environment_names_the_file(fid_network: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(fid_network.state_dict(), tmp_path / "fid.pth")
    monkeypatch.setenv("NSBGAN_FID_INCEPTION", str(tmp_path / "fid.pth"))
    assert load_fid_inception().info.features == 2048


def test_files_that_do_not_fit_are_one_sentence(tmp_path: Path) -> None:
    torch.save({"fc.weight": torch.zeros(1)}, tmp_path / "small.pth")
    for load in (load_fid_inception, load_inception):
        with pytest.raises(CheckpointError, match="does not fit"):
            load(tmp_path / "small.pth")
        with pytest.raises(CheckpointError, match="No Inception file at"):
            load(tmp_path / "absent.pth")


def test_offline_nothing_is_fetched() -> None:
    set_offline()
    try:
        with pytest.raises(OfflineError, match="NSBGAN_FID_INCEPTION=FILE"):
            load_fid_inception()
    finally:
        set_offline(False)


@pytest.mark.parametrize(
    ("load", "module", "package"),
    [
        (load_inception, "torchvision.models.inception", "torchvision"),
        (load_fid_inception, "torch_fidelity.feature_extractor_inceptionv3", "torch-fidelity"),
    ],
)
def test_a_missing_package_is_told_before_its_weights_are_fetched(
    load: Any, module: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inception, "fetch_url", None)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=f"needs the package {package}.*nsbgan-infer.eval."):
        load()


@pytest.mark.slow
def test_torchvisions_inception_judges_a_thousand_classes_in_eval_mode(tmp_path: Path) -> None:
    module = import_beside_torch("torchvision.models.inception", "torchvision", "eval", "test")
    torch.manual_seed(0)
    network = module.Inception3(init_weights=False)
    torch.save(network.state_dict(), tmp_path / "tv.pth")
    judge = load_inception(tmp_path / "tv.pth")
    pictures = torch.rand(2, 3, 64, 48, generator=torch.Generator().manual_seed(1))
    scores = judge(pictures)
    assert scores.features.shape == (2, 2048) and scores.logits.shape == (2, 1000)
    assert torch.allclose(judge(pictures[:1]).logits, scores.logits[:1], atol=1e-4)  # no batch statistics, no dropout
    assert not any(m.training for m in judge.network.modules())


@pytest.mark.slow
def test_the_import_works_beside_a_torch_that_torchvision_was_not_built_for() -> None:
    """In a process of its own, without the declarations that conftest makes."""
    code = (
        "from nsbgan_infer.torch_operators import import_beside_torch\n"
        "import_beside_torch('torch_fidelity.feature_extractor_inceptionv3', 'torch-fidelity', 'eval', 'FID')"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=300, check=False).returncode == 0
