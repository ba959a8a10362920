"""The documentation site (mkdocs.yml): docs/ as it is, README.md as first page, and whatever else the pages link to.

mkdocs sees docs/ only, so a link such as `../weights/TRAINING.md` would lead nowhere. These hooks add every file of the
repository that a page links to, and write the links anew for their places in the site.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

TOP = Path(__file__).resolve().parents[1]
FIRST = "README.md"
LINK = re.compile(r"(\]\()([^)#\s]+)")  # the target of [text](target) and ![text](target), without its #anchor


def in_repository(uri: str) -> str:
    """Where the file at `uri` in the site lies in the repository."""
    if uri == "index.md":
        return FIRST
    return f"docs/{uri}" if (TOP / "docs" / uri).exists() else uri


def in_site(path: str) -> str:
    """Where a file of the repository stands in the site."""
    return "index.md" if path == FIRST else path.removeprefix("docs/")


def linked(text: str, path: str) -> set[str]:
    """The files of the repository that the page at `path` links to."""
    targets = {posixpath.normpath(posixpath.join(posixpath.dirname(path), m[2])) for m in LINK.finditer(text)}
    return {t for t in targets if not t.startswith("..") and (TOP / t).is_file()}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the first page and all files that pages link to, and those that these link to."""
    waiting = {FIRST} | {f"docs/{f.src_uri}" for f in files.documentation_pages()}
    seen: set[str] = set()
    while waiting:
        path = waiting.pop()
        seen.add(path)
        if files.get_file_from_path(in_site(path)) is None:
            files.append(File.generated(config, in_site(path), abs_src_path=str(TOP / path)))
        if path.endswith(".md"):
            waiting |= linked((TOP / path).read_text("utf-8"), path) - seen
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Write the links of a page as they are in the site."""
    own = in_repository(page.file.src_uri)

    def moved(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(own), match[2]))
        if not (TOP / target).is_file():
            return match[0]
        return match[1] + posixpath.relpath(in_site(target), posixpath.dirname(page.file.src_uri) or ".")

    return LINK.sub(moved, markdown)
