"""The web page in a real browser, headless Chromium: one server and one browser, a new visitor for each test."""

from __future__ import annotations

import io
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from extras import skip_without
from photo_file import photo
from PIL import Image
from tiny import TinyClassifier
from tiny_studio import TinyStudio
from tiny_trunk import use_tiny_trunks

from nsbgan_infer.errors import CheckpointError, UsageError
from nsbgan_infer.images import read_recipe
from nsbgan_infer.inversion import run as inversion_run
from nsbgan_infer.latents.file import load_latents
from nsbgan_infer.serving import inverting
from nsbgan_infer.serving.server import serve_in_thread

COVERS = ["serving.controls", "serving.demo", "serving.generate_tab", "serving.photo_tab", "serving.tabs"]

skip_without("gradio", "prometheus_client", reason="the web page needs the extra demo")
playwright = pytest.importorskip("playwright.sync_api", reason="the browser test needs playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if not CHROMIUM:
    pytest.skip("no chromium on this machine: install Debian's package chromium", allow_module_level=True)

pytestmark = pytest.mark.filterwarnings("ignore")  # gradio's own
QUIET = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking")
DESK, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
GRAVE = ("serious", "critical")
SLOW_MACHINE = 120_000  # milliseconds: a limit for a hanging page, not a measure
TABS = ("Generate", "Photo", "Invert", "Steps", "Walk")
CLASS = "#class textarea, #class input"
Visit = Callable[..., Any]


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TinyStudio]:
    with pytest.MonkeyPatch.context() as patch:  # an inversion looks through networks of its own
        use_tiny_trunks(patch)
        patch.setattr(inversion_run, "load_classifier", lambda _name: TinyClassifier())
        yield TinyStudio(tmp_path_factory.mktemp("studio"))


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
    """Opens the page as a new visitor. At the end, no visitor's browser has asked another host or met an error of a
    script, and nobody was shown a temporary folder or a command."""
    contexts, hosts, failures = [], set(), []

    def opened(query: str = "", **how: Any) -> Any:
        contexts.append(browser.new_context(**{"accept_downloads": True, "viewport": DESK, **how}))
        page = contexts[-1].new_page()
        page.on("request", lambda request: hosts.add("/".join(request.url.split("/")[:3])))
        page.on("pageerror", lambda error: failures.append(str(error)))
        page.set_default_timeout(SLOW_MACHINE)
        page.goto(address + query)
        page.wait_for_selector("#class-tiles .tile")
        return page

    yield opened
    for context in contexts:
        for page in context.pages:
            text = page.inner_text("body")
            assert not [word for word in ("/tmp", "--", "`", "Traceback") if word in text]
        context.close()
    assert failures == []
    assert {h for h in hosts if h.startswith("http")} == {address.rstrip("/")}


def generate(page: Any, names: str, *, count: int = 2) -> None:
    open_more(page)
    page.fill(CLASS, names)
    fill_for_good(page, "#count input", count)
    page.click("#generate")


def open_more(page: Any) -> None:
    if not page.locator("#seed input").is_visible():
        page.get_by_text("More", exact=True).first.click()


def finished(page: Any, count: int) -> None:
    """Wait until all of `count` pictures are there."""
    page.wait_for_function(
        "n => { const s = document.querySelector('#pictures .sheet');"
        " return s?.dataset.state === 'done' && s.querySelectorAll('.card img').length === n; }",
        arg=count,
    )


def open_invert(page: Any, file: Path, steps: int) -> None:
    """Open the tab, bring a photo, and ask for so many steps."""
    page.get_by_role("tab", name="Invert").click()
    page.set_input_files("#invert-photo input[type=file]", file)
    says(page, "#invert-facts", file.name)
    if not page.locator("#invert-steps input[type=number]").is_visible():
        page.get_by_text("More", exact=True).locator("visible=true").click()
    fill_slider(page, "#invert-steps", steps)


def fill_slider(page: Any, where: str, value: float) -> None:
    fill_for_good(page, f"{where} input[type=number]", value)
    page.wait_for_function(
        "([where, value]) => document.querySelector(`${where} input[type=range]`).value === value",
        arg=[where, str(value)],
    )


