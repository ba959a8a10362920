"""Degradations: sizes, place, colour, strength of noise, and the same bytes for the same seed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nsbgan_infer.degradations.world import (
    PRESETS,
    Degradation,
    Round,
    add_gaussian,
    add_photons,
    degradation,
    degrade,
    through_jpeg,
)
from nsbgan_infer.encoders import PixelEncoder
from nsbgan_infer.errors import UnknownNameError, UsageError

NOTHING = Round(blur=0.0, resize=(0.0, 0.0, 1.0), noise=(0.0, 0.0), gaussian=1.0, jpeg=(95, 95), antialias=True)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator("cpu").manual_seed(seed)


def smooth(height: int, width: int) -> Tensor:
    """Slow waves in three colours, (3, height, width) in [0.2, 0.8]."""
    y, x = torch.meshgrid(torch.arange(height) / 19, torch.arange(width) / 23, indexing="ij")
    return torch.stack([0.5 + 0.3 * torch.sin(x + c) * torch.cos(y - c) for c in range(3)])


def one(**changes: object) -> Degradation:
    """One round that does nothing but `changes`, and JPEG at 95."""
    return Degradation((replace(NOTHING, **changes),), last_sinc=0.0, either_order=False)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("sides", [(64, 48), (67, 45), (5, 33)])
def test_a_result_has_the_exact_size_and_whole_grey_levels(name: str, scale: int, sides: tuple[int, int]) -> None:
    for seed in range(4):
        low = degrade(smooth(*sides), degradation(name), scale, generator=seeded(seed))
        assert low.shape == (3, -(-sides[0] // scale), -(-sides[1] // scale))
        assert torch.equal(low, low.mul(255).round().div(255)) and low.min() >= 0 and low.max() <= 1


@pytest.mark.parametrize("name", PRESETS)
def test_equal_seeds_give_equal_bytes_and_others_other_ones(name: str) -> None:
    picture = smooth(60, 52)
    first, again, other = (degrade(picture, degradation(name), 4, generator=seeded(s)) for s in (3, 3, 4))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_a_batch_is_degraded_in_order_by_one_generator() -> None:
    pictures = torch.stack([smooth(32, 40), smooth(32, 40).flip(-1)])
    together = degrade(pictures, degradation("two-round"), 2, generator=seeded(5))
    generator = seeded(5)
    apart = [degrade(p, degradation("two-round"), 2, generator=generator) for p in pictures]
    assert torch.equal(together, torch.stack(apart))


def test_the_global_generator_is_neither_read_nor_moved() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    degrade(smooth(32, 32), degradation("two-round"), 4, generator=seeded(0))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("name", PRESETS)
def test_flat_grey_stays_grey(name: str) -> None:
    """Over many draws no colour is favoured: the means of the three differ by less than their noise explains."""
    flat = torch.full((3, 64, 64), 128 / 255)
    means = torch.stack([degrade(flat, degradation(name), 2, generator=seeded(s)).mean((1, 2)) for s in range(40)])
    assert (means.mean(0) - 128 / 255).abs().max() < 1 / 255
    assert (means - means.mean(1, keepdim=True)).mean(0).abs().max() < 0.5 / 255


@pytest.mark.parametrize("grey", [False, True])
def test_gaussian_noise_has_the_deviation_that_is_asked_for(grey: bool) -> None:
    flat = torch.full((3, 256, 256), 0.5)
    noise = (add_gaussian(flat, 12.0, grey, generator=seeded(0)) - flat) * 255
    assert float(noise.std()) == pytest.approx(12, rel=0.01) and abs(float(noise.mean())) < 0.15
    apart = float((noise[0] - noise[1]).std())
    assert apart == 0 if grey else apart == pytest.approx(12 * 2**0.5, rel=0.02)


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("level", [4, 32, 128, 255])
def test_photon_noise_grows_with_the_root_of_brightness(level: int, grey: bool) -> None:
    flat = torch.full((3, 256, 256), level / 255)
    noise = (add_photons(flat, 0.8, grey, generator=seeded(0)) - flat) * 255
    assert float(noise.std()) == pytest.approx(0.8 * level**0.5, rel=0.01) and abs(float(noise.mean())) < 0.15
    assert torch.equal(noise[0], noise[1]) is grey


def test_noise_is_as_strong_in_the_finished_picture() -> None:
    """JPEG at 95 changes little about strong noise: its luma has the deviation of the weighted sum of three colours."""
    low = degrade(torch.full((3, 256, 256), 0.5), one(noise=(25.0, 25.0), grey=0.0), 2, generator=seeded(0)) * 255
    luma = (low * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(0)
    assert float(luma.std()) == pytest.approx(25 * (0.299**2 + 0.587**2 + 0.114**2) ** 0.5, rel=0.03)


def test_nothing_but_the_final_resize_is_a_centre_anchored_reduction() -> None:
    """Its three methods all lie on the grid of `bicubic`: a smooth picture agrees within JPEG's error."""
    picture = smooth(96, 80)[:1].expand(3, -1, -1)  # without colours, whose resolution JPEG halves
    want = PixelEncoder(2, filter="bicubic")(picture[None])[0]
    for seed in range(6):
        low = degrade(picture, one(), 4, generator=seeded(seed))
        assert (low - want).abs().mean() < 1.5 / 255
        moved = torch.roll(want, 1, dims=-1)
        assert (low - moved)[..., 2:-2].abs().mean() > 2 / 255  # a step of one sample would show


