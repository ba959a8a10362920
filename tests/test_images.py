"""Step 5: eight bits, files, names, grids, and recipes that come back, or are refused when they are hostile."""

from __future__ import annotations

import io
import json
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from nsbgan_infer.errors import ImageFileError, NonFiniteError, UsageError, WrongTypeError
from nsbgan_infer.images import (
    RECIPE_LIMIT,
    Format,
    Recipe,
    encode_image,
    file_name,
    format_of,
    grid,
    open_image,
    read_recipe,
    save_image,
    to_pil,
    to_uint8,
)

RECIPE = Recipe(
    preset="embedded",
    sampler="embedded-w-64",
    decoders=("subband-w", "subband-w"),
    resolution=512,
    class_id=207,
    seed=4,
    truncation=0.5,
    truncation_mode="std",
    device="cpu",
    dtype="fp32",
    batch_size=8,
    weights={"embedded-w-64": "ab" * 32},
    versions={"nsbgan_infer": "0.1.0", "torch": "2.13.0+cpu"},
)
few = settings(deadline=None, max_examples=40)  # machines are slow and shared
FORMATS: tuple[Format, ...] = ("png", "webp", "jpeg")
names = st.text(st.characters(categories=("L", "N", "P", "S"), include_characters=" "), max_size=12).filter(
    str.isprintable
)
counts = st.integers(0, 2**32 - 1)
recipes = st.builds(
    Recipe,
    preset=names,
    sampler=names,
    decoders=st.lists(names, max_size=3).map(tuple),
    resolution=counts,
    class_id=st.none() | st.integers(0, 999),
    seed=counts,
    truncation=st.floats(0, 1, exclude_min=True),
    truncation_mode=names,
    device=names,
    dtype=names,
    batch_size=counts,
    weights=st.dictionaries(names, names, max_size=3),
    versions=st.dictionaries(names, names, max_size=3),
    engine=names,
    attempt=counts,
    rejection=st.none() | st.dictionaries(names, st.integers() | names, max_size=3),
)


def picture(side: int = 16) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8))


@few
@given(recipes)
def test_any_recipe_survives_json(recipe: Recipe) -> None:
    text = recipe.to_json()
    assert text.isascii() and "\n" not in text
    assert Recipe.from_json(text) == recipe


@few
@given(recipe=recipes, fmt=st.sampled_from(FORMATS))
def test_any_recipe_survives_a_file(recipe: Recipe, fmt: Format, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("recipe") / f"x.{fmt}"
    path.write_bytes(encode_image(picture(), fmt, recipe=recipe))
    assert read_recipe(path) == recipe


def test_png_keeps_every_pixel_and_the_others_nearly(tmp_path: Path) -> None:
    flat = Image.new("RGB", (32, 32), (10, 200, 90))
    for name, tolerance in (("a.png", 0), ("a.webp", 3), ("a.jpg", 3)):
        save_image(flat, tmp_path / name)
        back = np.asarray(open_image(tmp_path / name).convert("RGB"), dtype=int)
        assert np.abs(back - np.asarray(flat, dtype=int)).max() <= tolerance
    save_image(picture(), tmp_path / "b.png", recipe=RECIPE)
    assert np.array_equal(np.asarray(open_image(tmp_path / "b.png")), np.asarray(picture()))


def test_an_image_without_a_recipe_says_so(tmp_path: Path) -> None:
    for fmt in FORMATS:
        (tmp_path / fmt).write_bytes(encode_image(picture(), fmt))
        with pytest.raises(ImageFileError, match="carries no recipe"):
            read_recipe(tmp_path / fmt)


def test_a_recipe_holds_no_paths() -> None:
    assert not {"file", "path", "folder"} & json.loads(RECIPE.to_json()).keys()


DAMAGED = [
    "",
    "null",
    "[]",
    "3",
    '"text"',
    "{}",
    '{"format": 1}',
    '{"format": 1, "decoders": []}',
    "[" * 100_000,
    '{"a":' * 50_000,
    "\x00",
    "x" * (RECIPE_LIMIT + 1),
    RECIPE.to_json()[:-5],
]
HOSTILE_FIELDS: dict[str, list[object]] = {
    "preset": ["x" * 300, 3, None, ["a"], {"a": 1}, "a\nb", "\x1b[31m"],
    "decoders": ["subband-w", [1], [None], ["x" * 300], {"a": 1}, None],
    "resolution": [-1, 1.5, True, "512", 10**400, None],
    "class_id": [-1, 1000, True, 207.0, "207"],
    "seed": [-1, 2**32, 10**400, None, "0"],
    "truncation": [0, -1, 1.5, float("nan"), float("inf"), True, "1", 10**400, None],
    "weights": [[], "x", {"a": 1}, {"a": "x" * 300}, {"a\nb": "c"}],
    "versions": [[], {"torch": None}],
    "rejection": ["x", 3, []],
    "format": [2, "1", None],
    "__class__": ["x"],
    "extra": [1],
}


@pytest.mark.parametrize("text", DAMAGED, ids=range(len(DAMAGED)))
def test_damaged_recipes_are_one_sentence(text: str) -> None:
    with pytest.raises(ImageFileError) as error:
        Recipe.from_json(text)
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


@pytest.mark.parametrize(("key", "value"), [(k, v) for k, vs in HOSTILE_FIELDS.items() for v in vs], ids=str)
def test_hostile_fields_are_refused(key: str, value: object) -> None:
    values = json.loads(RECIPE.to_json()) | {key: value}
    with pytest.raises(ImageFileError):
        Recipe.from_json(json.dumps(values))


@few
@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_text_in_the_place_of_a_recipe_is_refused_cleanly(text: bytes) -> None:
    with pytest.raises(ImageFileError):
        Recipe.from_json(text.decode("utf-8", "replace"))


def test_hostile_chunks_of_a_png_are_refused(tmp_path: Path) -> None:
    for name, chunk in {
        "huge": b"nsbgan\x00\x01\x00\x00\x00" + zlib.compress(b"a" * (80 << 20)),  # a bomb in an iTXt chunk
        "torn": b"nsbgan\x00\x01\x00\x00\x00" + b"not compressed",
        "list": b"nsbgan\x00\x00\x00\x00\x00[1, 2]",
    }.items():
        path = tmp_path / f"{name}.png"
        path.write_bytes(_with_chunk(encode_image(picture(), "png"), b"iTXt", chunk))
        with pytest.raises(ImageFileError):
            read_recipe(path)


def _with_chunk(png: bytes, kind: bytes, data: bytes) -> bytes:
    """The file with a chunk after its header."""
    chunk = struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return png[:33] + chunk + png[33:]


@few
@given(data=st.data())
def test_files_with_a_byte_changed_never_end_in_a_traceback(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    fmt = data.draw(st.sampled_from(FORMATS))
    whole = bytearray(encode_image(picture(), fmt, recipe=RECIPE))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(whole)))
    path = tmp_path_factory.mktemp("mutated") / f"x.{fmt}"
    path.write_bytes(bytes(whole[:cut]) if data.draw(st.booleans()) else bytes(whole))
    try:
        assert isinstance(read_recipe(path), Recipe)
    except ImageFileError as error:
        assert "\n" not in str(error)


