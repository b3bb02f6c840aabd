"""docs/tutorial.md, as somebody follows it: every command in order, from an empty directory, and what each prints."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.ports import free_base_port

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial.md"
BASE_PORT = 9600
"""As the page has it; the test takes ports that are free."""


class Step(NamedTuple):
    command: str
    printed: list[str]


def steps(text: str) -> list[Step]:
    """The commands of all console blocks, with the lines that follow each. Files to be saved become commands too."""
    found: list[Step] = []
    saved_as = re.compile(r"Save this as `([^`]+)`:\n\n```python\n(.*?)```", re.DOTALL)
    blocks = re.compile(r"Save this as `[^`]+`:\n\n```python\n.*?```|```console\n.*?```", re.DOTALL)
    for block in blocks.findall(text):
        if (file := saved_as.match(block)) is not None:
            found.append(Step(f"cat > {file[1]} <<'END'\n{file[2]}END", []))
            continue
        for line in block.splitlines()[1:-1]:
            if line.startswith("$ "):
                found.append(Step(line[2:], []))
            else:
                found[-1].printed.append(line)
    return found


def pattern(lines: list[str]) -> str:
    """`...` is anything within a line; alone in its line, any number of lines. Columns may be wider or narrower."""
    told = ""
    for line in lines:
        told += r"(?:.*\n)*?" if line == "..." else r"[^\n]*?".join(map(re.escape, line.split("..."))) + r"[^\n\S]*\n"
    return re.sub(r"(?:\\ ){2,}", " +", told)


def test_a_pattern_means_what_the_page_says_it_does() -> None:
    assert re.fullmatch(pattern(["a ... b", "...", "c"]), "a x y b\nanything\nat all\nc\n")
    assert re.fullmatch(pattern(["...", "c"]), "c\n")
    assert not re.fullmatch(pattern(["a ... b"]), "a x\nb\n")
    assert not re.fullmatch(pattern(["a"]), "a\nb\n")


def test_the_page_has_commands_and_says_what_most_of_them_print() -> None:
    found = steps(TUTORIAL.read_text())
    assert len(found) > 20
    assert sum(bool(step.printed) for step in found) > 15
    assert any("hello.py" in step.command for step in found)


@pytest.mark.long
def test_whoever_follows_the_tutorial_sees_what_it_says(tmp_path: Path) -> None:
    base_port = free_base_port(3)
    text = TUTORIAL.read_text()
    for broker in range(3):
        for use in range(3):
            text = text.replace(str(BASE_PORT + 10 * broker + use), f"{{port {base_port + 10 * broker + use}}}")
    text = re.sub(r"\{port (\d+)\}", r"\1", text)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LOGRAFT_", "COLUMNS"))}
    environment |= {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "LC_ALL": "C",
    }
    here = tmp_path / "empty"
    here.mkdir()
    try:
        for step in steps(text):
            command = step.command.replace("lograft up", f"lograft up --base-port {base_port}")
            ended = subprocess.run(
                ["bash", "-c", f"{command}\nstatus=$?\npwd > {tmp_path}/where\nexit $status"],
                cwd=here,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=120,
            )
            if transcript := os.environ.get("TUTORIAL_TRANSCRIPT"):
                with open(transcript, "a") as file:
                    file.write(f"$ {step.command}\n{ended.stdout}")
            assert ended.returncode == 0, f"$ {step.command}\n{ended.stdout}"
            said = "\n".join(step.printed)
            assert re.fullmatch(pattern(step.printed), ended.stdout), (
                f"$ {step.command}\n--- it printed\n{ended.stdout}--- the page says\n{said}"
            )
            here = Path((tmp_path / "where").read_text().strip())
        assert here == tmp_path / "empty"
        assert not list(here.iterdir())
    finally:
        left = tmp_path / "empty" / "hello-log"
        if left.exists():
            subprocess.run(["lograft", "down"], cwd=left, env=environment, capture_output=True, check=False)
