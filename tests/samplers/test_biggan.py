"""The folded BigGAN-deep against the wheel's own forward, and against formulas written out once more."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from wheel_weights import random_biggan, random_inputs, wheel_config, wheel_model

from nsbgan_infer.errors import UsageError
from nsbgan_infer.latents import Latents
from nsbgan_infer.samplers.biggan import BigGANConfig, BigGANDeep, statistics_row, with_hf_compat
from nsbgan_infer.samplers.biggan_checkpoint import effective_weight, fold, upsampling_weight, wheel_shapes
from nsbgan_infer.samplers.strips import ROWS
from nsbgan_infer.storage.components import load_component, save_component

TRUNCATIONS = (0.2, 0.405, 0.5, 1.0)
SLIPS = (0.14, 0.28, 0.56, 0.58, 0.94)  # where the wheel's division misses a row by a rounding error
NARROW = 8


@cache
def pair(resolution: int, channel_width: int = NARROW) -> tuple[Any, BigGANDeep]:
    """The wheel's model and ours with the same random weights."""
    state = random_biggan(resolution, channel_width)
    wheel = wheel_model(resolution, channel_width)
    wheel.load_state_dict(state)
    return wheel.eval(), fold(state, BigGANConfig(resolution=resolution, channel_width=channel_width))


def latents(batch: int, truncation: float, seed: int = 0) -> Latents:
    z, y = random_inputs(batch, seed)
    return Latents(z * truncation, y, tuple(range(batch)), truncation, "scale")


def draw(wheel: Any, given_latents: Latents) -> Tensor:
    """The wheel's picture in [0, 1]."""
    with torch.no_grad():
        return (wheel(given_latents.z, given_latents.y, given_latents.truncation) + 1) / 2


def assert_parity(resolution: int, channel_width: int, batch: int) -> None:
    wheel, ours = pair(resolution, channel_width)
    compat = with_hf_compat(ours)
    try:
        for truncation in TRUNCATIONS:
            given_latents = latents(batch, truncation)
            wanted, got = draw(wheel, given_latents), compat(given_latents)
            assert got.shape == (batch, 3, resolution, resolution)
            assert wanted.std() > 0.05, "the picture must not be flat, or the comparison says nothing"
            assert (got - wanted).abs().max() * 2 <= 1e-4, "difference in the wheel's range of -1 to 1"
    finally:
        with_hf_compat(ours, False)


@pytest.mark.parametrize("resolution", [128, 256, 512])
def test_equals_the_wheel_in_compat_mode(resolution: int) -> None:
    assert_parity(resolution, NARROW, batch=2 if resolution == 128 else 1)


@pytest.mark.slow
@pytest.mark.parametrize("resolution", [128, 256, 512])
def test_equals_the_wheel_in_compat_mode_at_full_width(resolution: int) -> None:
    assert_parity(resolution, 128, batch=1)
    pair.cache_clear()


def test_equals_the_wheel_where_its_rows_slip() -> None:
    wheel, ours = pair(128)
    for truncation in SLIPS:
        given_latents = latents(1, truncation)
        correct = ours(given_latents)
        compat = with_hf_compat(ours)(given_latents)
        with_hf_compat(ours, False)
        wanted = draw(wheel, given_latents)
        torch.testing.assert_close(compat, wanted, atol=5e-5, rtol=0)
        assert (correct - wanted).abs().max() > 1e-3


def test_correct_interpolation_equals_a_wheel_whose_rows_are_interpolated_for_it() -> None:
    _, ours = pair(128)
    state = random_biggan(128, NARROW)
    truncation, row, fraction = 0.405, 20, 0.25
    for name, table in state.items():
        if name.endswith(("running_means", "running_vars")):
            table[50] = table[row] * (1 - fraction) + table[row + 1] * fraction
    wheel = wheel_model(128, NARROW)
    wheel.load_state_dict(state)
    given_latents = latents(2, truncation)
    wanted = draw(wheel.eval(), replace(given_latents, truncation=1.0))  # the wheel's row 50
    torch.testing.assert_close(ours(given_latents), wanted, atol=5e-5, rtol=0)


