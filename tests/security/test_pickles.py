"""A pickle that runs a command is refused by every entrance, and nothing in it has run."""

from __future__ import annotations

import ast
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from hostile import PICKLES

import nsbgan_infer
from nsbgan_infer.convert import convert_checkpoint
from nsbgan_infer.errors import NsbError
from nsbgan_infer.pipeline import NsbPipeline
from nsbgan_infer.registry import load_decoder, load_sampler
from nsbgan_infer.samplers.stylegan2 import StyleGAN2, StyleGAN2Config
from nsbgan_infer.storage.components import component_config, load_component, read_tensors

CONFIG = component_config(StyleGAN2(StyleGAN2Config(channels=(4,), style_dim=4, mapping_layers=1)))


def as_file(suffix: str) -> Callable[[Path, bytes], Path]:
    def make(folder: Path, content: bytes) -> Path:
        path = folder / f"x{suffix}"
        path.write_bytes(content)
        return path

    return make


def as_component(folder: Path, content: bytes) -> Path:
    """A component's folder with an honest config.json."""
    path = folder / "part"
    path.mkdir()
    (path / "config.json").write_text(json.dumps(CONFIG))
    (path / "model.safetensors").write_bytes(content)
    return path


def as_wheel_folder(folder: Path, content: bytes) -> Path:
    path = folder / "biggan"
    path.mkdir()
    (path / "config.json").write_text(json.dumps({"output_dim": 128}))
    (path / "pytorch_model.bin").write_bytes(content)
    return path


def as_pipeline(folder: Path, content: bytes) -> Path:
    path = folder / "pipeline"
    path.mkdir()
    index = {"kind": "pipeline", "name": "x", "sampler": "part", "stages": []}
    (path / "model_index.json").write_text(json.dumps(index))
    as_component(path, content)
    return path


def resume_training(path: Path) -> Any:
    from nsbgan_infer.training.run_folder import CHECKPOINT, resume

    path.rename(path.parent / CHECKPOINT)
    return resume(None, path.parent, torch.device("cpu"))  # type: ignore[arg-type]


def read_classifier(path: Path) -> Any:
    from nsbgan_infer.storage.checkpoints import safe_state_dict

    return safe_state_dict(path)


def read_perceptual(path: Path) -> Any:
    from nsbgan_infer.training.decoders.perceptual import make_perceptual

    return make_perceptual("vgg19", str(path))


def foreign(path: Path) -> Any:
    pytest.importorskip("spandrel")
    return load_decoder(f"spandrel:{path}")


# entrance -> (how the file lies on disk, what opens it)
ENTRANCES: dict[str, tuple[Callable[[Path, bytes], Path], Callable[[Path], Any]]] = {
    "load_component, .pth": (as_file(".pth"), load_component),
    "load_component, .safetensors": (as_file(".safetensors"), load_component),
    "load_component, folder": (as_component, load_component),
    "read_tensors": (as_file(".safetensors"), read_tensors),
    "load_decoder, .pth": (as_file(".pth"), lambda p: load_decoder(str(p))),
    "load_decoder, .safetensors": (as_file(".safetensors"), lambda p: load_decoder(str(p))),
    "load_decoder, .bin": (as_file(".bin"), lambda p: load_decoder(str(p))),
    "load_decoder, folder": (as_component, lambda p: load_decoder(str(p))),
    "load_decoder, spandrel .pth": (as_file(".pth"), foreign),
    "load_decoder, spandrel .safetensors": (as_file(".safetensors"), foreign),
    "load_sampler, .bin": (as_file(".bin"), lambda p: load_sampler(str(p))),
    "load_sampler, .pt": (as_file(".pt"), lambda p: load_sampler(str(p))),
    "load_sampler, .safetensors": (as_file(".safetensors"), lambda p: load_sampler(str(p))),
    "load_sampler, folder": (as_component, lambda p: load_sampler(str(p))),
    "load_sampler, the wheel's folder": (as_wheel_folder, lambda p: load_sampler(str(p))),
    "convert, .pth": (as_file(".pth"), lambda p: convert_checkpoint(p, p.parent / "out")),
    "convert, .pkl": (as_file(".pkl"), lambda p: convert_checkpoint(p, p.parent / "out")),
    "load_sampler, .pkl": (as_file(".pkl"), lambda p: load_sampler(str(p))),
    "convert, .bin": (as_file(".bin"), lambda p: convert_checkpoint(p, p.parent / "out.safetensors")),
    "convert, .safetensors": (as_file(".safetensors"), lambda p: convert_checkpoint(p, p.parent / "out")),
    "convert, the wheel's folder": (as_wheel_folder, lambda p: convert_checkpoint(p, p.parent / "out")),
    "pipeline": (as_pipeline, NsbPipeline.from_pretrained),
    "classifier": (as_file(".pth"), read_classifier),
    "perceptual": (as_file(".pth"), read_perceptual),
    "resume": (as_file(".pt"), resume_training),
}


