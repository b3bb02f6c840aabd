"""`make reference`: writes the pages."""

from __future__ import annotations

from .pages import DIRECTORY, pages

DIRECTORY.mkdir(exist_ok=True)
for name, text in pages().items():
    (DIRECTORY / name).write_text(text)
    print(f"docs/reference/{name}")