def test_an_image_bomb_is_refused(tmp_path: Path) -> None:
    png = bytearray(encode_image(picture(), "png"))
    png[16:24] = struct.pack(">II", 60_000, 60_000)
    png[29:33] = struct.pack(">I", zlib.crc32(png[12:29]))
    (tmp_path / "bomb.png").write_bytes(png)
    with pytest.raises(ImageFileError, match="is refused"):
        open_image(tmp_path / "bomb.png")


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"RIFF\x00\x00\x00\x00WEBPVP8 "])
def test_what_is_no_image_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(ImageFileError, match="not an image that can be read"):
        open_image(tmp_path / "x.png")
    with pytest.raises(ImageFileError, match="No such image"):
        open_image(tmp_path / "none.png")


def test_eight_bits_are_rounded_and_clamped() -> None:
    values = torch.tensor([-1.0, 0.0, 0.4999 / 255, 0.5001 / 255, 0.5, 1.0, 7.0]).view(1, 1, 1, 7).expand(1, 3, 1, 7)
    assert to_uint8(values)[0, 0, :, 0].tolist() == [0, 0, 0, 1, 128, 255, 255]
    assert to_uint8(values.bfloat16()).dtype == np.uint8
    with pytest.raises(NonFiniteError, match="Step 5"):
        to_uint8(torch.full((1, 3, 2, 2), float("nan")))


def test_channels_stay_red_green_blue() -> None:
    bars = torch.eye(3).view(1, 3, 1, 3).expand(1, 3, 2, 3)
    image = to_pil(bars)[0]
    assert [image.getpixel((x, 0)) for x in range(3)] == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]


def test_names_begin_with_the_class_id() -> None:
    assert file_name(207, 0) == "207_golden-retriever_seed0.png"
    assert file_name(1, 12, "jpeg") == "001_goldfish_seed12.jpg"
    assert file_name(None, 3, "webp") == "seed3.webp"


def test_the_format_is_told_by_the_suffix() -> None:
    assert [format_of(Path(n)) for n in ("a.PNG", "a.jpeg", "a.jpg", "a.webp")] == ["png", "jpeg", "jpeg", "webp"]
    with pytest.raises(UsageError, match="end it in"):
        format_of(Path("a.gif"))


def test_a_grid_places_pictures_row_by_row() -> None:
    colours = [(i * 40, 0, 0) for i in range(5)]
    sheet = grid([Image.new("RGB", (4, 3), c) for c in colours], columns=2, gap=1)
    assert sheet.size == (9, 11)
    assert [sheet.getpixel((k % 2 * 5, k // 2 * 4)) for k in range(5)] == colours
    assert sheet.getpixel((4, 0)) == (255, 255, 255) and sheet.getpixel((6, 9)) == (255, 255, 255)
    with pytest.raises(UsageError, match="one size"):
        grid([Image.new("RGB", (4, 4)), Image.new("RGB", (4, 5))], columns=2)
    with pytest.raises(UsageError, match="at least one"):
        grid([], columns=2)


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.png"
    save_image(picture(), path, recipe=RECIPE)
    before = path.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(Exception, match="No space left on device"):
        save_image(picture(8), path)
    monkeypatch.undo()
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["x.png"]


def test_png_text_of_others_is_no_recipe(tmp_path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("Description", replace(RECIPE, seed=1).to_json())
    buffer = io.BytesIO()
    picture().save(buffer, "PNG", pnginfo=info)
    (tmp_path / "x.png").write_bytes(buffer.getvalue())
    with pytest.raises(ImageFileError, match="carries no recipe"):
        read_recipe(tmp_path / "x.png")


def test_paths_may_be_texts_and_other_types_get_a_sentence(tmp_path: Path) -> None:
    save_image(Image.new("RGB", (4, 4)), str(tmp_path / "a.png"))
    assert open_image(str(tmp_path / "a.png")).size == (4, 4)
    with pytest.raises(WrongTypeError, match="not a ndarray"):
        save_image(np.zeros((4, 4, 3)), tmp_path / "b.png")  # type: ignore[arg-type]
