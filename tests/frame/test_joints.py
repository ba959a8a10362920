"""What is no part of a pipeline is told before anything runs; the joints themselves are tested in test_pipeline.py."""

from __future__ import annotations

from typing import Any

import pytest
from tiny import tiny_decoder, tiny_pipeline, tiny_sampler
from torch import nn

from nsbgan_infer import NsbPipeline, Stage
from nsbgan_infer.decoders.subband import SubbandDecoder
from nsbgan_infer.errors import WrongTypeError
from nsbgan_infer.frame.joints import describe_parts


@pytest.mark.parametrize(
    ("sampler", "stages", "message"),
    [
        (nn.Linear(2, 2), [], "The sampler is a Linear, which has no `info` of type SamplerInfo.*as_sampler"),
        (tiny_decoder(), [], "The sampler is a SubbandDecoder"),
        (None, [], "The sampler is a NoneType"),
        (tiny_sampler(), [tiny_decoder()], "Stage 1 is a SubbandDecoder: give a Stage"),
        (tiny_sampler(), [Stage(None, nn.Linear(2, 2))], "The decoder is a Linear.*as_decoder"),  # type: ignore[arg-type]
        (tiny_sampler(), [Stage(None, SubbandDecoder)], "the class SubbandDecoder"),  # type: ignore[arg-type]
        (tiny_sampler(), [Stage("iwt", tiny_decoder())], "str as its encoder"),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_part_is_named(sampler: Any, stages: Any, message: str) -> None:
    with pytest.raises(WrongTypeError, match=message):
        NsbPipeline(sampler, stages)


def test_each_part_has_a_line_with_its_sides() -> None:
    pipeline = tiny_pipeline()
    lines = describe_parts(pipeline.sampler, pipeline.stages)
    assert lines[0].startswith("sampler  tiny: wavelet, 16 x 16, 4 classes, 0.0")
    assert lines[1].startswith("stage 1  tiny-w: 16 -> 64, ")
    assert lines[2].startswith("stage 2  wavelet encoder: 64 -> 32, tiny-w: 32 -> 128, ")
