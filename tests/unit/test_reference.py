"""docs/reference/ is what the code says today, and the pages written by hand name what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from lograft.proto.errors import BY_REASON

from tests.reference.pages import DIRECTORY, pages

DOCS = DIRECTORY.parent
ROOT = DOCS.parent
PAGES = pages()


@pytest.mark.parametrize("name", sorted(PAGES))
def test_the_reference_is_fresh(name: str) -> None:
    path = DIRECTORY / name
    assert path.exists() and path.read_text() == PAGES[name], f"docs/reference/{name} is stale: make reference"


def test_every_error_has_a_page_for_those_who_meet_it() -> None:
    told = re.findall(r"^### ([A-Z_]+)$", (DOCS / "errors.md").read_text(), re.MULTILINE)
    assert sorted(told) == sorted(BY_REASON)


def anchors(text: str) -> set[str]:
    """As GitHub makes them of headings."""
    titles = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize(
    "page", sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md"), ROOT / "examples" / "README.md"]), ids=str
)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", page.read_text()):
        name, _, anchor = target.partition("#")
        found = (page.parent / name).resolve() if name else page
        assert found.exists(), f"{page.name}: {target}"
        if anchor and found.suffix == ".md":
            assert anchor in anchors(found.read_text()), f"{page.name}: {target}"
