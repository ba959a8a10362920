"""The web page in a real browser, headless Chromium: press the button, download the picture, read its recipe."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tiny_studio import TinyStudio

from nsbgan_infer.cli.main import cli

pytest.importorskip("gradio", reason="the web page needs the extra demo")
playwright = pytest.importorskip("playwright.sync_api", reason="the browser test needs playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if not CHROMIUM:
    pytest.skip("no chromium on this machine: install Debian's package chromium", allow_module_level=True)

QUIET = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking")
SLOW_MACHINE = 120_000  # milliseconds: a limit for a hanging page, not a measure


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    from nsbgan_infer.demo.page import build_page

    studio = TinyStudio(tmp_path)
    page = build_page(studio)
    _app, url, _ = page.launch(
        server_name="127.0.0.1", quiet=True, prevent_thread_lock=True, allowed_paths=[str(tmp_path)], inbrowser=False
    )
    yield url
    page.close()


@pytest.fixture
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as p:
        running = p.chromium.launch(executable_path=CHROMIUM, args=[*QUIET, "--disable-component-update"])
        yield running
        running.close()


def open_page(browser: Any, address: str) -> Any:
    page = browser.new_context(accept_downloads=True).new_page()
    page.set_default_timeout(SLOW_MACHINE)
    page.goto(address)
    page.wait_for_selector("#generate")
    return page


def generate(page: Any, name: str) -> None:
    page.fill("#class textarea, #class input", name)
    page.click("#generate")


def test_a_class_becomes_a_picture_with_its_recipe(browser: Any, address: str, tmp_path: Path) -> None:
    page = open_page(browser, address)
    assert page.title() == "nsbgan"
    generate(page, "golden retriever")
    page.wait_for_selector("#pictures img")
    link = page.locator("#files a[download], #files a[href*='seed0']").first
    with page.expect_download() as event:
        link.click()
    saved = tmp_path / "207_golden-retriever_seed0.png"
    event.value.save_as(saved)
    result = CliRunner().invoke(cli, ["inspect", str(saved), "--json"])
    assert result.exit_code == 0, result.output
    assert '"class_id": 207' in result.output


def test_an_unknown_class_shows_the_suggestion(browser: Any, address: str) -> None:
    page = open_page(browser, address)
    generate(page, "golden retreiver")
    page.get_by_text("did you mean golden retriever").first.wait_for()


def test_two_browsers_do_not_mix(browser: Any, address: str) -> None:
    pages = [open_page(browser, address) for _ in range(2)]
    for page, name in zip(pages, ("goldfish", "church"), strict=True):
        generate(page, "207" if name == "church" else name)
    pages[0].get_by_text("001_goldfish_seed1").first.wait_for()
    pages[1].get_by_text("207_golden-retriever_seed1").first.wait_for()
    assert pages[0].get_by_text("207_golden-retriever").count() == 0
    assert pages[1].get_by_text("001_goldfish").count() == 0
