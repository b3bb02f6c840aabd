"""Each conversation in this folder goes as it is told. REWRITE=1 writes down how it goes now; read the difference."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .conversation import as_told, replay

CONVERSATIONS = sorted(Path(__file__).parent.glob("*.txt"))


@pytest.mark.parametrize("path", CONVERSATIONS, ids=lambda path: path.stem)
def test_conversation_goes_as_told(path: Path) -> None:
    went = replay(path)
    if "REWRITE" in os.environ:
        path.write_text(went)
    assert went == as_told(path)


def test_there_are_conversations() -> None:
    assert len(CONVERSATIONS) >= 4
