"""Whatever encoder is registered keeps its promises, and the check names what is wrong with others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch.nn.functional as F
from torch import Tensor

from nsbgan_infer.encoders.base import register_encoder
from nsbgan_infer.encoders.conformance import check_encoder
from nsbgan_infer.encoders.table import all_encoders, encoder_config, make_encoder
from nsbgan_infer.errors import CheckpointError, UnknownNameError


def failures(encoder: Any) -> dict[str, str]:
    return {c.name: c.message for c in check_encoder(encoder) if not c.ok}


@pytest.mark.parametrize("levels", [1, 2])
@pytest.mark.parametrize("name", all_encoders())
def test_whatever_is_registered_conforms(name: str, levels: int) -> None:
    encoder = make_encoder({"basis": name, "levels": levels})
    assert failures(encoder) == {}
    assert encoder_config(encoder)["basis"] == name


@pytest.mark.parametrize(
    "config",
    [
        {"basis": "wavelet", "boundary": "zero"},
        {"basis": "pixel", "filter": "bicubic"},
        {"basis": "pixel", "filter": "bilinear"},
    ],
)
def test_their_other_settings_conform(config: dict[str, Any]) -> None:
    assert failures(make_encoder(config)) == {}


@dataclass(frozen=True)
class Mean:
    """The mean of each cell: centre anchored."""

    levels: int = 1
    basis = "pixel"
    makes = "bilinear"

    def __call__(self, picture: Tensor) -> Tensor:
        return F.avg_pool2d(picture, 2**self.levels, ceil_mode=True)


def test_each_broken_promise_is_named() -> None:
    class Wrong(Mean):
        def __call__(self, picture: Tensor) -> Tensor:
            picture = picture.detach()
            return F.avg_pool2d(picture, 2) * 2 + picture.mean()

    found = failures(Wrong())
    assert {"shape", "range", "batch independence", "gradients"} <= found.keys()
    assert "instead of" in found["shape"] and "not require grad" in found["gradients"]


def test_a_wrong_anchor_is_told_with_its_place() -> None:
    class Corner(Mean):
        makes = "gaussian"

    assert "+0.50 down and +0.50 right of pixel 2k, +0.00 is promised" in failures(Corner())["registration"]


def test_an_encoder_that_makes_what_nobody_knows_is_refused() -> None:
    class Odd(Mean):
        makes = "haar"

    assert "makes is 'haar', not wavelet" in failures(Odd())["info"] and len(check_encoder(Odd())) == 1  # type: ignore[arg-type]


def test_names_and_settings_are_checked() -> None:
    with pytest.raises(UnknownNameError, match="Unknown encoder basis 'wavelets': did you mean wavelet"):
        make_encoder({"basis": "wavelets"})
    with pytest.raises(CheckpointError, match="Unknown encoder setting 'order': a pixel encoder has filter, levels"):
        make_encoder({"basis": "pixel", "order": 3})


def test_a_name_is_taken_once() -> None:
    all_encoders()
    with pytest.raises(ValueError, match=r"wavelet is defined by nsbgan_infer.encoders.wavelet and by .*conformance"):
        register_encoder("wavelet")(Mean)  # type: ignore[type-var]