def fill_for_good(page: Any, where: str, value: float) -> None:
    """Fill a field that may just have been unfolded: gradio may then write its first value over what was typed."""
    for _ in range(40):
        page.fill(where, str(value))
        page.keyboard.press("Tab")
        page.wait_for_timeout(500)
        if page.input_value(where) == str(value):
            return
    raise AssertionError(f"{where} holds {page.input_value(where)!r}, whatever is typed")


def says(page: Any, where: str, text: str) -> None:
    """Wait until the piece `where` of the page holds `text`."""
    try:
        page.wait_for_function(
            "([where, text]) => document.querySelector(where)?.textContent.includes(text)", arg=[where, text]
        )
    except playwright.TimeoutError as error:
        raise AssertionError(f"{where} says {page.text_content(where)!r}, not {text!r}") from error


def test_the_first_screen_invites(visit: Visit) -> None:
    page = visit()
    assert page.title() == "nsbgan" and page.locator("h1").inner_text() == "nsbgan"
    tags = " ".join(re.findall(r"<(?:meta|link)[^>]*>", page.request.get(page.url).text()))
    assert 'content="nsbgan"' in tags and "Gradio" not in tags and "http" not in tags
    assert page.get_attribute("#pictures .card img", "alt") == "golden retriever, seed 2"  # a finished example
    assert page.locator("#class-tiles .tile img").count() == 4
    for size, name in ((DESK, "desk"), (PHONE, "phone")):
        page.set_viewport_size(size)
        page.wait_for_timeout(200)
        box = page.locator("#generate").bounding_box()
        assert box["y"] + box["height"] <= size["height"], f"Generate is out of sight on the {name}"
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    for tab in TABS:
        assert page.get_by_role("tab", name=tab).is_visible()
    assert page.get_by_text("Share", exact=True).count() == 0


def test_a_class_becomes_pictures_with_recipes_an_address_and_a_history(visit: Visit, tmp_path: Path) -> None:
    page = visit()
    generate(page, "golden retriever", count=2)
    finished(page, 2)
    says(page, "#status", "2 pictures")
    with page.expect_download() as event:
        page.get_by_label("Save golden retriever, seed 2").click()
    saved = tmp_path / "saved.png"
    event.value.save_as(saved)
    assert event.value.suggested_filename == "207_golden-retriever_seed2.png"
    assert read_recipe(saved).class_id == 207
    page.get_by_label("More like golden retriever, seed 3").click()
    finished(page, 4)
    assert "variation" in page.inner_text("#pictures")
    assert "like=" in page.url and "class=golden+retriever" in page.url
    page.get_by_label("Use the settings of").nth(1).click()
    page.wait_for_function("document.querySelector('#like textarea, #like input').value !== ''")
    page.reload()  # the address makes the same pictures, the history is still there
    finished(page, 4)
    assert page.locator("#history .past button").count() == 2
    page.locator("#history .past button").nth(1).click()
    finished(page, 2)
    open_more(page)
    assert page.input_value("#seed input") == "2"


def test_problems_stand_beside_their_fields_until_they_are_mended(visit: Visit, capfd: Any) -> None:
    page = visit()
    open_more(page)
    page.fill("#seed input", "-1")
    generate(page, "golden retreiver")
    says(page, "#problem-class", "No class is called “golden retreiver”")
    page.fill("#count input", "")
    page.click("#generate")
    says(page, "#problem-seed", "from 0 to 4,294,967,295")
    says(page, "#problem-count", "from 1 to 16")
    page.fill("#seed input", "-2")
    page.wait_for_timeout(300)
    assert page.locator("#problem-seed .problem").count() == 1
    page.fill("#seed input", "5")
    page.fill("#count input", "1")
    page.locator("#problem-class button", has_text="golden retriever").click()
    page.wait_for_function("document.querySelectorAll('.problem').length === 0")
    assert page.input_value(CLASS) == "golden retriever"
    page.click("#generate")
    finished(page, 1)
    assert "Traceback" not in "".join(capfd.readouterr())