@pytest.mark.parametrize("name", PRESETS)
def test_a_disc_keeps_its_place(name: str) -> None:
    """The centre of mass of a bright disc moves by less than a tenth of a low-resolution pixel on average."""
    y, x = torch.meshgrid(torch.arange(128.0), torch.arange(128.0), indexing="ij")
    disc = ((y - 60.5).hypot(x - 70.5) < 20).float() * 0.8 + 0.1
    offsets = []
    for seed in range(30):
        low = degrade(disc.expand(3, -1, -1), degradation(name), 4, generator=seeded(seed)).mean(0) - 0.1
        low = low.where(low > 0.15, torch.zeros(()))
        rows, columns = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
        centre = torch.stack([(low * rows).sum(), (low * columns).sum()]) / low.sum()
        offsets.append(centre - torch.tensor([(60.5 - 1.5) / 4, (70.5 - 1.5) / 4]))
    assert torch.stack(offsets).mean(0).abs().max() < 0.1


def test_a_blur_takes_away_what_its_width_says() -> None:
    """Gaussian blur of sigma multiplies a wave of w radians a pixel by exp(-(w sigma)^2 / 2)."""
    wave = 0.5 + 0.4 * torch.sin(2 * torch.pi * torch.arange(256) / 32).expand(3, 64, 256)
    kernel = {"blur": 1.0, "sinc": 0.0, "shapes": (1.0, 0.0, 0.0), "stretched": 0.0, "sizes": (41, 41)}
    sharp = degrade(wave, one(), 2, generator=seeded(0)).std()
    soft = degrade(wave, one(**kernel, sigma=(4.0, 4.0)), 2, generator=seeded(0)).std()
    assert float(soft / sharp) == pytest.approx(
        float(torch.exp(torch.tensor(-((torch.pi / 16 * 4) ** 2) / 2))), rel=0.02
    )


def test_lower_quality_of_jpeg_is_farther_from_the_picture() -> None:
    picture = (smooth(64, 64)[:1] + torch.rand(1, 64, 64, generator=seeded(0)) * 0.2).expand(3, -1, -1)
    errors = [float((through_jpeg(picture, q) - picture.clamp(0, 1)).square().mean()) for q in (90, 60, 30)]
    assert errors == sorted(errors) and errors[0] < errors[2] / 2


shares = st.floats(0, 1)


@given(
    blur=shares,
    sinc=shares,
    stretched=shares,
    shapes=st.sampled_from([(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (0.2, 0.3, 0.5)]),
    resize=st.sampled_from([(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (0.25, 0.5, 0.25)]),
    factor=st.tuples(st.floats(0.05, 0.9), st.floats(1.0, 2.0)),
    noise=st.tuples(st.floats(0, 10), st.floats(10, 60)),
    photons=st.tuples(st.floats(0, 1), st.floats(1, 5)),
    gaussian=shares,
    grey=shares,
    jpeg=st.tuples(st.integers(1, 50), st.integers(50, 95)),
    antialias=st.booleans(),
    rounds=st.integers(1, 3),
    last_sinc=shares,
    either=st.booleans(),
    sides=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    scale=st.integers(2, 4),
    seed=st.integers(0, 1000),
)
@settings(deadline=None, max_examples=60)
def test_any_settings_give_a_finite_picture_of_the_right_size_twice(
    rounds: int, last_sinc: float, either: bool, sides: tuple[int, int], scale: int, seed: int, **given_: object
) -> None:
    chosen = Degradation((Round(**given_),) * rounds, last_sinc=last_sinc, either_order=either)  # type: ignore[arg-type]
    picture = torch.rand(3, *sides, generator=seeded(seed))
    low, again = (degrade(picture, chosen, scale, generator=seeded(seed)) for _ in range(2))
    assert low.shape == (3, -(-sides[0] // scale), -(-sides[1] // scale))
    assert low.isfinite().all() and low.min() >= 0 and low.max() <= 1 and torch.equal(low, again)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"blur": 1.5}, "from 0 to 1"),
        ({"resize": (0.5, 0.5, 0.5)}, "sum 1"),
        ({"sizes": (6, 20)}, "odd sides"),
        ({"sigma": (0.0, 1.0)}, "positive"),
        ({"noise": (9.0, 1.0)}, "lowest, highest"),
        ({"jpeg": (0, 50)}, "quality"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        replace(NOTHING, **changes)  # type: ignore[arg-type]


def test_wrong_names_shapes_and_scales_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="camera"):
        degradation("camra")
    with pytest.raises(UsageError, match="not \\(1, 8, 8\\)"):
        degrade(torch.rand(1, 8, 8), PRESETS["camera"], 4, generator=seeded(0))
    with pytest.raises(UsageError, match="by 1"):
        degrade(torch.rand(3, 8, 8), PRESETS["camera"], 1, generator=seeded(0))
    with pytest.raises(UsageError, match="at least one round"):
        Degradation(())
