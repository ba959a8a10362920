"""The web page in a real browser, headless Chromium: one server and one browser, a new visitor for each test."""

from __future__ import annotations

import io
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from PIL import Image
from tiny_studio import TinyStudio

from nsbgan_infer.cli.main import cli
from nsbgan_infer.errors import CheckpointError, UsageError
from nsbgan_infer.serving.server import serve_in_thread

COVERS = ["serving.demo", "serving.tabs"]

pytest.importorskip("gradio", reason="the web page needs the extra demo")
pytest.importorskip("prometheus_client", reason="the web page needs the extra demo")
playwright = pytest.importorskip("playwright.sync_api", reason="the browser test needs playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if not CHROMIUM:
    pytest.skip("no chromium on this machine: install Debian's package chromium", allow_module_level=True)

pytestmark = pytest.mark.filterwarnings("ignore")  # gradio's own
QUIET = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking")
SLOW_MACHINE = 120_000  # milliseconds: a limit for a hanging page, not a measure
CLASS = "#class textarea, #class input"
Visit = Callable[[], Any]


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> TinyStudio:
    return TinyStudio(tmp_path_factory.mktemp("studio"))


@pytest.fixture(scope="module")
def address(studio: TinyStudio) -> Iterator[str]:
    from nsbgan_infer.serving.demo import build_demo

    with serve_in_thread(build_demo(studio), first=7860) as served:
        yield served


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as p:
        running = p.chromium.launch(executable_path=CHROMIUM, args=[*QUIET, "--disable-component-update"])
        yield running
        running.close()


@pytest.fixture
def visit(browser: Any, address: str) -> Iterator[Visit]:
    """Opens the page as a new visitor; at the end, no visitor's browser has asked any other host."""
    contexts, hosts = [], set()

    def opened() -> Any:
        contexts.append(browser.new_context(accept_downloads=True, viewport={"width": 1280, "height": 1000}))
        page = contexts[-1].new_page()
        page.on("request", lambda request: hosts.add("/".join(request.url.split("/")[:3])))
        page.set_default_timeout(SLOW_MACHINE)
        page.goto(address)
        page.wait_for_selector("#found img")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert {h for h in hosts if h.startswith("http")} == {address.rstrip("/")}


def generate(page: Any, names: str, *, count: int = 2) -> None:
    page.fill(CLASS, names)
    page.fill("#count input", str(count))
    page.click("#generate")


def report_says(page: Any, field: str, text: str) -> None:
    """Wait until the text field `field` holds `text`."""
    page.wait_for_function(
        "([field, text]) => [...document.querySelectorAll(`${field} textarea, ${field} input`)]"
        ".some(e => e.value.includes(text))",
        arg=[field, text],
    )


def test_a_class_becomes_a_picture_with_its_recipe(visit: Visit, tmp_path: Path) -> None:
    page = visit()
    assert page.title() == "nsbgan"
    generate(page, "golden retriever", count=1)
    page.wait_for_selector("#pictures img")
    report_says(page, "#report", "an image")
    with page.expect_download() as event:
        page.locator("#files a[download], #files a[href*='seed0']").first.click()
    saved = tmp_path / "207_golden-retriever_seed0.png"
    event.value.save_as(saved)
    result = CliRunner().invoke(cli, ["inspect", str(saved), "--json"])
    assert result.exit_code == 0, result.output
    assert '"class_id": 207' in result.output


def test_an_unknown_class_shows_the_suggestion(visit: Visit) -> None:
    page = visit()
    generate(page, "golden retreiver")
    page.get_by_text("did you mean golden retriever").first.wait_for()


def test_classes_are_found_with_pictures_and_picked_by_a_click(visit: Visit) -> None:
    page = visit()
    assert page.locator("#found img").count() == 4
    page.fill(CLASS, "church; springer")
    page.click("#search")
    page.wait_for_function("document.querySelectorAll('#found img').length == 1")
    page.click("#found button:has(img)")
    page.wait_for_function(f"document.querySelector('{CLASS}').value == 'church; English springer'")


def test_rejection_shows_its_acceptance(visit: Visit) -> None:
    pytest.importorskip("efficientnet_lite_pytorch", reason="rejection needs the extra eval")
    page = visit()
    page.fill("#reject input[type=number]", "0.95")
    page.keyboard.press("Tab")
    generate(page, "207", count=1)
    page.get_by_text("207_golden-retriever_seed0: 0.").first.wait_for()
    report_says(page, "#report", " drawn (")


def test_two_browsers_do_not_mix_and_one_job_runs_at_a_time(visit: Visit, studio: TinyStudio) -> None:
    studio.most_at_once, studio.gate = 0, threading.Event()
    first, second = visit(), visit()
    try:
        generate(first, "goldfish")
        first.wait_for_selector("#pictures img")  # its job holds the queue until the gate opens
        generate(second, "207")
        second.get_by_text("queue:").first.wait_for()
    finally:
        studio.gate.set()
        studio.gate = None
    first.get_by_text("001_goldfish_seed1").first.wait_for()
    second.get_by_text("207_golden-retriever_seed1").first.wait_for()
    assert first.get_by_text("207_golden-retriever").count() == 0
    assert second.get_by_text("001_goldfish").count() == 0
    assert studio.most_at_once == 1


def test_cancel_keeps_what_was_finished(visit: Visit, studio: TinyStudio) -> None:
    studio.gate = threading.Event()
    page = visit()
    try:
        generate(page, "207", count=16)
        page.wait_for_selector("#pictures img")
        with page.expect_request("**/cancel"):
            page.click("#cancel")
        page.wait_for_timeout(1000)  # the server has the request before the job can go on
    finally:
        studio.gate.set()
        studio.gate = None
    report_says(page, "#report", "Stopped")
    assert page.locator("#pictures img").count() < 16
    generate(page, "goldfish", count=1)  # the queue is free again
    page.get_by_text("001_goldfish_seed0").first.wait_for()


def test_a_photo_is_enlarged_and_can_be_kept(visit: Visit, tmp_path: Path) -> None:
    Image.linear_gradient("L").resize((40, 30)).save(tmp_path / "photo.png")
    page = visit()
    page.get_by_role("tab", name="Enlarge a photo").click()
    page.click("#enlarge")
    page.get_by_text("Choose a photo first").first.wait_for()
    page.set_input_files("#photo input[type=file]", tmp_path / "photo.png")
    page.wait_for_selector("#photo img")
    page.click("#enlarge")
    page.wait_for_selector("#slider img")
    report_says(page, "#enlarged", "40 x 30 -> 160 x 120 with photo")
    with page.expect_download() as event:
        page.locator("#large a").first.click()
    event.value.save_as(tmp_path / "large.png")
    with Image.open(tmp_path / "large.png") as large:
        assert (large.size, event.value.suggested_filename) == ((160, 120), "photo_x4.png")


def test_the_stages_and_two_decoders_are_shown(visit: Visit) -> None:
    page = visit()
    page.get_by_role("tab", name="Stages and decoders").click()
    page.click("#stages")
    page.wait_for_selector("#pair img")
    for caption in ("sample (16)", "decoded 1 (64)", "low band 2 (32)", "decoded 2 (128)", "details diagonal"):
        page.get_by_text(caption).first.wait_for()


def test_a_walk_becomes_an_animation(visit: Visit) -> None:
    page = visit()
    page.get_by_role("tab", name="Walk").click()
    page.fill("#to textarea, #to input", "cheeseburger")
    page.fill("#frames input[type=number]", "4")
    page.keyboard.press("Tab")
    page.click("#walk")
    page.wait_for_selector("#film img")
    report_says(page, "#walked", "4 of 4")
    answer = page.request.get(page.get_attribute("#film img", "src"))
    with Image.open(io.BytesIO(answer.body())) as film:
        assert getattr(film, "n_frames", 1) == 6


def test_a_taken_port_and_a_preset_without_weights_are_sentences(address: str, studio: TinyStudio) -> None:
    from nsbgan_infer.serving.demo import build_demo
    from nsbgan_infer.serving.page import build_page

    port = int(address.rstrip("/").rsplit(":", 1)[1])
    with pytest.raises(UsageError, match="Choose another --port"), serve_in_thread(build_demo(studio), port=port):
        pass
    with pytest.raises(CheckpointError, match="Nobody has published weights of learned-w-64"):
        build_page(studio, "learned-w-64")