def test_classes_are_found_by_what_they_are_and_picked_by_click_and_keyboard(visit: Visit) -> None:
    page = visit()
    page.fill(CLASS, "church; dog")
    page.wait_for_function("document.querySelectorAll('#class-tiles .tile').length === 2")  # both of the preset's dogs
    page.click("#class-tiles .tile >> nth=1")
    page.wait_for_function(f"document.querySelector('{CLASS}').value === 'church; English springer'")
    page.wait_for_function("document.querySelectorAll('#class-tiles .tile').length === 4")
    page.locator("#class-tiles .tile[tabindex='0']").focus()
    page.keyboard.press("End")
    page.keyboard.press("Enter")
    page.wait_for_function(f"document.querySelector('{CLASS}').value === 'church; cheeseburger'")
    assert page.locator("#class-tiles .tile[tabindex='0']").count() == 1


def test_a_download_is_asked_for(visit: Visit) -> None:
    page = visit("?class=goldfish&preset=pretrained-256-128")
    says(page, "#problem-preset", "234 MB, fetched once")
    page.get_by_role("button", name="Fetch 234 MB and generate").wait_for()  # the folded part has opened
    assert page.get_attribute("#pictures .sheet", "data-state") == "example"


def test_rejection_shows_its_acceptance(visit: Visit) -> None:
    pytest.importorskip("efficientnet_lite_pytorch", reason="rejection needs the extra eval")
    page = visit()
    open_more(page)
    page.fill("#threshold input[type=number]", "0.95")
    page.keyboard.press("Tab")
    generate(page, "207", count=1)
    finished(page, 1)
    says(page, "#status", " drawn (")


def test_two_browsers_do_not_mix_and_one_job_runs_at_a_time(visit: Visit, studio: TinyStudio) -> None:
    studio.most_at_once, studio.gate = 0, threading.Event()
    first, second = visit(), visit()
    try:
        generate(first, "goldfish")
        first.wait_for_selector("#pictures [alt='goldfish, seed 2']")  # its job holds the queue until the gate opens
        assert first.locator("#pictures .waiting").count() == 1
        generate(second, "207")
        says(second, "#status", "In the queue")
        assert second.locator("#pictures .waiting").count() == 2  # the room for its pictures is there
    finally:
        studio.gate.set()
        studio.gate = None
    finished(first, 2)
    finished(second, 2)
    assert first.locator("#pictures [alt^='golden']").count() == 0
    assert second.locator("#pictures [alt^='goldfish']").count() == 0
    assert studio.most_at_once == 1


class Turnstile(threading.Semaphore):
    """A gate that lets one picture through for each `release`."""

    def wait(self, seconds: float) -> bool:
        return self.acquire(timeout=seconds)


def test_cancel_keeps_what_was_finished(visit: Visit, studio: TinyStudio) -> None:
    gate = Turnstile(0)
    studio.gate = gate
    page = visit()
    try:
        generate(page, "207", count=16)
        says(page, "#status", "Making picture 2 of 16")  # the example has the first one's name, so that says nothing
        with page.expect_request("**/cancel"):
            page.click("#cancel")
        for _ in range(12):  # one picture after the other, until the server has taken the request
            gate.release()
            page.wait_for_timeout(1000)
            if "Stopped" in page.inner_text("#status"):
                break
    finally:
        studio.gate = None
        gate.release(16)
    says(page, "#status", "of 16 pictures are finished")
    assert page.locator("#pictures .waiting").count() == 0 and 0 < page.locator("#pictures img").count() < 16
    generate(page, "goldfish", count=1)  # the queue is free again
    finished(page, 1)


def test_a_photo_is_enlarged_compared_and_can_be_kept(visit: Visit, tmp_path: Path, capfd: Any) -> None:
    Image.linear_gradient("L").resize((40, 30)).save(tmp_path / "photo.png")
    (tmp_path / "damaged.jpg").write_bytes(b"\xff\xd8\xff\xe0 nothing")
    page = visit()
    page.get_by_role("tab", name="Photo").click()
    assert "up to 16.8 megapixels" in page.inner_text("body")
    page.click("#enlarge")
    says(page, "#problem-photo", "Choose a photo first")
    page.set_input_files("#photo input[type=file]", tmp_path / "damaged.jpg")
    says(page, "#problem-photo", "damaged.jpg cannot be read as a picture")
    page.get_by_label("Clear").first.click()
    page.wait_for_selector("#photo input[type=file]", state="attached")
    page.set_input_files("#photo input[type=file]", tmp_path / "photo.png")
    says(page, "#photo-facts", "40 x 30 pixels, will become 160 x 120")
    assert page.locator("#problem-photo .problem").count() == 0
    page.click("#enlarge")
    page.wait_for_selector("#compare .stage")
    says(page, "#photo-status", "40 x 30 became 160 x 120 with photo")
    assert page.locator("#compare .tag").all_inner_texts() == ["bicubic", "photo"]
    page.locator("#compare .stage").focus()
    page.keyboard.press("Shift+ArrowRight")
    assert page.locator("#compare .divider").evaluate("e => e.style.left") == "55%"
    page.keyboard.press("1")
    assert page.locator("#compare [aria-pressed=true]").inner_text() == "100 %"
    assert "scale(1)" in page.locator("#compare .plane").first.evaluate("e => e.style.transform")
    with page.expect_download() as event:
        page.click("#large a")
    event.value.save_as(tmp_path / "large.png")
    with Image.open(tmp_path / "large.png") as large:
        assert (large.size, event.value.suggested_filename) == ((160, 120), "photo_x4.png")
    assert "Traceback" not in "".join(capfd.readouterr())


