"""The service with the web page in it: what `nsbgan demo` serves."""

from __future__ import annotations

from typing import Any

from nsbgan_infer.serving.actions import Studio
from nsbgan_infer.serving.http import build_service
from nsbgan_infer.serving.making import Maker
from nsbgan_infer.serving.offers import open_offers, shipped_upscalers
from nsbgan_infer.serving.page import build_page, mount_page

SHIPPED = "embedded"  # the preset whose pictures the service makes: nothing has to be fetched before the page opens


def build_demo(studio: Studio, preset: str = SHIPPED) -> Any:
    """The application, with the page that starts with `preset`. Both use the studio's pipelines.

    Raises MissingExtraError without gradio, CheckpointError for a preset whose weights nobody published.
    """
    page = build_page(studio, preset)
    maker = Maker(studio.pipeline)
    offers = open_offers([SHIPPED], [maker.pipeline(SHIPPED)], shipped_upscalers())
    return mount_page(build_service(offers, maker), page, studio)
