"""Every relative link in the documentation leads to a file, and every #anchor to a heading."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import ROOT

DOCUMENTS = sorted(p for p in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")))
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
PENDING = {"performance.md", "scaling.md"}


def prose(document: Path) -> str:
    """The text without its fenced code blocks."""
    return re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.M | re.S)


def links(document: Path) -> list[str]:
    """Targets of Markdown links outside code, without those to other sites."""
    return [
        t
        for t in LINK.findall(prose(document))
        if not t.startswith(("https://", "http://", "mailto:"))
    ]


def anchors(document: Path) -> set[str]:
    """GitHub's names of the headings: lower case, punctuation gone, spaces to hyphens."""
    titles = re.findall(r"^#+ +(.*)$", prose(document), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", t.lower()).strip().replace(" ", "-") for t in titles}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    for target in links(document):
        name, _, anchor = target.partition("#")
        path = (document.parent / name).resolve() if name else document
        if path.name in PENDING and not path.exists():
            continue
        assert path.exists(), f"{document.name}: {target} does not exist"
        assert path.is_relative_to(ROOT), f"{document.name}: {target} is outside the repository"
        if anchor and path.suffix == ".md":
            assert anchor in anchors(path), f"{document.name}: {target}: no such heading"


def test_every_document_can_be_reached_from_the_index() -> None:
    index = ROOT / "docs" / "README.md"
    reached = {(index.parent / target.partition("#")[0]).resolve() for target in links(index)}
    missing = [p.name for p in ROOT.glob("docs/*.md") if p not in reached | {index}]
    assert not missing


def test_the_link_check_would_see_a_broken_link(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One Title, 2\n[a](gone.md) [b](#one-title-2)\n```\n[c](code.md)\n```\n")
    assert links(page) == ["gone.md", "#one-title-2"] and anchors(page) == {"one-title-2"}
    with pytest.raises(AssertionError, match=r"gone\.md does not exist"):
        test_links_lead_somewhere(page)
