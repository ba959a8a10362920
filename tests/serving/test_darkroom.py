"""One's own photo on the page: looked at, shrunk, enlarged, and laid over its plain enlargement."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_studio import TinyStudio

from nsbgan_infer.photos import MAX_PIXELS, open_photo
from nsbgan_infer.serving import darkroom
from nsbgan_infer.serving.actions import Studio
from nsbgan_infer.serving.darkroom import Enlarged, cut, cut_plain, enlarge_for_page, look, shrink
from nsbgan_infer.serving.problems import PageError, Problem
from nsbgan_infer.storage.shipped import default_upscaler


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return TinyStudio(tmp_path / "studio")


def enlarge(studio: Studio, file: Path, *decoders: str) -> Enlarged:
    steps = enlarge_for_page(studio, file, decoders)
    while True:
        try:
            next(steps)
        except StopIteration as finished:
            made: Enlarged = finished.value
            return made


def problem(studio: Studio, file: Path, **how: Any) -> Problem:
    with pytest.raises(PageError) as error:
        look(studio, file, **how)
    return error.value.problems[0]


def gradient(size: tuple[int, int]) -> Image.Image:
    return Image.merge("RGB", [Image.linear_gradient("L").resize(size), Image.radial_gradient("L").resize(size)] * 1
                       + [Image.new("L", size, 90)])  # fmt: skip


def test_a_photo_is_looked_at_before_the_work(studio: Studio, tmp_path: Path) -> None:
    gradient((800, 400)).save(tmp_path / "wide.png")
    looked = look(studio, tmp_path / "wide.png")
    assert (looked.name, looked.size) == ("wide.png", (800, 400))
    with Image.open(studio.folder / looked.thumb) as small:
        assert small.size == (320, 160)


def test_a_photo_that_is_too_large_offers_to_be_shrunk(studio: Studio, tmp_path: Path) -> None:
    gradient((60, 40)).save(tmp_path / "large.png")
    found = problem(studio, tmp_path / "large.png", max_pixels=1000)
    assert found.text.startswith("large.png has 60 x 40 pixels (0.0 megapixels), more than the")
    assert [c.act for c in found.choices] == ["shrink"]
    small = shrink(studio, tmp_path / "large.png", max_pixels=1000)
    assert small.name == "large_smaller.png" and open_photo(small).size == (38, 25)
    assert look(studio, small, max_pixels=1000).size == (38, 25)


def test_what_is_no_picture_is_said_without_a_path(studio: Studio, tmp_path: Path) -> None:
    whole = tmp_path / "photo.jpg"
    gradient((64, 64)).save(whole)
    for name, content in (("cut.jpg", whole.read_bytes()[:400]), ("text.jpg", b"hello"), ("empty.png", b"")):
        (tmp_path / name).write_bytes(content)
        found = problem(studio, tmp_path / name)
        assert found.field == "photo" and found.text.startswith(f"{name} cannot be read as a picture.")
        assert str(tmp_path) not in found.text and "--" not in found.text and "`" not in found.text


def test_another_tab_has_the_problem_at_its_own_field_and_may_show_the_square(studio: Studio, tmp_path: Path) -> None:
    gradient((800, 400)).save(tmp_path / "wide.png")
    found = problem(studio, tmp_path / "wide.png", max_pixels=1000, field="elsewhere")
    assert found.field == "elsewhere" and [c.act for c in found.choices] == ["shrink"]
    with Image.open(studio.folder / look(studio, tmp_path / "wide.png", square=True).thumb) as small:
        assert small.size == (160, 160)


def test_the_limit_is_that_of_the_command(studio: Studio) -> None:
    assert MAX_PIXELS == 1 << 24 and "16.8 megapixels" in darkroom.limits_text()


def test_the_result_is_a_file_and_a_comparison_of_one_size(studio: Studio, tmp_path: Path) -> None:
    Image.new("L", (20, 12), 128).save(tmp_path / "photo.png")
    made = enlarge(studio, tmp_path / "photo.png", "iwt")
    assert "20 x 12 became 80 x 48 with iwt" in made.report
    ((name, file),) = made.files
    with Image.open(file) as saved:
        assert (name, saved.size, saved.mode, Path(file).name) == ("iwt", (80, 48), "L", "photo_x4.png")
    assert [s["label"] for s in made.compared["sides"]] == ["bicubic", "iwt"] and made.compared["tile"] == 0
    for side in made.compared["sides"]:
        with Image.open(studio.folder / side["url"] / "whole.png") as shown:
            assert shown.size == (80, 48) and shown.getpixel((40, 24)) == (128, 128, 128)


def test_two_decoders_stand_side_by_side(studio: Studio, tmp_path: Path) -> None:
    gradient((20, 12)).save(tmp_path / "photo.png")
    made = enlarge(studio, tmp_path / "photo.png", "bicubic", "iwt")
    assert [Path(f).name for _, f in made.files] == ["photo_x4_bicubic.png", "photo_x4_iwt.png"]
    assert [s["label"] for s in made.compared["sides"]] == ["bicubic", "bicubic", "iwt"]


def test_the_best_decoder_is_taken_and_its_licence_named(studio: Studio, tmp_path: Path) -> None:
    gradient((16, 16)).save(tmp_path / "photo.png")
    made = enlarge(studio, tmp_path / "photo.png")
    assert made.files[0][0] == default_upscaler() and "licence of its weights: " in made.report


def test_a_photo_on_the_page_is_treated_as_by_the_command(studio: Studio, tmp_path: Path) -> None:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Phone"
    Image.new("RGB", (20, 12)).save(tmp_path / "phone.jpg", icc_profile=profile, exif=exif, dpi=(72, 72))
    with Image.open(enlarge(studio, tmp_path / "phone.jpg", "iwt").files[0][1]) as saved:
        assert saved.size == (48, 80) and saved.info["icc_profile"] == profile
        assert saved.getexif()[0x010F] == "Phone" and saved.info["dpi"][0] == pytest.approx(288, abs=0.1)


def test_enlarging_tells_its_parts_and_writes_nothing_when_cancelled(studio: Studio, tmp_path: Path) -> None:
    Image.new("RGB", (600, 300)).save(tmp_path / "wide.png")
    before = set(studio.folder.rglob("*"))
    steps = enlarge_for_page(studio, tmp_path / "wide.png", ("iwt",))
    assert next(steps) == (1, 6)
    steps.close()
    assert set(studio.folder.rglob("*")) == before


def test_large_results_are_cut_into_tiles_that_fit_together(studio: Studio, tmp_path: Path) -> None:
    image = gradient((500, 40))
    image.resize((2000, 160), Image.Resampling.BICUBIC).save(tmp_path / "large.png")
    image.save(tmp_path / "small.png")
    folder = studio.new_folder()
    cut(studio, open_photo(tmp_path / "large.png"), folder / "a", "a")
    cut_plain(studio, open_photo(tmp_path / "small.png"), (2000, 160), folder / "b")
    with Image.open(tmp_path / "large.png") as large:
        wanted = np.asarray(large).astype(int)
    for name in "ab":
        assert sorted(p.name for p in (folder / name).iterdir()) == ["0_0.jpg", "0_1.jpg", "whole.jpg"]
        tiles = [np.asarray(Image.open(folder / name / f"0_{i}.jpg")).astype(int) for i in (0, 1)]
        assert np.abs(np.concatenate(tiles, axis=1) - wanted).max() <= 8  # JPEG's
        with Image.open(folder / name / "whole.jpg") as whole:
            assert whole.size == (1600, 128)