@given(st.floats(0.001, 1.0))
def test_statistics_row_is_linear_interpolation(truncation: float) -> None:
    row, here, following = statistics_row(truncation, 51)
    assert 0 <= row <= 50 and (following == 0 or row < 50)
    assert here >= 0 and following >= 0 and here + following == pytest.approx(1)
    assert row * here + (row + 1) * following == pytest.approx(truncation * 50, abs=1e-5)


@given(st.floats(0.001, 1.0))
def test_compat_row_is_the_wheel_s_arithmetic(truncation: float) -> None:
    row, here, following = statistics_row(truncation, 51, hf_compat=True)
    fraction, index = math.modf(truncation / (1.0 / 50))
    assert row == int(index) and here + following == pytest.approx(1)
    assert here == pytest.approx(fraction if fraction else 1)


@pytest.mark.parametrize("step", range(1, 51))
def test_grid_values_take_their_own_row(step: int) -> None:
    assert statistics_row(step / 50, 51) == (step, 1.0, 0.0)
    assert statistics_row(round(step * 0.02, 2), 51) == (step, 1.0, 0.0)


@pytest.mark.parametrize("truncation", [0.0, -0.1, 1.01, math.nan])
def test_truncation_out_of_range(truncation: float) -> None:
    with pytest.raises(UsageError, match="out of range"):
        pair(128)[1](replace(latents(1, 0.5), truncation=truncation))


def test_images_of_a_batch_are_independent() -> None:
    _, ours = pair(128)
    batch = latents(8, 0.5)
    together = ours(batch)
    singles = torch.cat([ours(batch[i : i + 1]) for i in range(8)])
    torch.testing.assert_close(together, singles, atol=1e-5, rtol=0)


def test_bfloat16_is_near_and_keeps_the_statistics_in_fp32() -> None:
    state = random_biggan(128, NARROW)
    exact = fold(state, BigGANConfig(resolution=128, channel_width=NARROW))
    rounded = fold(state, BigGANConfig(resolution=128, channel_width=NARROW)).to(torch.bfloat16)
    assert rounded.to_rgb.weight.dtype == torch.bfloat16
    assert rounded.statistics.means.dtype == torch.float32
    picture = rounded(latents(2, 0.5))
    assert picture.dtype == torch.bfloat16
    assert (picture.float() - exact(latents(2, 0.5))).abs().mean() < 0.01


def test_statistics_are_folded_once_per_truncation() -> None:
    _, ours = pair(128)
    first = ours.statistics.at(0.35, ours.config)
    assert ours.statistics.at(0.35, ours.config) is first
    assert ours.statistics.at(0.35, replace(ours.config, hf_compat=True)) is not first
    ours.to(torch.float32)  # anything that may move tensors forgets them
    assert ours.statistics.at(0.35, ours.config) is not first


def test_tensors_compile_into_one_graph() -> None:
    _, ours = pair(128)
    given_latents = latents(2, 0.5)
    exported = torch.export.export(
        _Tensors(ours), (given_latents.z, given_latents.y, ours.statistics.at(0.5, ours.config))
    )
    got = exported.module()(given_latents.z, given_latents.y, ours.statistics.at(0.405, ours.config))
    torch.testing.assert_close(got, ours(replace(given_latents, truncation=0.405)), atol=1e-5, rtol=0)


class _Tensors(torch.nn.Module):
    def __init__(self, sampler: BigGANDeep) -> None:
        super().__init__()
        self.sampler = sampler

    def forward(self, z: Tensor, y: Tensor, statistics: Tensor) -> Tensor:
        return self.sampler.forward_tensors(z, y, statistics)


def test_saved_and_loaded_again_draws_the_same(tmp_path: Any) -> None:
    _, ours = pair(256)
    save_component(ours, tmp_path / "sampler")
    again: Any = load_component(tmp_path / "sampler", kind="sampler")
    assert again.arch == BigGANDeep.arch and again.config == ours.config
    kernel = again.blocks[0].conv_2.weight
    assert kernel.is_contiguous(memory_format=torch.channels_last), "loading puts kernels in the order of the input"
    torch.testing.assert_close(again(latents(1, 0.7)), ours(latents(1, 0.7)), atol=1e-6, rtol=0)