def test_a_photo_is_found_and_drawn_as_something_else(visit: Visit, tmp_path: Path, capfd: Any) -> None:
    dog = photo(tmp_path / "dog.png", 90, 80)
    (tmp_path / "damaged.jpg").write_bytes(b"\xff\xd8\xff\xe0 nothing")
    page = visit()
    page.get_by_role("tab", name="Invert").click()
    page.click("#invert")
    says(page, "#problem-invert-photo", "Choose a photo first")
    page.set_input_files("#invert-photo input[type=file]", tmp_path / "damaged.jpg")
    says(page, "#problem-invert-photo", "damaged.jpg cannot be read as a picture")
    page.locator("#invert-photo").get_by_label("Clear").click()
    page.wait_for_selector("#invert-photo input[type=file]", state="attached")
    open_invert(page, dog, 10)
    says(page, "#invert-facts", "90 x 80 pixels, of which this square of 80 x 80 is taken.")
    assert page.locator("#problem-invert-photo .problem").count() == 0
    page.fill("#invert-class textarea, #invert-class input", "church")
    page.click("#invert")
    says(page, "#problem-invert-class", "“church” is no class that this preset can draw")
    page.locator("#problem-invert-class button", has_text="golden retriever").click()
    page.wait_for_function("document.querySelectorAll('.problem').length === 0")
    assert not page.locator("#redraw").is_visible()  # nothing was found yet
    page.click("#invert")
    page.wait_for_selector("#invert-compare .stage")
    says(page, "#invert-status", "In 10 steps the likeness to your photo went from")
    says(page, "#invert-status", "Drawn as golden retriever.")
    assert page.locator("#invert-compare .tag").all_inner_texts() == ["your photo", "what came back"]
    for name in ("dog_inverted.png", "dog.safetensors"):
        with page.expect_download() as event:
            page.click(f"#invert-files a[download='{name}']")
        assert event.value.suggested_filename == name
        event.value.save_as(tmp_path / name)
    recipe = read_recipe(tmp_path / "dog_inverted.png")
    assert recipe.class_id == 207 and recipe.latents is not None
    assert load_latents(tmp_path / "dog.safetensors")[1].sampler == "tiny"
    page.click("#redraw")
    says(page, "#problem-as-class", "Which class?")
    page.locator("#as-class-tiles .tile", has_text="goldfish").click()
    page.wait_for_function("document.querySelectorAll('#problem-as-class .problem').length === 0")
    page.click("#redraw")
    page.wait_for_selector("#next-pictures [alt='dog as goldfish']")
    page.click("#vary")
    says(page, "#next-status", "4 variations by 0.5.")
    assert page.locator("#next-pictures [alt^='variation of dog']").count() == 4
    page.click("#morph")
    page.wait_for_selector("#next-film img")
    says(page, "#next-film", "From dog to the same as goldfish, in 16 frames")
    page.click("#between")
    says(page, "#problem-next-page", "Find a second photo")
    assert "Traceback" not in "".join(capfd.readouterr())


