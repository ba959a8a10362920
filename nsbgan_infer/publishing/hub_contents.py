"""What a Hub repository holds, told from its list of files and the headers of its weights; no weights are fetched."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from nsbgan_infer.errors import CheckpointError, OfflineError, UsageError
from nsbgan_infer.pretrained import INDEX, WEIGHTS
from nsbgan_infer.publishing.component_facts import component_facts, outline_header
from nsbgan_infer.storage.hub import Listing, fetch_header, fetch_listing

MOST_PARTS = 16  # a pipeline has a handful; a hostile repository must not cost a request for each of its files


@dataclass(frozen=True)
class Contents:
    """`kind` is `pipeline`, `component` or `other`; `parts` has a row for each component: `folder` (empty at the top),
    `size` in bytes and either `error`, or what `component_facts` tells; `others` counts the remaining files.
    """

    listing: Listing
    kind: str
    parts: tuple[dict[str, Any], ...]
    others: int


def look_at(repo: str, *, revision: str | None = None) -> Contents:
    """What `repo` holds at a revision, asked from the Hub. Raises as `hub.fetch_listing`."""
    listing = fetch_listing(repo, revision=revision)
    weights = [f for f in sorted(listing.files) if re.fullmatch(rf"([A-Za-z0-9_.-]+/)?{re.escape(WEIGHTS)}", f)]
    parts = tuple(_part(listing, file) for file in weights[:MOST_PARTS])
    kind = "pipeline" if INDEX in listing.files else "component" if WEIGHTS in weights else "other"
    return Contents(listing, kind, parts, len(listing.files) - len(parts))


def _part(listing: Listing, file: str) -> dict[str, Any]:
    row: dict[str, Any] = {"folder": file.rpartition("/")[0], "size": listing.files[file]}
    try:
        return row | component_facts(outline_header(fetch_header(listing, file), file))
    except OfflineError:
        raise
    except (CheckpointError, UsageError) as error:
        return row | {"error": str(error)}
