"""The self-ensemble: symmetries with their inverses, equivariance, and who may have it."""

from __future__ import annotations

import pytest
import torch

from nsbgan_infer.decoders.ensemble import SelfEnsemble, symmetries
from nsbgan_infer.decoders.interpolate import make_bicubic, make_iwt
from nsbgan_infer.decoders.photo import PhotoConfig, PhotoDecoder
from nsbgan_infer.errors import UsageError


def make_random() -> PhotoDecoder:
    torch.manual_seed(0)
    decoder = PhotoDecoder(PhotoConfig(blocks=1, channels=4))
    torch.nn.init.normal_(decoder.conv_last.weight, std=0.05)
    return decoder.eval().requires_grad_(False)


def test_symmetries_are_eight_and_undone() -> None:
    picture = torch.arange(12.0).view(1, 1, 3, 4)
    turned = [there(picture) for there, _ in symmetries()]
    assert len({tuple(t.flatten().tolist()) + tuple(t.shape) for t in turned}) == 8
    assert all(torch.equal(back(there(picture)), picture) for there, back in symmetries())


def test_it_is_the_mean_and_turns_with_the_picture() -> None:
    decoder, low = make_random(), torch.rand(2, 3, 9, 12)
    ensemble = SelfEnsemble(decoder)
    assert ensemble.info.name == "photo+" and ensemble.info.scale == 4
    out = ensemble(low)
    want = torch.stack([back(decoder(there(low))) for there, back in symmetries()]).mean(0)
    assert torch.allclose(out, want, atol=1e-6) and not torch.allclose(out, decoder(low), atol=1e-3)
    for there, _ in symmetries():
        assert torch.allclose(ensemble(there(low)), there(out), atol=1e-5)
    assert ensemble.bfloat16()(low.bfloat16()).dtype == torch.bfloat16


def test_bicubic_interpolation_is_its_own_ensemble() -> None:
    plain, low = make_bicubic().anchored("centre"), torch.rand(1, 3, 9, 12)
    assert torch.allclose(SelfEnsemble(plain)(low), plain(low), atol=1e-6)
    with pytest.raises(UsageError, match="iwt reads a wavelet reduction"):
        SelfEnsemble(make_iwt())
