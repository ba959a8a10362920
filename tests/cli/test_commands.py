"""The other commands: classes, models, plan, inspect, regenerate, convert, interpolate, plugins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import Run
from photo_file import photo
from PIL import Image
from tiny import CLASSES, cache_tiny_biggan, ship_tiny_weights, tiny_decoder, tiny_sampler

from nsbgan_infer.images import read_recipe, save_image
from nsbgan_infer.pipeline import NsbPipeline
from nsbgan_infer.presets import PRESETS
from nsbgan_infer.reductions import REDUCTIONS
from nsbgan_infer.registry import BUILT_IN, shipped_file
from nsbgan_infer.storage.components import load_component, save_component

COVERS = [
    "cli.classes",
    "cli.convert",
    "cli.inspect",
    "cli.interpolate",
    "cli.loading",
    "cli.models",
    "cli.plan",
    "cli.plugins",
    "cli.regenerate",
]

JsonRun = Callable[..., Any]


class TestClasses:
    def test_all_of_them(self, run_json: JsonRun) -> None:
        rows = run_json("classes")["classes"]
        assert [r["id"] for r in rows] == list(range(1000))
        assert rows[207] == {"id": 207, "wnid": "n02099601", "names": ["golden retriever"]}

    @pytest.mark.parametrize("words", [["golden", "retriever"], ["207"], ["n02099601"], ["golden"]])
    def test_by_name_id_or_part(self, run: Run, words: list[str]) -> None:
        assert run("classes", *words).stdout == "207  n02099601  golden retriever\n"

    def test_those_of_a_sampler(self, run_json: JsonRun, run: Run, tmp_path: Path) -> None:
        file = save_component(tiny_sampler(), tmp_path / "tiny.safetensors")
        assert [r["id"] for r in run_json("classes", "--sampler", file)["classes"]] == list(CLASSES)
        assert len(run_json("classes", "--preset", "biggan-128")["classes"]) == 1000
        assert "cannot draw 'tabby'" in run("classes", "tabby", "--sampler", file, code=2).stderr
        assert "draws without classes" in run("classes", "--preset", "stylegan2-256-64", code=2).stderr


class TestModels:
    def test_everything_is_listed_with_its_facts(
        self, run_json: JsonRun, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ship_tiny_weights(tmp_path / "weights", monkeypatch)
        cache_tiny_biggan(128)
        value = run_json("models")
        parts = {p["name"]: p for kind in ("samplers", "decoders", "inverters", "classifiers") for p in value[kind]}
        assert parts.keys() >= {n for table in BUILT_IN.values() for n in table}
        assert [p["name"] for p in value["presets"]] == list(PRESETS)
        assert parts["biggan-deep-128"]["here"] and not parts["biggan-deep-256"]["here"]
        assert parts["biggan-deep-256"]["size"] == 234_411_737
        assert parts["subband-w"]["licence"] == "tests only" and parts["subband-w"]["size"] > 1000
        assert parts["iwt"] == parts["iwt"] | {"here": True, "licence": "none", "size": None}
        assert value["defaults"]["upscale"] == {"wavelet": "subband-w"}
        assert parts["efficientnet-lite0"]["licence"] == "Apache-2.0"
        assert [e["name"] for e in value["encoders"]] == list(REDUCTIONS)
        text = run("models").stdout
        assert "Encoders" in text and all(name in text for name in [*parts, *PRESETS])


class TestPlan:
    def test_what_generate_would_do(self, run_json: JsonRun, run: Run, private_cache: Path) -> None:
        arguments = ["--preset", "pretrained-256-128", "--class", "200-209", "-n", "2", "--decoder", "iwt"]
        value = run_json("plan", *arguments, "--out", "somewhere")
        assert (value["images"], value["resolution"], value["download"]) == (20, 512, 234_411_737)
        assert [s["step"] for s in value["steps"]] == ["2 samplers", "3 encoders", "4 decoders"]
        assert [s["shape"] for s in value["steps"]] == [[1, 3, 256, 256], [1, 3, 128, 128], [1, 3, 512, 512]]
        assert 24.0e9 < value["multiply_adds"] < 25.2e9  # measured by an exact layer list: 24.6
        text = run("plan", *arguments).stdout
        assert "234 MB" in text and "DeepMind" in text and "20 images of 512 x 512" in text
        assert not Path("somewhere").exists() and not list(private_cache.iterdir())

    def test_the_default_is_told_without_fetching(
        self, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ship_tiny_weights(tmp_path / "weights", monkeypatch)
        result = run("plan", "--class", "207", "--res", "256")
        assert "Using the preset embedded" in result.stderr and "1 image of 256 x 256" in result.stdout

    def test_it_refuses_what_generate_refuses(self, run: Run, pipeline_folder: Path) -> None:
        common = ["plan", "--pipeline", pipeline_folder]
        assert "cannot draw class 208" in run(*common, "-c", "208", code=2).stderr
        assert "it makes 64, 128" in run(*common, "-c", "207", "--res", "99", code=2).stderr
        assert "fetches nothing" in run("plan", "-c", "1", "--pipeline", "some/where", code=2).stderr


class TestInspect:
    def test_an_image(self, run_json: JsonRun, run: Run, pipeline_folder: Path) -> None:
        run("generate", "--pipeline", pipeline_folder, "-c", "207", "--seed", "3")
        value = run_json("inspect", "out/207_golden-retriever_seed0.png".replace("seed0", "seed3"))
        assert (value["kind"], value["width"]) == ("image", 128)
        assert (value["recipe"]["class_id"], value["recipe"]["seed"]) == (207, 3)
        assert "carries no recipe" in run("inspect", photo(Path("plain.png"))).stdout

    def test_a_checkpoint_and_a_pipeline(self, run_json: JsonRun, pipeline_folder: Path, tmp_path: Path) -> None:
        from nsbgan_infer.storage.files import sha256_of

        file = save_component(tiny_decoder(), tmp_path / "d.safetensors", info={"trained_on": "noise"})
        value = run_json("inspect", file)
        assert value["config"]["arch"] == "subband" and value["header"]["trained_on"] == "noise"
        assert value["reads"] == "wavelet"
        assert value["numbers"] == sum(p.numel() for p in tiny_decoder().parameters())
        assert value["dtypes"] == {"F32": value["tensors"]} and value["sha256"] == sha256_of(file)
        whole = run_json("inspect", pipeline_folder)
        assert whole["kind"] == "pipeline" and whole["parts"].keys() == {"sampler", "decoder-1"}
        assert whole["parts"]["sampler"]["config"]["classes"] == list(CLASSES)
        assert (whole["parts"]["sampler"]["makes"], whole["parts"]["decoder-1"]["reads"]) == ("wavelet", "wavelet")

    def test_what_it_does_not_open(self, run: Run, tmp_path: Path) -> None:
        torch.save({"a": torch.zeros(1)}, tmp_path / "old.pth")
        assert "nsbgan convert" in run("inspect", tmp_path / "old.pth", code=2).stderr
        (tmp_path / "text.png").write_text("hello")
        assert "not an image" in run("inspect", tmp_path / "text.png", code=2).stderr
        (tmp_path / "empty").mkdir()
        assert "holds neither" in run("inspect", tmp_path / "empty", code=2).stderr
        (tmp_path / "cut.safetensors").write_bytes(b"\xff" * 40)
        assert "not a safetensors file" in run("inspect", tmp_path / "cut.safetensors", code=2).stderr


class TestRegenerate:
    def test_the_same_image_comes_back(self, run: Run, pipeline_folder: Path) -> None:
        run("generate", "--pipeline", pipeline_folder, "-c", "217", "-n", "2", "--seed", "8", "--res", "64")
        source = Path("out/217_English-springer_seed9.png")
        source = source if source.exists() else next(Path("out").glob("217_*seed9.png"))
        assert "is not a preset" in run("regenerate", source, "-o", "again", code=2).stderr
        run("regenerate", source, "-o", "again", "--pipeline", pipeline_folder)
        again = Path("again") / source.name
        assert np.array_equal(np.asarray(Image.open(again)), np.asarray(Image.open(source)))
        assert read_recipe(again) == read_recipe(source)
        run("regenerate", source, "-o", "file.webp", "--pipeline", pipeline_folder)
        assert Image.open("file.webp").format == "WEBP"
        for folder in ("again.v2", "x4.0/"):
            run("regenerate", source, "-o", folder, "--pipeline", pipeline_folder)
            assert (Path(folder) / source.name).is_file()

    def test_from_what_ships(self, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        ship_tiny_weights(tmp_path / "weights", monkeypatch)
        for options in ([], ["--decoder", "iwt"], ["--sampler", "embedded-p-64", "--decoder", "bicubic"]):
            run("generate", "--preset", "embedded", "-c", "1", "--res", "256", "--format", "webp", *options)
            run("regenerate", "out/001_goldfish_seed0.webp", "-o", "again.png")
            assert read_recipe(Path("again.png")) == read_recipe(Path("out/001_goldfish_seed0.webp"))

    def test_other_weights_are_refused_unless_forced(self, run: Run, pipeline_folder: Path, tmp_path: Path) -> None:
        run("generate", "--pipeline", pipeline_folder, "-c", "1")
        source = Path("out/001_goldfish_seed0.png")
        other = NsbPipeline.from_pretrained(pipeline_folder)
        with torch.no_grad():
            next(other.sampler.parameters()).add_(0.1)  # type: ignore[attr-defined]
        folder = other.save_pretrained(tmp_path / "other")
        refused = run("regenerate", source, "-o", "again", "--pipeline", folder, code=2).stderr
        assert "tiny has SHA-256" in refused and "--force" in refused
        said = run("regenerate", source, "-o", "again", "--pipeline", folder, "--force").stderr
        assert "not the recipe's weights" in said and (Path("again") / source.name).exists()

    def test_a_recipe_cannot_make_a_file_be_read(
        self, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ship_tiny_weights(tmp_path / "weights", monkeypatch)
        run("generate", "--preset", "embedded", "-c", "1", "--res", "256")
        recipe = read_recipe(Path("out/001_goldfish_seed0.png"))
        file = str(save_component(tiny_decoder(), tmp_path / "trap.safetensors"))
        for change in ({"decoders": (file,)}, {"sampler": file}, {"preset": str(tmp_path)}, {"preset": "evil/repo"}):
            save_image(Image.new("RGB", (8, 8)), Path("trap.png"), recipe=replace(recipe, **change))
            said = run("regenerate", "trap.png", "-o", "again", code=2).stderr
            assert "is in no table" in said or "is not a preset" in said

    def test_what_carries_no_recipe(self, run: Run) -> None:
        assert "carries no recipe" in run("regenerate", photo(Path("plain.png")), "-o", "x", code=2).stderr


class TestWeights:
    def test_convert_and_interpolate(self, run: Run, tmp_path: Path) -> None:
        a, b = tiny_decoder("a"), tiny_decoder("b")
        with torch.no_grad():
            for p in b.parameters():
                p.add_(1)
        for name, part in (("a", a), ("b", b)):
            save_component(part, tmp_path / name)
        run("interpolate", tmp_path / "a", tmp_path / "b", "--alpha", "0.25", "--out", tmp_path / "c.safetensors")
        mixed = load_component(tmp_path / "c.safetensors")
        for m, p in zip(mixed.parameters(), a.parameters(), strict=True):
            torch.testing.assert_close(m, p + 0.25)
        run("interpolate", "subband-w", "subband-w-sharp", "--alpha", "0.5", "--out", tmp_path / "half.safetensors")
        l1, gan, half = (
            load_component(p)
            for p in (shipped_file("subband-w"), shipped_file("subband-w-sharp"), tmp_path / "half.safetensors")
        )
        for m, p, q in zip(half.parameters(), l1.parameters(), gan.parameters(), strict=True):
            torch.testing.assert_close(m, (p + q) / 2)
        assert (
            "Unknown decoder 'subband'"
            in run("interpolate", "subband", "iwt", "--alpha", "0", "-o", "x", code=2).stderr
        )
        assert "No weights of iwt" in run("interpolate", "subband-w", "iwt", "--alpha", "0", "-o", "x", code=2).stderr
        arguments = ["interpolate", tmp_path / "a", tmp_path / "b", "--alpha", "2", "--out", "x"]
        assert "is not in the range" in run(*arguments, code=2).stderr

    def test_a_pickle_that_runs_a_command_is_refused(self, run: Run, tmp_path: Path) -> None:
        class Evil:
            def __reduce__(self) -> tuple[object, tuple[str]]:
                import os

                return os.system, (f"touch {tmp_path / 'pwned'}",)

        torch.save({"state_dict": Evil()}, tmp_path / "evil.pth")
        said = run("convert", tmp_path / "evil.pth", tmp_path / "out", code=2).stderr
        assert "refused" in said and not (tmp_path / "pwned").exists() and not (tmp_path / "out").exists()


class TestPlugins:
    def test_none_installed(self, run_json: JsonRun, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NSBGAN_NO_PLUGINS", "1")
        assert run_json("plugins", "list") == {"plugins": []}

    def test_a_decoder_that_keeps_its_promises(self, run_json: JsonRun) -> None:
        value = run_json("plugins", "check", "bicubic")
        assert value["ok"] and len(value["checks"]) >= 10

    def test_parts_of_the_other_kinds(self, run_json: JsonRun, tmp_path: Path) -> None:
        save_component(tiny_sampler(), tmp_path / "sampler")
        for kind, ref in (("encoder", "wavelet"), ("sampler", str(tmp_path / "sampler"))):
            value = run_json("plugins", "check", ref)
            assert value[kind] == ref and value["ok"] and len(value["checks"]) >= 7

    def test_a_decoder_that_breaks_them(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        from nsbgan_infer import registry

        class Dark:
            info = registry.load_decoder("bicubic").info

            def __call__(self, low_band: torch.Tensor) -> torch.Tensor:
                return low_band.repeat_interleave(4, -1).repeat_interleave(4, -2) * 0.5

        monkeypatch.setattr(registry, "load_part", lambda _ref, _kind: Dark())
        result = run("plugins", "check", "dark", code=1)
        assert "BROKEN" in result.stdout and "breaks" in result.stderr
