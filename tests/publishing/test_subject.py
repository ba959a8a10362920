"""What goes into a repository: the files of a component or a pipeline, and no others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny import ship_tiny_weights, tiny_decoder, tiny_pipeline, tiny_sampler

from nsbgan_infer.errors import NsbError, UsageError
from nsbgan_infer.pipeline import NsbPipeline
from nsbgan_infer.publishing.subject import Subject, open_subject
from nsbgan_infer.storage.components import component_config, load_component, save_component


def contents(subject: Subject) -> dict[str, bytes]:
    return {n: c if isinstance(c, bytes) else c.read_bytes() for n, c in subject.files.items()}


def unpacked(subject: Subject, folder: Path) -> Path:
    """The files as a repository would hold them."""
    for name, body in contents(subject).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(body)
    return folder


@pytest.mark.parametrize("single", [True, False])
def test_a_component_is_two_files_that_load(single: bool, tmp_path: Path) -> None:
    given = tmp_path / ("d.safetensors" if single else "d")
    save_component(tiny_decoder(), given)
    subject = open_subject(str(given))
    assert (subject.kind, subject.name, subject.facts) == ("decoder", "tiny-w", {})
    assert subject.files.keys() == {"config.json", "model.safetensors"}
    loaded = load_component(unpacked(subject, tmp_path / "there"), kind="decoder")
    assert component_config(loaded) == component_config(tiny_decoder())


def test_weights_that_ship_go_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ship_tiny_weights(tmp_path / "weights", monkeypatch)
    subject = open_subject("embedded-w-64")
    assert subject.kind == "sampler" and subject.facts["licence"] == "tests only"
    assert load_component(unpacked(subject, tmp_path / "there")).kind == "sampler"


def test_a_pipeline_brings_its_parts(tmp_path: Path) -> None:
    folder = tiny_pipeline().save_pretrained(tmp_path / "p")
    subject = open_subject(str(folder))
    parts = ("decoder-1", "sampler")
    files = {"model_index.json", *(f"{p}/{f}" for p in parts for f in ("config.json", "model.safetensors"))}
    assert (subject.kind, subject.name, set(subject.parts), set(subject.files)) == (
        "pipeline",
        "tiny",
        set(parts),
        files,
    )
    again = NsbPipeline.from_pretrained(unpacked(subject, tmp_path / "there"))
    assert again.resolutions == tiny_pipeline().resolutions


def test_what_a_run_keeps_for_itself_stays(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    save_component(tiny_sampler(), folder)
    for name in ("settings.json", "log.jsonl", "checkpoint.pt", "codes.pt", ".hidden"):
        (folder / name).write_text("{}")
    for name in ("tensorboard", "sheets"):
        (folder / name).mkdir()
    for name in ("README.md", "LICENSE", "sheet.webp"):
        (folder / name).write_text("mine")
    subject = open_subject(str(folder))
    assert subject.files.keys() == {"config.json", "model.safetensors", "README.md", "LICENSE", "sheet.webp"}
    kept = {"settings.json", "log.jsonl", "checkpoint.pt", "codes.pt", ".hidden", "tensorboard", "sheets"}
    assert set(subject.kept) == kept


@pytest.mark.parametrize("name", ["notes.txt", "pytorch_model.bin", "train.py", "passwords", "sub/file", "LICENSE/x"])
def test_files_that_do_not_belong_are_refused(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "d"
    save_component(tiny_decoder(), folder)
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("x")
    with pytest.raises(UsageError, match="does not belong"):
        open_subject(str(folder))


@pytest.mark.parametrize("where", ["README.md", "sampler/extra.json", "sampler/settings.json", "other/config.json"])
def test_pipelines_hold_nothing_else_either(where: str, tmp_path: Path) -> None:
    folder = tiny_pipeline().save_pretrained(tmp_path / "p")
    (folder / where).parent.mkdir(exist_ok=True)
    if where == "README.md":
        (folder / where).symlink_to("/etc/hostname")
    else:
        (folder / where).write_text("{}")
    with pytest.raises(UsageError, match="is a link" if where == "README.md" else "does not belong"):
        open_subject(str(folder))


def test_links_inside_a_component_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    save_component(tiny_decoder(), folder)
    (folder / "config.json").rename(tmp_path / "elsewhere.json")
    (folder / "config.json").symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(UsageError, match="is a link"):
        open_subject(str(folder))


def test_what_is_no_component(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.safetensors").write_text("hello")
    (tmp_path / "text.txt").write_text("hello")
    broken = tmp_path / "broken"
    save_component(tiny_decoder(), broken)
    (broken / "config.json").write_text(json.dumps({**component_config(tiny_decoder()), "channels": 9}))
    for ref in ("empty", "text.safetensors", "text.txt", "broken", "missing"):
        with pytest.raises(NsbError) as caught:
            open_subject(str(tmp_path / ref))
        assert ref in str(caught.value) or "channels" in str(caught.value)