@pytest.mark.parametrize("form", PICKLES)
@pytest.mark.parametrize("entrance", ENTRANCES)
def test_it_is_refused_and_nothing_has_run(entrance: str, form: str, tmp_path: Path, private_cache: Path) -> None:
    mark = tmp_path / "it-ran"
    place, enter = ENTRANCES[entrance]
    path = place(tmp_path, PICKLES[form](mark))
    before = set(tmp_path.iterdir())
    with pytest.raises(NsbError) as caught:
        enter(path)
    assert not mark.exists()
    assert caught.value.exit_code == 2
    assert "weights_only" not in str(caught.value)  # no advice to lower the guard
    left = {p for p in set(tmp_path.iterdir()) - before if p.name != "checkpoint.pt"}
    assert not left, "something was left behind"
    assert not [p for p in private_cache.rglob("*") if p.is_file() and p.suffix in (".safetensors", ".bin")]


COMMANDS = [
    ("convert", "{path}", "out"),
    ("inspect", "{path}"),
    ("generate", "--class", "207", "--preset", "embedded", "--sampler", "{path}", "--out", "out"),
    ("generate", "--class", "207", "--preset", "embedded", "--decoder", "{path}", "--out", "out"),
    ("upscale", "{path}", "--out", "out.png"),
]


@pytest.mark.parametrize("suffix", [".pth", ".bin", ".pkl", ".safetensors", ".png"])
@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: " ".join(c[:1] + c[-4:-3]))
def test_the_command_refuses_it_with_exit_code_2(
    command: tuple[str, ...], suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nsbgan_infer.cli.main import cli

    monkeypatch.chdir(tmp_path)
    mark = tmp_path / "it-ran"
    path = tmp_path / f"x{suffix}"
    path.write_bytes(PICKLES["state dict"](mark))
    result = CliRunner().invoke(cli, [part.format(path=path) for part in command], prog_name="nsbgan")
    assert result.exit_code == 2, result.output
    assert not mark.exists() and "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").rglob("*.*"))


def test_the_files_are_truly_hostile(tmp_path: Path) -> None:
    """Careless reading runs them: else the tests above would prove nothing."""
    for form, make in PICKLES.items():
        mark = tmp_path / form.replace(" ", "-")
        content = make(mark)
        path = tmp_path / "file"
        path.write_bytes(content)
        if form.startswith("protocol"):
            pickle.loads(content)
        elif form not in ("older torch", "zip"):
            torch.load(path, weights_only=False)
        else:
            continue  # archives around the same pickle, which torch of today would not read to its end
        assert mark.exists(), form


def calls() -> list[tuple[str, ast.Call]]:
    found = []
    for path in sorted(Path(nsbgan_infer.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                found.append((f"{path.name}:{node.lineno}", node))
    return found


def test_the_package_opens_pickles_with_weights_only_and_runs_no_text() -> None:
    opened = 0
    for where, call in calls():
        name = ast.unparse(call.func)
        options = {k.arg: ast.unparse(k.value) for k in call.keywords}
        assert name not in ("eval", "exec", "os.system", "os.popen", "compile"), where
        assert not name.startswith(("pickle.", "marshal.", "shelve.", "joblib.", "dill.")), where
        assert options.get("shell", "False") == "False" and options.get("allow_pickle", "False") == "False", where
        assert "trust_remote_code" not in options, where
        if name == "torch.load":
            opened += 1
            assert options.get("weights_only") == "True", where
        assert not name.endswith(("load_state_dict_from_url", "torch.hub.load", "torch.package.PackageImporter")), where
    assert opened >= 1
