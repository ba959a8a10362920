"""Model cards: those of what ships agree with the manifest, those of runs with settings and log; their commands run."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from huggingface_hub import ModelCard
from photo_file import photo
from PIL import Image
from tiny import CLASSES, ship_tiny_weights, tiny_biggan, tiny_decoder, tiny_pipeline, tiny_sampler

from nsbgan_infer.cli.main import cli
from nsbgan_infer.decoders.subband import SubbandDecoder
from nsbgan_infer.errors import CheckpointError
from nsbgan_infer.publishing.card import make_card, plain
from nsbgan_infer.publishing.component_facts import component_facts
from nsbgan_infer.publishing.sheet import sample_sheet, sheet_pictures
from nsbgan_infer.publishing.subject import open_subject
from nsbgan_infer.storage.components import Component, save_component
from nsbgan_infer.storage.files import write_json
from nsbgan_infer.storage.shipped import manifest, weights_dir
from nsbgan_infer.training.run_folder import json_ready

COVERS = ["publishing.component_facts", "publishing.sheet", "publishing.training_record"]


def front(card: str) -> dict[str, Any]:
    value: dict[str, Any] = ModelCard(card).data.to_dict()
    return value


def section(card: str, title: str) -> str:
    return card.split(f"## {title}\n")[1].split("\n## ")[0]


def blocks(text: str) -> list[str]:
    return [body for _, body in re.findall(r"```(\w*)\n(.*?)```", text, re.DOTALL)]


@pytest.mark.parametrize("name", manifest()["components"])
def test_each_shipped_weight_has_a_card_that_agrees_with_the_manifest(name: str) -> None:
    row = manifest()["components"][name]
    file = weights_dir() / "cards" / f"{name}.md"
    advice = f"run `nsbgan card {name}`"
    assert file.is_file(), advice
    card = file.read_text(encoding="utf-8")
    assert f"`{row['sha256']}`" in card and f"{row['bytes']:,} bytes" in card, advice
    figures = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", section(card, "Measured"), re.MULTILINE))
    assert figures == {k: plain(v) for k, v in row["measured"].items()}, advice
    for key in ("licence", "trained_on", "recipe"):
        assert plain(row[key]) in card, advice
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", card)
    assert all((file.parent / p).is_file() for p in pictures), advice
    subject = open_subject(name)
    assert section(card, "How to use it") == section(make_card(subject, ref=name), "How to use it"), advice


PARTS: dict[str, Component] = {
    "decoder": tiny_decoder(),
    "sampler": tiny_sampler(),
    "biggan": tiny_biggan(),
}


@pytest.mark.parametrize("name", PARTS)
def test_a_card_says_what_the_configuration_says(name: str, tmp_path: Path) -> None:
    part = PARTS[name]
    save_component(part, tmp_path / "part", info={"trained_on": "noise | <b>", "recipe": "by `hand`"})
    card = make_card(open_subject(str(tmp_path / "part")), ref="hf://me/part")
    facts = component_facts(part)
    meta = front(card)
    assert meta["library_name"] == "nsbgan_infer" and {part.kind, part.arch, facts["basis"]} <= set(meta["tags"])
    assert f"{sum(p.numel() for p in part.parameters()):,}" in card
    assert "Trained on noise / (b>." in card and "Recipe: by ´hand´." in card
    assert "Not measured yet" in card and "hf://me/part" in section(card, "How to use it")


@pytest.mark.parametrize(
    ("licence", "license_", "name"),
    [
        ("Apache-2.0", "apache-2.0", None),
        ("none", "unknown", None),
        ("non-commercial research (ImageNet)", "other", "non-commercial-research"),
        ('"quotes": and\nlines', "other", "quotes-and-lines"),
    ],
)
def test_the_licence_reaches_the_hub_as_it_wants_it(
    licence: str, license_: str, name: str | None, tmp_path: Path
) -> None:
    part = SubbandDecoder(replace(tiny_decoder().config, licence=licence))
    save_component(part, tmp_path / "part")
    card = make_card(open_subject(str(tmp_path / "part")), ref="x")
    assert (front(card)["license"], front(card).get("license_name")) == (license_, name)
    assert ("has not stated one" in section(card, "Licence")) == (license_ == "unknown")


def test_measured_figures_are_explained() -> None:
    subject = open_subject("subband-w")
    card = make_card(subject, ref="subband-w", measured={"ssim": 0.5, "fd_lite0": None, "speed|": "fast"})
    assert "| `ssim` | 0.5 | structural similarity of luma |" in card
    assert "`set5_psnr_y`" in card and "fd_lite0" not in section(card, "Measured") and "`speed/`" in card


@pytest.mark.parametrize("what", ["decoder", "sampler", "pipeline"])
def test_the_commands_and_the_python_of_a_card_run(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ship_tiny_weights(tmp_path / "weights", monkeypatch)
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (40, 32), "red").save("photo.jpg")
    if what == "pipeline":
        tiny_pipeline().save_pretrained("it is")
    else:
        save_component(PARTS[what], Path("it is"))
    commands, python = blocks(section(make_card(open_subject("it is"), ref="it is"), "How to use it"))
    for line in commands.splitlines():
        result = CliRunner().invoke(cli, shlex.split(line)[1:])
        assert result.exit_code == 0, (line, result.stderr)
    exec(compile(python, "card", "exec"), {})
    assert Image.open("picture.png").width >= 128 and list(Path("out").glob("207_*.png"))
    assert Path("large.png").exists() == (what == "decoder")


# what is typed -> the function that would train, with its settings
RUNS = {
    "decoder --arch subband-w": "decoders.l1.train_decoder",
    "decoder --arch esrgan-w --start '{start}'": "decoders.adversarial.train_adversarial",
    "decoder --arch subband-w-sharp --start subband-w": "decoders.adversarial.train_adversarial",
    "unet --arch unet-p --level 2 --level1 '{start}'": "decoders.unet.train_unet",
    "sampler --name mine": "samplers.trainers.train_any_sampler",
    "sampler --form biggan": "samplers.trainers.train_any_sampler",
}


@pytest.mark.parametrize("what", RUNS)
def test_the_record_of_a_run_starts_it_again(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the last step, training itself, is left out."""
    seen: list[dict[str, Any]] = []

    def train(settings: Any) -> Component:
        seen.append(json.loads(json.dumps(json_ready(settings))))
        return tiny_decoder()

    def typed(line: str) -> None:
        result = CliRunner().invoke(cli, [*shlex.split(line)[1:], "--preset", "tiny"])
        assert result.exit_code == 0, (line, result.stderr)

    monkeypatch.setattr(f"nsbgan_infer.training.{RUNS[what]}", train)
    monkeypatch.chdir(tmp_path)
    for folder in ("my photos", "first stage", "elsewhere/my photos", "elsewhere/first stage"):
        Path(folder).mkdir(parents=True)
        photo(Path(folder) / "a.png")
    options = "--data 'elsewhere/my photos' --steps 3 --seed 7 --licence CC0-1.0 --out runs/secret"
    typed(f"nsbgan train {what.format(start='elsewhere/first stage')} {options}")
    save_component(tiny_decoder(), Path("runs/secret"))
    write_json(Path("runs/secret/settings.json"), seen[0])
    lines = [{"step": 1, "loss": 2.0, "seconds": 1200.0}, {"step": 3, "loss": 1.5, "seconds": 1200.0}]
    Path("runs/secret/log.jsonl").write_text("\n".join(map(json.dumps, lines)))
    card = make_card(open_subject("runs/secret"), ref="x")
    assert "elsewhere" not in card and "runs/" not in card
    assert "Trained on `my photos`." in card and "3 steps in 1 hours" in card and "| loss | 2 | 1.5 |" in card
    command, toml = blocks(section(card, "Training"))
    Path("settings.toml").write_text(toml)
    typed(command)
    before, after = (json.loads(json.dumps(s).replace("elsewhere/", "").replace("runs/secret", "RUN")) for s in seen)
    assert before == after


