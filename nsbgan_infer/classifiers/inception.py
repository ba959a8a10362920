"""Inception v3 in its two forms, from files that are opened without running anything in them.

* For FID, IS, KID, precision and recall: the original TensorFlow graph as torch-fidelity ports it (2048 features,
  1008 logits without bias, bilinear resize to 299 without antialiasing), from torch-fidelity's weights file.
* For rejection as in the paper (appendix B): torchvision's, 1000 classes, in eval mode, with ImageNet's mean and
  deviation and an antialiased resize (the authors had none of these: spec section 8, row 14).

A file is named by an argument or an environment variable, else fetched once into the cache.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nsbgan_infer.classifiers.base import (
    IMAGENET_DEVIATION,
    IMAGENET_MEAN,
    ClassifierInfo,
    Scores,
    resize_bicubic,
    to_8_bit,
)
from nsbgan_infer.errors import CheckpointError, OfflineError
from nsbgan_infer.storage.checkpoints import safe_state_dict
from nsbgan_infer.storage.files import sha256_of
from nsbgan_infer.storage.hub import Source, cache_dir, fetch_url
from nsbgan_infer.torch_operators import first_line, import_beside_torch

FID_FILE = Source(
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
)
TORCHVISION_FILE = Source("https://download.pytorch.org/models/inception_v3_google-0cc3c7bd.pth")
FID_VARIABLE, TORCHVISION_VARIABLE = "NSBGAN_FID_INCEPTION", "NSBGAN_INCEPTION_V3"


class FidInception(nn.Module):
    """torch-fidelity's extractor: 8-bit pictures of any size -> 2048 features and 1008 unbiased logits."""

    info = ClassifierInfo("inception-fid", 2048, "bilinear-tensorflow-299", "Apache-2.0")

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)

    @torch.inference_mode()
    def forward(self, pictures: Tensor) -> Scores:
        """Pictures (B, 3, H, W) nominally [0, 1] -> features (B, 2048), logits (B, 1008)."""
        device = next(self.network.parameters()).device
        features, logits = self.network(to_8_bit(pictures).to(device))
        return Scores(features, logits)


class TorchvisionInception(nn.Module):
    """torchvision's Inception v3 as a judge of 1000 classes, input 299 x 299."""

    info = ClassifierInfo("inception-v3", 2048, "bicubic-antialias-299", "BSD-3-Clause")

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        self.mean = nn.Buffer(torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.deviation = nn.Buffer(torch.tensor(IMAGENET_DEVIATION).view(1, 3, 1, 1))
        self._pooled: Tensor | None = None
        pool: Any = self.network.avgpool
        pool.register_forward_hook(self._keep)

    def _keep(self, _module: nn.Module, _inputs: Any, output: Tensor) -> None:
        self._pooled = output.flatten(1)

    @torch.inference_mode()
    def forward(self, pictures: Tensor) -> Scores:
        """Pictures (B, 3, H, W) nominally [0, 1] -> features (B, 2048), logits (B, 1000)."""
        x = resize_bicubic(to_8_bit(pictures.to(self.mean.device)), 299)
        logits = self.network((x - self.mean) / self.deviation)
        assert self._pooled is not None
        return Scores(self._pooled, logits)


def load_fid_inception(file: Path | None = None) -> FidInception:
    """The judge of FID, IS, KID, precision and recall, from `file`, $NSBGAN_FID_INCEPTION, the cache or its address.

    Raises CheckpointError, OfflineError or MissingExtraError with the next step.
    """
    module = import_beside_torch("torch_fidelity.feature_extractor_inceptionv3", "torch-fidelity", "eval", "FID")
    state = safe_state_dict(_find(file, FID_VARIABLE, FID_FILE, "FID, IS, KID, precision and recall"))
    buffer = io.BytesIO()  # the package opens its file unsafely, so it is handed one that holds our tensors only
    torch.save(state, buffer)
    buffer.seek(0)
    try:
        network = module.FeatureExtractorInceptionV3(
            "nsbgan-inception", ["2048", "logits_unbiased"], feature_extractor_weights_path=buffer
        )
    except RuntimeError as error:
        raise CheckpointError(
            f"The Inception file does not fit torch-fidelity's network: {first_line(error)}."
        ) from error
    return FidInception(network)


def load_inception(file: Path | None = None) -> TorchvisionInception:
    """The paper's judge for rejection, from `file`, $NSBGAN_INCEPTION_V3, the cache or torchvision's address.

    Raises CheckpointError, OfflineError or MissingExtraError with the next step.
    """
    module = import_beside_torch("torchvision.models.inception", "torchvision", "eval", "The classifier inception-v3")
    state = safe_state_dict(_find(file, TORCHVISION_VARIABLE, TORCHVISION_FILE, "the classifier inception-v3"))
    network = module.Inception3(aux_logits=True, transform_input=False, init_weights=False)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(f"The Inception file does not fit torchvision's network: {first_line(error)}.") from error
    return TorchvisionInception(network)


def _find(file: Path | None, variable: str, source: Source, purpose: str) -> Path:
    """The weights file: the one given, the one that the environment names, or the fetched one."""
    given = file or (Path(os.environ[variable]) if os.environ.get(variable) else None)
    if given is None:
        try:
            return _fetch(source)
        except OfflineError as error:
            raise OfflineError(f"{error} A copy that you have: {variable}=FILE in the environment.") from error
    if not given.expanduser().is_file():
        raise CheckpointError(
            f"No Inception file at {given}: {purpose} need {source.url.rpartition('/')[2]} from {source.url}."
        )
    return given.expanduser()


def _fetch(source: Source) -> Path:
    """The published file, whose name ends in the first digits of its SHA-256."""
    file = fetch_url(source, cache_dir() / "inception")
    prefix = file.stem.rpartition("-")[2]
    if not sha256_of(file).startswith(prefix):
        file.unlink()
        raise CheckpointError(f"What {source.url} sent has another SHA-256 than {prefix}...: try again later.")
    return file