def test_a_search_can_be_stopped_and_another_begun(
    visit: Visit, studio: TinyStudio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, find_photo = Turnstile(0), inverting.find_photo

    def gated(*args: Any, **how: Any) -> Any:
        work = find_photo(*args, **how)
        while True:
            try:
                done = next(work)
            except StopIteration as finished:
                return finished.value
            yield done
            gate.wait(60)

    monkeypatch.setattr(inverting, "find_photo", gated)
    page = visit()
    open_invert(page, photo(tmp_path / "dog.png", 90, 80), 300)
    assert not page.locator("#cancel-invert").is_visible()
    try:
        page.click("#invert")
        says(page, "#invert-status", "Step 1 of 300.")
        with page.expect_request("**/cancel"):
            page.click("#cancel-invert")
        for _ in range(200):  # one step after the other, until the server has taken the request
            gate.release()
            page.wait_for_timeout(100)
            if "Stopped" in page.inner_text("#invert-status"):
                break
    finally:
        gate.release(1000)
    says(page, "#invert-status", "of 300: nothing was written.")
    assert not page.locator("#redraw").is_visible() and not page.locator("#cancel-invert").is_visible()
    fill_slider(page, "#invert-steps", 0)
    page.click("#invert")  # the queue is free again
    page.wait_for_selector("#invert-compare .stage")
    says(page, "#invert-status", "Your photo and the first guess are")


def test_the_steps_and_two_decoders_are_shown(visit: Visit) -> None:
    page = visit()
    page.get_by_role("tab", name="Steps").click()
    page.click("#stages")
    page.wait_for_selector("#pair .stage")
    for caption in ("sample (16)", "decoded 1 (64)", "low band 2 (32)", "decoded 2 (128)", "details diagonal"):
        says(page, "#steps", caption)
    assert page.locator("#pair .tag").all_inner_texts() == ["the preset's own", "iwt"]


def test_a_walk_becomes_an_animation_with_its_recipe(visit: Visit) -> None:
    page = visit()
    page.get_by_role("tab", name="Walk").click()
    page.wait_for_selector("#to-tiles .tile")  # the tab is there
    page.click("#walk")
    says(page, "#problem-to", "“church” is no class that this preset can draw")
    page.locator("#to-tiles .tile", has_text="cheeseburger").click()
    page.wait_for_function("document.querySelectorAll('#problem-to .problem').length === 0")
    page.get_by_text("More", exact=True).last.click()
    fill_slider(page, "#frames", 4)
    page.click("#walk")
    page.wait_for_selector("#film img")
    says(page, "#walked", "4 frames")
    says(page, "#film", "From golden retriever, seed 2, to cheeseburger, seed 2")
    answer = page.request.get(page.evaluate("document.querySelector('#film img').src"))
    with Image.open(io.BytesIO(answer.body())) as film:
        assert getattr(film, "n_frames", 1) == 6


def test_axe_finds_nothing_serious(visit: Visit, tmp_path: Path) -> None:
    package = pytest.importorskip("axe_core_python", reason="axe-core comes with the package axe-core-python")
    script = next(Path(package.__file__).parent.rglob("axe.min.js")).read_text("utf-8")
    dog = photo(tmp_path / "dog.png", 90, 80)
    page = visit(color_scheme="light")
    page.evaluate(script)
    for tab in TABS:
        page.get_by_role("tab", name=tab).click()
        page.get_by_text("More", exact=True).locator("visible=true").click()
        if tab == "Invert":  # with all that a search unfolds
            open_invert(page, dog, 0)
            page.click("#invert")
            page.locator("#vary").click()
            says(page, "#next-status", "4 variations")
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            page.wait_for_function("dark => document.body.classList.contains('dark') === dark", arg=scheme == "dark")
            page.wait_for_timeout(400)
            found = page.evaluate("axe.run({runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa']})")["violations"]
            serious = [(v["id"], [n["html"][:150] for n in v["nodes"]][:3]) for v in found if v["impact"] in GRAVE]
            assert serious == [], f"{tab}, {scheme}"


def test_a_taken_port_and_a_preset_without_weights_are_sentences(address: str, studio: TinyStudio) -> None:
    from nsbgan_infer.serving.demo import build_demo
    from nsbgan_infer.serving.page import build_page

    port = int(address.rstrip("/").rsplit(":", 1)[1])
    with pytest.raises(UsageError, match="Choose another --port"), serve_in_thread(build_demo(studio), port=port):
        pass
    with pytest.raises(CheckpointError, match="Nobody has published weights of learned-w-64"):
        build_page(studio, "learned-w-64")
