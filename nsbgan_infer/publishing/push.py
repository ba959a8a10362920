"""A pipeline or a component to a repository on the Hugging Face Hub, with its model card."""

from __future__ import annotations

import tempfile
from pathlib import Path

from nsbgan_infer.errors import WrongTypeError
from nsbgan_infer.pipeline import NsbPipeline
from nsbgan_infer.publishing.card import make_card
from nsbgan_infer.publishing.subject import CARD, Content, open_subject
from nsbgan_infer.storage.components import Component, copy_component
from nsbgan_infer.storage.hub import parse_ref, push_files


def push_to_hub(what: NsbPipeline | Component | str | Path, repo: str, *, private: bool = False) -> str:
    """Publish a pipeline, a component, the folder of one, or weights that ship; the address of the commit.

    `repo` is `owner/name`. A model card goes with it, the folder's own README.md if it has one; the card of the command
    `nsbgan push` also gets a sheet of samples. The log-in is that of `hf auth login`. Raises UsageError before anything
    is sent, CheckpointError for what the Hub refuses, OfflineError if it does not answer.
    """
    name, _ = parse_ref(f"hf://{repo}")
    if isinstance(what, str | Path):
        return _push(str(what), name, private)
    if not isinstance(what, NsbPipeline | Component):
        raise WrongTypeError(f"A pipeline, a component or a folder can be published, not a {type(what).__name__}.")
    with tempfile.TemporaryDirectory(prefix="nsbgan-push-") as folder:
        if isinstance(what, NsbPipeline):
            what.save_pretrained(folder)
        else:
            copy_component(what, Path(folder))
        return _push(folder, name, private)


def _push(ref: str, repo: str, private: bool) -> str:
    subject = open_subject(ref)
    files: dict[str, Content] = dict(subject.files)
    if CARD not in files:
        shown = repo if subject.kind == "pipeline" else f"hf://{repo}"
        files[CARD] = make_card(subject, ref=shown).encode()
    return push_files(repo, files, private=private, message=f"Upload {subject.kind} by nsbgan")