def test_gradients_reach_the_latents() -> None:
    _, ours = pair(128)
    given_latents = latents(1, 0.5)
    z = given_latents.z.clone().requires_grad_()
    with torch.inference_mode():
        ours(given_latents)  # what it remembers must serve outside of inference mode too
    ours(replace(given_latents, z=z)).sum().backward()
    assert z.grad is not None and z.grad.abs().sum() > 0


@pytest.mark.parametrize("resolution", [128, 256, 512])
def test_the_last_block_never_exists_whole(resolution: int) -> None:
    _, ours = pair(resolution)
    heights: list[int] = []
    watch = ours.blocks[-1].register_forward_hook(lambda _m, _i, out: heights.append(out.shape[2]))
    whole = ours(latents(1, 0.5)).detach()  # with gradients
    with torch.no_grad():
        strips = ours(latents(1, 0.5))
    watch.remove()
    assert heights[0] == resolution and max(heights[1:]) <= 2 * (ROWS + 4)
    torch.testing.assert_close(strips, whole, rtol=0, atol=1e-5)
    assert whole.std() > 0.01


def test_info() -> None:
    info = pair(256)[1].info
    assert (info.name, info.basis, info.resolution, info.z_dim) == ("biggan-deep-256", "pixel", 256, 128)
    assert info.classes is not None and len(info.classes) == 1000 and info.truncation_mode == "scale"


@pytest.mark.parametrize(
    ("resolution", "numbers", "names"),
    [(128, 50_388_609 + 2_298_816, 506), (256, 55_880_833 + 2_692_352, 602), (512, 56_163_905 + 2_744_960, 698)],
)
def test_the_released_layout_has_the_published_size(resolution: int, numbers: int, names: int) -> None:
    shapes = wheel_shapes(BigGANConfig(resolution=resolution))
    assert len(shapes) == names
    assert sum(math.prod(s) for s in shapes.values()) == numbers


@pytest.mark.parametrize("resolution", [128, 256, 512])
def test_the_layout_is_the_wheel_s(resolution: int) -> None:
    state = wheel_model(resolution, NARROW).state_dict()
    shapes = wheel_shapes(BigGANConfig(resolution=resolution, channel_width=NARROW))
    assert shapes == {name: tuple(value.shape) for name, value in state.items()}
    assert wheel_config(resolution)["layers"] == [list(x) for x in BigGANConfig(resolution=resolution).layers]


def test_up_sampling_and_convolution_as_one_transposed_convolution() -> None:
    random = torch.Generator().manual_seed(0)
    x, weight = torch.randn(2, 3, 5, 7, generator=random), torch.randn(4, 3, 3, 3, generator=random)
    wanted = F.conv2d(F.interpolate(x, scale_factor=2, mode="nearest"), weight, padding=1)
    got = F.conv_transpose2d(x, upsampling_weight(weight), stride=2, padding=1)
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=0)


def test_rgb_rows_are_divided_by_the_norm_of_the_whole_kernel() -> None:
    state = random_biggan(128, NARROW)
    name = "generator.conv_to_rgb"
    whole = torch.linalg.matrix_norm(state[f"{name}.weight_orig"].flatten(1), 2)
    got = pair(128)[1].to_rgb.weight
    torch.testing.assert_close(got, state[f"{name}.weight_orig"][:3] / whole, rtol=0.05, atol=1e-6)
    assert torch.equal(got, effective_weight(state, name)[:3])


@pytest.mark.parametrize(
    ("field", "value"),
    [("resolution", 64), ("channel_width", 6), ("channel_width", "128"), ("n_stats", 1), ("eps", 0.0), ("z_dim", 1e9)],
)
def test_a_configuration_that_cannot_be_is_refused(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        BigGANConfig(**{field: value})  # type: ignore[arg-type]
