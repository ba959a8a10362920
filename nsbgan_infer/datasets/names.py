"""Which names of a folder or an archive belong to a set of pictures, and the class that a name tells.

Names have `/` between their parts and begin below the set itself. What is left out is counted by its reason.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache

from nsbgan_infer.classes import NUM_CLASSES, all_classes
from nsbgan_infer.errors import UsageError
from nsbgan_infer.storage.image_files import HEIC_SUFFIXES, reads_heic, suffixes

ASIDE = "below-threshold"  # the folder of what rejection kept aside, no part of the set that it lies in
THUMBNAILS = {"@eadir", "@__thumb", "__macosx"}  # folders of Synology, QNAP and macOS; other programs hide theirs
LABEL_SUFFIXES = ("cls", "json")  # of WebDataset
HEIC = "HEIC (pip install 'nsbgan-infer[heic]' to read them)"

_STEP = re.compile(r"(.+)_(?:2-sample|3-low-band-\d+|4-decoded-\d+)(\.\w+)$")
_SHEET = re.compile(r"(?:.*/)?grid\.(?:png|webp|jpg)$")
_MADE = re.compile(r"(?:^|/)(?:(\d{3})_([a-z0-9-]+)_|class\d+_)?seed\d+\.\w+$")


def pick_pictures(names: Iterable[str], left_out: Counter[str]) -> list[str]:
    """Those of `names` that are pictures of the set, sorted; the others are counted in `left_out`.

    A picture has the ending of a format that can be read. Hidden files and folders, folders of thumbnails, what
    rejection kept aside, and what `nsbgan generate` writes beside its pictures (steps, contact sheets) are none.
    """
    names = sorted(names)
    known, everything = suffixes(), set(names)
    with_made = {_folder(n) for n in names if _MADE.search(n)}
    picked = []
    for name in names:
        is_heic = name.lower().endswith(HEIC_SUFFIXES)
        if not (name.lower().endswith(known) or is_heic):
            if not _hidden(name) and sample_key(name)[1] not in LABEL_SUFFIXES:
                left_out["of other kinds"] += 1
        elif reason := _reason(name, everything, with_made):
            left_out[reason] += 1
        elif is_heic and not reads_heic():
            left_out[HEIC] += 1
        else:
            picked.append(name)
    return picked


def left_out_text(left_out: Mapping[str, int]) -> str:
    """`left out: 3 hidden, 1 contact sheets` for people; empty where nothing was."""
    return "left out: " + ", ".join(f"{n} {why}" for why, n in left_out.items()) if left_out else ""


def sample_key(name: str) -> tuple[str, str]:
    """WebDataset's key of a name, which ends at the first dot of its last part, and what follows that dot."""
    folder, slash, file = name.rpartition("/")
    stem, _, rest = file.partition(".")
    return folder + slash + stem, rest.lower()


def read_classes(
    names: Sequence[str], everything: Iterable[str], read: Callable[[str], bytes], *, where: str, within: str = ""
) -> tuple[int | None, ...]:
    """The class of each of `names`: by its `.cls` file among `everything`, else its name, else its `.json` file.

    `read` gives a file's bytes, `within` is the name of the folder in which all lie, `where` is for messages. Raises
    UsageError for a `.cls` file without a class id.
    """
    labels: dict[str, dict[str, str]] = {suffix: {} for suffix in LABEL_SUFFIXES}
    for name in everything:
        key, rest = sample_key(name)
        if rest in labels:
            labels[rest][key] = name
    found = []
    for name in names:
        key, _ = sample_key(name)
        if file := labels["cls"].get(key):
            class_id = _id_of(read(file)[:64].decode("ascii", "replace").strip())
            if class_id is None:
                raise UsageError(
                    f"{where} cannot be used: {file} holds no class id from 0 to {NUM_CLASSES - 1} and no WordNet id."
                )
        else:
            class_id = class_of(name, within)
            if class_id is None and (file := labels["json"].get(key)):
                class_id = _class_in_json(read(file))
        found.append(class_id)
    return tuple(found)


def class_of(name: str, within: str = "") -> int | None:
    """By the WordNet id in a name or in that of the folder `within` which all lie, else by the name of an image that
    was generated."""
    if found := re.search(r"n\d{8}", name) or re.search(r"n\d{8}", within):
        return _by_wnid().get(found[0])
    made = _MADE.search(name)
    if made is None or made[1] is None:
        return None
    return int(made[1]) if all_classes()[int(made[1])].slug == made[2] else None


def _reason(name: str, everything: set[str], with_made: set[str]) -> str:
    """Why a picture is left out; empty if it is not."""
    parts = name.split("/")
    if _hidden(name):
        return "hidden"
    if any(part.lower() in THUMBNAILS for part in parts[:-1]):
        return "in folders of thumbnails"
    if ASIDE in parts[:-1]:
        return "kept aside by rejection"
    if (step := _STEP.match(name)) and step[1] + step[2] in everything:
        return "steps of pictures"
    return "contact sheets" if _SHEET.match(name) and _folder(name) in with_made else ""


def _hidden(name: str) -> bool:
    """macOS adds `._NAME` twins, others `.thumbnails` and `.ipynb_checkpoints`."""
    return any(part.startswith(".") and part not in (".", "..") for part in name.split("/"))


def _folder(name: str) -> str:
    return name.rpartition("/")[0]


def _class_in_json(data: bytes) -> int | None:
    """The class id in a recipe or in the metadata of a WebDataset, None if it holds none."""
    try:
        about = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(about, dict) or about.get("labels", "imagenet") != "imagenet":
        return None
    for key in ("class_id", "class", "cls", "label", "wnid"):
        value = about.get(key)
        if isinstance(value, int | str) and not isinstance(value, bool) and (found := _id_of(str(value))) is not None:
            return found
    return None


def _id_of(text: str) -> int | None:
    if re.fullmatch(r"\d{1,3}", text, re.ASCII):
        return int(text)
    return _by_wnid().get(text)


@cache
def _by_wnid() -> dict[str, int]:
    return {c.wnid: c.id for c in all_classes()}
