"""docs/reference/ is what the code says today, and the pages written by hand name what there is."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from lograft.client.cli.contents import COMMANDS
from lograft.client.cli.lazy_commands import leaves
from lograft.client.cli.main import TABLE
from lograft.proto.errors import BY_REASON

from tests.reference.pages import DIRECTORY, pages

DOCS = DIRECTORY.parent
ROOT = DOCS.parent
PAGES = pages()
WRITTEN = sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md"), ROOT / "examples" / "README.md"])


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


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", page.read_text()):
        name, _, anchor = target.partition("#")
        found = (page.parent / name).resolve() if name else page
        assert found.exists(), f"{page.name}: {target}"
        if anchor and found.suffix == ".md":
            assert anchor in anchors(found.read_text()), f"{page.name}: {target}"


OPTIONS = {" ".join(words): {*("--help", "-h"), *(name for param in leaf.params for name in param.opts)}
           for words, leaf in leaves(COMMANDS)}  # fmt: skip
OPTIONS["broker"] = {name for param in TABLE.load().get_command(None, "broker").params for name in param.opts}


def commands_of(text: str) -> list[list[str]]:
    """Every call of `lograft` in the blocks that are for a shell, as words."""
    found = []
    for kind, block in re.findall(r"^```(sh|console)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            if kind == "console" and not line.startswith("$ "):
                continue  # what it prints
            plain = re.sub(r"'[^']*'", "quoted", line.removeprefix("$ ")).replace('"', "")
            for part in re.split(r"\||&&|;|&|\$\(|\)", plain):
                words = shlex.split(part, comments=True)
                if words and words[0].endswith("lograft"):
                    found.append([word for word in words[1:] if word not in (">", "<")])
    return found


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_that_pages_show_are_commands_that_there_are(page: Path) -> None:
    for words in commands_of(page.read_text()):
        if words[0].startswith("-"):
            continue
        known = next((name for name in (" ".join(words[:2]), words[0]) if name in OPTIONS), None)
        assert known is not None, f"{page.name}: lograft {' '.join(words)}"
        named = [word.partition("=")[0] for word in words if re.match(r"--[a-z]|-[A-Za-z]$", word)]
        assert set(named) <= OPTIONS[known], f"{page.name}: lograft {' '.join(words)}"
