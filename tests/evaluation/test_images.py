"""Measuring sets of pictures: sources, order, size of batches, references, and one sentence for what is wrong."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import TinyClassifier
from torch import Tensor, nn

from nsbgan_infer.classes import find_class
from nsbgan_infer.classifiers.base import ClassifierInfo
from nsbgan_infer.cli.main import cli, exit_code
from nsbgan_infer.errors import CheckpointError, ImageFileError, NsbError, UnknownNameError, UsageError
from nsbgan_infer.evaluation.images import Gathered, check_measures, evaluate_images, gather, load_judges
from nsbgan_infer.evaluation.pictures import PictureSet, made_pictures, open_pictures
from nsbgan_infer.evaluation.references import load_reference, make_reference, save_reference, statistics_of
from nsbgan_infer.evaluation.scores import score_parts

COVERS = ["cli.evaluate", "cli.evaluate_images", "evaluation.pictures", "evaluation.references"]

JUDGES = {"inception": TinyClassifier(), "lite0": TinyClassifier(), "lite2": TinyClassifier()}
ALL = ["fid", "is", "kid", "pr", "fd-lite0", "is-lite0", "fd-lite2", "is-lite2", "share-lite0", "swd", "ms-ssim"]


def pictures(n: int, seed: int, size: int = 32) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    small = torch.rand(n, 3, size // 4, size // 4, generator=g)
    return nn.functional.interpolate(small, (size, size), mode="bilinear")


def as_set(p: Tensor, name: str = "set") -> PictureSet:
    return made_pictures(name, tuple(i % 2 for i in range(len(p))), lambda batch: torch.split(p, batch))


def write(folder: Path, p: Tensor, *, names: list[str] | None = None) -> Path:
    folder.mkdir(exist_ok=True, parents=True)
    for i, picture in enumerate(p):
        image = Image.fromarray((picture.permute(1, 2, 0) * 255).round().byte().numpy())
        image.save(folder / (names[i] if names else f"{i:03d}.png"))
    return folder


def run(fake: PictureSet, real: PictureSet | None, measures: list[str], batch: int = 8) -> dict[str, dict[str, object]]:
    report, _ = evaluate_images(fake, real, measures, JUDGES, batch=batch, allow_small=True)
    return {k: dict(v) for k, v in report.values.items()}


def test_every_measure_prints_its_numbers_of_pictures() -> None:
    values = run(as_set(pictures(20, 1)), as_set(pictures(24, 2)), ALL)
    assert list(values) == ALL
    for row in values.values():
        assert row["n_fake"] == 20
    assert values["fid"]["n_real"] == 24 and "n_real" not in values["is"]
    assert values["swd"]["n_used"] == 20
    assert values["ms-ssim"]["within"] == "class" and values["ms-ssim"]["pairs"] == 90


def test_a_share_is_counted_among_the_classes_that_could_have_been_asked_for() -> None:
    p = pictures(30, 9)
    logits = TinyClassifier()(p).logits  # (30, 1000)
    asked = tuple(i % 3 for i in range(30))
    of_three = made_pictures("set", asked, lambda batch: torch.split(p, batch))
    right = (logits[:, :3].argmax(1) == torch.tensor(asked)).float()
    row = run(of_three, None, ["share-lite0"])["share-lite0"]
    by_class = {f"class {c}": pytest.approx(float(right[c::3].mean())) for c in range(3)}
    assert row == {"value": pytest.approx(float(right.mean())), **by_class, "among": 3, "n_fake": 30}
    of_twelve = replace(of_three, drawn_from=tuple(range(12)))
    expected = (logits[:, :12].argmax(1) == torch.tensor(asked)).float().mean()
    row = run(of_twelve, None, ["share-lite0"])["share-lite0"]
    assert (row["value"], row["among"]) == (pytest.approx(float(expected)), 12)


def test_a_share_needs_known_classes_and_more_than_one() -> None:
    for classes, message in (((None, 1), "does not tell the class"), ((7, 7), "one class alone")):
        given = made_pictures("set", classes, lambda batch: torch.split(pictures(2, 1), batch))
        with pytest.raises(UsageError, match=message):
            run(given, None, ["share-lite0"])


def test_order_and_batch_size_change_nothing() -> None:
    fake, real = pictures(30, 3), pictures(30, 4)
    mixed = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    one = run(as_set(fake), as_set(real), ALL, batch=7)
    in_another_order = replace(as_set(fake[mixed]), classes=tuple(i % 2 for i in mixed.tolist()))
    other = run(in_another_order, as_set(real), ALL, batch=1)
    for measure in ALL:
        assert one[measure] == pytest.approx(other[measure], abs=1e-3)


def test_equal_sets_are_near_zero_and_noise_is_far() -> None:
    real = pictures(60, 5)
    noise = torch.rand(60, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    assert run(as_set(real), as_set(real), ["fd-lite0"])["fd-lite0"]["value"] == pytest.approx(0, abs=1e-9)
    near = run(as_set(pictures(60, 6)), as_set(real), ["fd-lite0"])["fd-lite0"]["value"]
    far = run(as_set(noise), as_set(real), ["fd-lite0"])["fd-lite0"]["value"]
    assert isinstance(near, float) and isinstance(far, float)
    assert 3 * near < far


def test_every_kind_of_source_gives_the_same_figures(tmp_path: Path) -> None:
    p = (pictures(6, 7) * 255).round() / 255
    folder = write(tmp_path / "folder", p)
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, file.name)
    rows = (p.permute(0, 2, 3, 1) * 255).round().byte().numpy()
    np.savez(tmp_path / "plain.npz", rows)
    np.savez_compressed(tmp_path / "labelled.npz", rows, np.arange(6))
    sources = [open_pictures(tmp_path / n) for n in ("folder", "set.zip", "plain.npz", "labelled.npz")]
    expected = torch.cat(list(as_set(p).batches(6)))
    for source in sources:
        assert source.count == 6
        assert torch.equal(torch.cat(list(source.batches(4))), expected)
    assert sources[2].classes == (None,) * 6
    assert sources[3].classes == tuple(range(6))


@pytest.mark.parametrize("sink", ["folder", "tar", "npz"])
def test_a_runs_manifest_is_a_source(tmp_path: Path, sink: str) -> None:
    from nsbgan_infer.bulk.plan import Plan
    from nsbgan_infer.bulk.run import run as run_plan
    from nsbgan_infer.bulk.sinks import Encoding

    p = (pictures(4, 8, size=32) * 255).round() / 255
    plan = Plan(classes=(207, 208), count=4, resolution=32, batch_size=2, encoding=Encoding(sink=sink))  # type: ignore[arg-type]

    def make(requests: object) -> object:
        from nsbgan_infer.images import Recipe
        from nsbgan_infer.pipeline import Output, Request

        asked = [r for r in requests if isinstance(r, Request)]  # type: ignore[attr-defined]
        rows = [(0 if r.class_id == 207 else 2) + r.seed for r in asked]
        recipes = tuple(Recipe("p", "s", (), 32, r.class_id, r.seed, 1.0, "scale", "cpu", "fp32", 2) for r in asked)
        return Output(p[rows], tuple(asked), recipes)

    run_plan(plan, tmp_path / "run", make)  # type: ignore[arg-type]
    source = open_pictures(tmp_path / "run")
    assert source.classes == (207, 207, 208, 208)
    assert torch.equal(torch.cat(list(source.batches(3))), (p * 255).round().byte())
    assert open_pictures(tmp_path / "run" / "manifest.jsonl").count == 4


def test_size_brings_mixed_pictures_together(tmp_path: Path) -> None:
    folder = write(tmp_path / "mixed", pictures(2, 9))
    Image.new("RGB", (80, 40)).save(folder / "wide.png")
    with pytest.raises(ImageFileError, match=r"wide\.png is 80 x 40, but those before it are 32 x 32.*--size"):
        list(open_pictures(folder).batches(8))
    assert torch.cat(list(open_pictures(folder, size=32).batches(8))).shape == (3, 3, 32, 32)
    with pytest.raises(UsageError, match="one size with --size"):
        run(as_set(pictures(4, 1)), as_set(pictures(4, 1, size=64)), ["fd-lite0"])


def test_references_give_the_same_distance_and_refuse_another_rule(tmp_path: Path) -> None:
    fake, real = as_set(pictures(20, 1)), as_set(pictures(24, 2), "reals")
    expected = run(fake, real, ["fd-lite0", "fd-lite2"])
    _, seen = evaluate_images(fake, real, ["fd-lite0", "fd-lite2"], JUDGES, allow_small=True)
    assert isinstance(seen, Gathered)
    save_reference(make_reference(seen), tmp_path / "ref.safetensors")
    reference = load_reference(tmp_path / "ref.safetensors")
    assert (reference.name, reference.n, reference.side) == ("reals", 24, (32, 32))
    assert reference.digest == seen.digest
    report, _ = evaluate_images(fake, reference, ["fd-lite0", "fd-lite2"], JUDGES, allow_small=True)
    for measure in expected:
        assert report.values[measure]["value"] == pytest.approx(expected[measure]["value"], rel=1e-9)
        assert report.values[measure]["n_real"] == 24

    other = TinyClassifier()
    other.info = ClassifierInfo("tiny", 12, "area-3", "none")
    with pytest.raises(UsageError, match="another resize rule"):
        evaluate_images(fake, reference, ["fd-lite0"], {"lite0": other}, allow_small=True)
    shrunk = PictureSet("fake", 20, fake.classes, "centre square of 32", fake.batches)
    with pytest.raises(UsageError, match="another resize rule"):
        evaluate_images(shrunk, reference, ["fd-lite0"], JUDGES, allow_small=True)
    with pytest.raises(UsageError, match="holds nothing for fid"):
        evaluate_images(fake, reference, ["fid"], JUDGES, allow_small=True)
    with pytest.raises(UsageError, match="kid needs the real pictures"):
        evaluate_images(fake, reference, ["kid"], JUDGES, allow_small=True)


def test_damaged_references_are_refused(tmp_path: Path) -> None:
    found = gather(as_set(pictures(9, 1)), ["fd-lite0"], {"lite0": JUDGES["lite0"]})
    save_reference(make_reference(found), tmp_path / "ref.safetensors")
    data = (tmp_path / "ref.safetensors").read_bytes()
    (tmp_path / "short.safetensors").write_bytes(data[:200])
    (tmp_path / "foreign.safetensors").write_bytes(data.replace(b"nsbgan_reference", b"nsbgan_referencX"))
    for name in ("short", "foreign", "absent"):
        with pytest.raises(CheckpointError):
            load_reference(tmp_path / f"{name}.safetensors")


def test_few_pictures_are_refused_unless_allowed() -> None:
    few = as_set(pictures(4, 1), "few")
    with pytest.raises(UsageError, match=r"few has 4 pictures.*2048.*--allow-small"):
        evaluate_images(few, few, ["fd-lite0"], JUDGES)
    with pytest.raises(UsageError, match="needs real pictures"):
        evaluate_images(few, None, ["fd-lite0"], JUDGES, allow_small=True)


def test_unknown_measures_are_named() -> None:
    with pytest.raises(UnknownNameError, match="fd-lite0"):
        check_measures(["fd-lite"])
    with pytest.raises(UsageError, match="Nothing to measure"):
        check_measures([])
    assert check_measures(["is", "is"]) == ["is"]


def test_a_missing_inception_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(NsbError, match="No Inception file at") as caught:
        load_judges(["fid"], inception=tmp_path / "absent.pth")
    assert caught.value.exit_code == 2


def call(*arguments: str) -> int:
    return exit_code(lambda: cli.main(["evaluate", "images", *arguments], prog_name="nsbgan", standalone_mode=False))


def test_command_reports_in_json_and_keeps_a_reference(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nsbgan_infer.evaluation.images.load_lite0", TinyClassifier)
    fake, real = write(tmp_path / "fake", pictures(3, 1)), write(tmp_path / "real", pictures(4, 2))
    common = ["--fake", str(fake), "--measures", "fd-lite0", "--allow-small", "--json"]
    assert call(*common, "--real", str(real), "--save-reference", str(tmp_path / "ref.safetensors")) == 0
    first = json.loads(capsys.readouterr().out)
    assert first["values"]["fd-lite0"]["n_fake"] == 3 and first["n_real"] == 4
    assert call(*common, "--real", str(tmp_path / "ref.safetensors")) == 0
    second = json.loads(capsys.readouterr().out)
    assert second["values"]["fd-lite0"]["value"] == pytest.approx(first["values"]["fd-lite0"]["value"], rel=1e-6)


@pytest.mark.parametrize(
    ("fake", "extra", "says"),
    [
        ("empty", [], "No pictures in"),
        ("mixed", [], "--size"),
        ("corrupt", [], "bad.png is no"),
        ("good", ["--measures", "fid", "--inception", "absent.pth"], "No Inception file"),
        ("good", ["--measures", "fdlite0"], "Unknown measure"),
        ("broken.npz", [], "cannot be read as an npz"),
        ("absent", [], "No such file"),
        ("good", ["--save-reference", "x.bin"], "no real pictures"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], fake: str, extra: list[str], says: str
) -> None:
    (tmp_path / "empty").mkdir()
    write(tmp_path / "good", pictures(2, 1))
    write(tmp_path / "mixed", pictures(1, 1), names=["a.png"])
    write(tmp_path / "mixed", pictures(1, 1, size=64), names=["b.png"])
    write(tmp_path / "corrupt", pictures(1, 1))
    (tmp_path / "corrupt" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n no more")
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 broken")
    arguments = ["--fake", str(tmp_path / fake), "--allow-small", "--measures", "ms-ssim", *extra]
    if "--measures" in extra and "fid" in extra:
        arguments += ["--real", str(tmp_path / "good")]
    assert call(*arguments) == 2
    captured = capsys.readouterr()
    errors = [line for line in captured.err.splitlines() if line.startswith("nsbgan: error:")]
    assert captured.out == "" and len(errors) == 1 and says in errors[0]


@pytest.mark.parametrize(("n", "parts"), [(10, 1), (19, 1), (20, 2), (99, 9), (100, 10), (3000, 10)])
def test_a_score_is_taken_in_parts_of_ten_pictures_or_more(n: int, parts: int) -> None:
    assert score_parts(n) == parts


def test_the_score_of_a_few_pictures_is_refused_and_its_parts_are_told() -> None:
    with pytest.raises(UsageError, match="set has 4 pictures, whose score is 4 at most and says nothing: give 10 or"):
        run(as_set(pictures(4, 1)), None, ["is-lite0"])
    row = run(as_set(pictures(12, 1)), None, ["is-lite0"])["is-lite0"]
    assert row["splits"] == 1 and isinstance(row["value"], float) and row["value"] > 1


def test_a_report_describes_the_sets_and_counts_what_was_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nsbgan_infer.evaluation.images.load_lite0", TinyClassifier)
    fake, real = write(tmp_path / "fake", pictures(3, 1)), write(tmp_path / "n02099601", pictures(4, 2))
    write(fake / ".thumbnails", pictures(2, 3))
    assert call("--fake", str(fake), "--real", str(real), "--measures", "fd-lite0", "--allow-small", "--json") == 0
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    digest = report["fake_set"].pop("hash")
    assert digest.startswith("pixels:") and digest != report["real_set"]["hash"]
    assert report["fake_set"] == {
        "n": 3, "classes": 0, "unlabelled": 3, "sizes": "32 x 32", "left_out": {"hidden": 2},
    }  # fmt: skip
    assert (report["real_set"]["classes"], report["real_set"]["unlabelled"]) == (1, 0)
    assert "fake: Read 3 pictures of unknown class; left out: 2 hidden." in captured.err
    assert "n02099601: Read 4 pictures of 1 class." in captured.err


def test_kept_statistics_follow_the_files_and_not_their_number(tmp_path: Path) -> None:
    judge = JUDGES["lite0"]
    found = []
    for seed in (1, 1, 2):
        write(tmp_path / "real", pictures(4, seed))
        before = judge.seen
        given = open_pictures(tmp_path / "real")
        made = statistics_of(given, "lite0", judge, keep=tmp_path / "kept", allow_small=True)
        found.append((made.digest, judge.seen - before))
    assert found[0][1] == found[2][1] == 4 and found[1] == (found[0][0], 0) and found[2][0] != found[0][0]


def test_the_weakest_classes_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nsbgan_infer.evaluation.images.load_lite0", TinyClassifier)
    for class_id in range(200, 204):
        write(tmp_path / "fake" / find_class(class_id).wnid, pictures(2, class_id))
    arguments = ["--fake", str(tmp_path / "fake"), "--measures", "share-lite0", "--allow-small"]
    assert call(*arguments, "--json") == 0
    by_class = {k: v for k, v in json.loads(capsys.readouterr().out)["values"]["share-lite0"].items() if " " in k}
    assert sorted(by_class) == [f"class {c}" for c in range(200, 204)]
    assert call(*arguments) == 0
    weakest = min(by_class, key=lambda c: by_class[c])
    line = next(row for row in capsys.readouterr().out.splitlines() if "share-lite0" in row)
    assert f"weakest {find_class(int(weakest.split()[1])).name} {by_class[weakest]:.2f}" in line
    assert "class 2" not in line