@pytest.mark.parametrize("log", ["no json", "[1, 2]", '{"loss": 1}', '{"step": "x"}', '{"step": {}}'])
def test_a_log_that_is_none_is_refused(log: str, tmp_path: Path) -> None:
    save_component(tiny_decoder(), tmp_path / "run")
    write_json(tmp_path / "run" / "settings.json", {"arch": "subband-w", "loop": {}})
    (tmp_path / "run" / "log.jsonl").write_text(log)
    with pytest.raises(CheckpointError, match="is not the log of a run"):
        make_card(open_subject(str(tmp_path / "run")), ref="x")


@pytest.mark.parametrize("what", ["decoder", "sampler", "pipeline", "pixel decoder"])
def test_sheets(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nsbgan_infer.decoders.srresnet import SRResNet, SRResNetConfig

    ship_tiny_weights(tmp_path / "weights", monkeypatch)
    if what == "pipeline":
        tiny_pipeline().save_pretrained(tmp_path / "x")
    elif what == "pixel decoder":
        save_component(SRResNet(SRResNetConfig(name="p", basis="pixel", blocks=1, channels=8)), tmp_path / "x")
    else:
        save_component(PARTS[what], tmp_path / "x")
    subject = open_subject(str(tmp_path / "x"))
    made: list[int] = []
    sheet = sample_sheet(subject, made.append)
    assert sheet is not None and sum(made) == sheet_pictures(subject)
    if "decoder" in what:
        assert sheet.image.size == (4 * 256 + 256, 512) and "interpolation" in sheet.caption
        upper, lower = (sheet.image.crop((0, y, 1280, y + 256)).tobytes() for y in (0, 256))
        assert upper != lower
    else:
        cell = 64 if what == "sampler" else 128
        assert sheet.image.size == (10 * cell, 4 * cell)
        seeds = 40 // len(CLASSES)
        assert f"Seeds 0 to {seeds - 1}" in sheet.caption


def test_a_decoder_whose_basis_no_shipped_sampler_has_gets_no_sheet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_component(tiny_decoder(), tmp_path / "x")
    subject = open_subject(str(tmp_path / "x"))
    monkeypatch.setattr("nsbgan_infer.publishing.sheet.manifest", dict)
    assert sample_sheet(subject) is None
