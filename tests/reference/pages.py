"""The pages of docs/reference/, each made from the code alone, so that they cannot drift from it."""

from __future__ import annotations

from pathlib import Path

from . import api, command_line, configuration, errors

DIRECTORY = Path(__file__).parents[2] / "docs" / "reference"
_MADE = "<!-- Made by `make reference`: change the code, not this page. -->\n\n"


def pages() -> dict[str, str]:
    """What each file in docs/reference/ must hold."""
    made = {
        "command-line.md": command_line.page(),
        "configuration.md": configuration.page(),
        "errors.md": errors.page(),
        "python.md": api.page(),
    }
    return {name: _MADE + text.rstrip() + "\n" for name, text in made.items()}
