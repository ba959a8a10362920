"""Every script in examples/ runs as it stands and makes the files that the table in examples/README.md names."""

from __future__ import annotations

import json
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nsbgan_infer import registry
from nsbgan_infer.images import read_recipe
from nsbgan_infer.storage import shipped

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
ROW = re.compile(r"\| \[(\w+\.py)\]\(\1\) \| .+ \| (.+) \|")
TABLE = {m[1]: re.findall(r"`([^`]+)`", m[2]) for m in ROW.finditer((EXAMPLES / "README.md").read_text("utf-8"))}


def test_the_table_names_every_script() -> None:
    assert set(TABLE) == {path.name for path in EXAMPLES.glob("*.py")}


# Here the decoder is not what an example shows, so interpolation stands in its place: a tenth of the time.
PLAIN = {
    "bulk.py",
    "class_sheet.py",
    "decoders_side_by_side.py",
    "own_decoder.py",
    "rejection.py",
    "truncation_sheet.py",
    "walks.py",
}
# Seconds a picture each; tests/decoders/test_conformance.py decodes with all of them.
HEAVY = {"esrgan-p", "esrgan-w", "unet-p", "unet-w"}


@pytest.mark.parametrize("script", sorted(TABLE))
def test_an_example_makes_its_files(script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if script in PLAIN:
        defaults = {"generate": {"wavelet": "iwt", "gaussian": "bicubic"}}
        lighter = {**shipped.manifest(), "defaults": defaults}
        monkeypatch.setattr(shipped, "manifest", lambda: lighter)
    if script == "decoders_side_by_side.py":
        known = registry.entries

        def without_heavy(kind: registry.Kind) -> dict[str, registry.Entry]:
            return {name: row for name, row in known(kind).items() if name not in HEAVY}

        monkeypatch.setattr(registry, "entries", without_heavy)
    monkeypatch.setattr(sys, "argv", [script])
    runpy.run_path(str(EXAMPLES / script), run_name="__main__")
    for name in TABLE[script]:
        file = tmp_path / "out/examples" / name
        assert file.is_file()
        if file.suffix != ".jsonl":
            check_picture(file)
    if script in CHECKS:
        CHECKS[script](tmp_path / "out/examples")


def check_picture(file: Path) -> None:
    with Image.open(file) as image:
        assert np.asarray(image.convert("RGB")).std() > 20  # not flat


def cells(file: Path, width: int) -> list[bytes]:
    """The cells of the first row of a sheet, without their labels."""
    with Image.open(file) as image:
        sheet = image.convert("RGB")
        return [sheet.crop((x, width // 4, x + width, width)).tobytes() for x in range(0, sheet.width, width)]


def one_image(out: Path) -> None:
    recipe = read_recipe(out / "one_image.png")
    assert (recipe.class_id, recipe.seed, recipe.resolution) == (207, 2, 512)


def walks(out: Path) -> None:
    for name in ("walk_latents", "walk_classes"):
        with Image.open(out / f"{name}.webp") as film:
            assert getattr(film, "n_frames", 1) == 22  # 12 there, 10 back
    assert (out / "walk_latents.webp").read_bytes() != (out / "walk_classes.webp").read_bytes()


def truncation_sheet(out: Path) -> None:
    columns = cells(out / "truncation_sheet.webp", 256)
    assert len(columns) == len(set(columns)) == 10


def decoders(out: Path) -> None:
    columns = cells(out / "decoders_side_by_side.png", 256)
    assert len(set(columns)) == len(columns) >= 5


def enlarged(out: Path) -> None:
    plain, decoded = cells(out / "enlarge_photo.png", 512)
    assert plain != decoded


def bulk(out: Path) -> None:
    lines = [json.loads(line) for line in (out / "bulk/manifest.jsonl").read_text().splitlines()]
    assert len(lines) == 24 and len({line["class"] for line in lines}) > 5


def own_decoder(out: Path) -> None:
    plain, mine = cells(out / "own_decoder/own_decoder.png", 512)
    assert plain != mine


CHECKS = {
    "one_image.py": one_image,
    "walks.py": walks,
    "truncation_sheet.py": truncation_sheet,
    "decoders_side_by_side.py": decoders,
    "enlarge_photo.py": enlarged,
    "bulk.py": bulk,
    "own_decoder.py": own_decoder,
}
