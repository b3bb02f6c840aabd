from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from lograft.client.cli.main import main

from tests.unit.check.stories import Story


def written(story: Story, path: Path) -> str:
    path.write_text(story.file.getvalue())
    return str(path)


def a_clean_story() -> Story:
    story = Story()
    story.sent("p", "a", at=0)
    story.polled("c", (0, "a"))
    return story


def a_story_of_a_lost_record() -> Story:
    story = a_clean_story()
    story.sent("p", "b", at=1)
    story.read_all((0, "a"))
    return story


def test_a_clean_history_ends_with_0_and_says_what_was_judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "history", written(a_clean_story(), tmp_path / "h")]) == 0
    out = capsys.readouterr().out
    assert "lost-write" in out and "nothing was found" in out and "1 record sent, 1 acknowledged, 1 read" in out
    assert "note: " not in out


def test_an_anomaly_ends_with_1_and_names_who_what_where_and_when(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "history", written(a_story_of_a_lost_record(), tmp_path / "h")]) == 1
    out = capsys.readouterr().out
    assert "FAIL: unseen" in out
    assert "t/0, offset 1: 'b' of p (op 2, sent at 0.005000, ok at 0.006000) was acknowledged" in out


def test_programs_get_the_verdict_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "history", "-o", "json", written(a_story_of_a_lost_record(), tmp_path / "h")]) == 1
    verdict = json.loads(capsys.readouterr().out)
    assert verdict["ok"] is False
    (row,) = [row for row in verdict["rows"] if row["verdict"] == "FAIL"]
    assert (row["name"], row["found"]) == ("unseen", 1)
    (example,) = row["examples"]
    assert (example["process"], example["partition"], example["offset"], example["values"]) == ("p", "t/0", 1, ["b"])
    assert verdict["counts"]["send"] == {"invoke": 2, "ok": 2}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "h: is empty; a history begins with"),
        ('{"lograft_history": 1}\nnonsense\n', "h, line 2: is no event"),
        (
            '{"lograft_history": 1}\n{"t": 1, "process": "p", "op": 1, "f": "poll", "type": "ok", "records": []}\n',
            "op 1",
        ),
    ],
)
def test_a_file_that_cannot_be_judged_ends_with_2_and_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    path = tmp_path / "h"
    path.write_text(text)
    assert main(["check", "history", str(path)]) == 2
    seen = capsys.readouterr()
    assert seen.out == "" and said in seen.err and seen.err.count("\n") == 1


def test_a_file_that_is_not_there_ends_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "history", str(tmp_path / "nowhere")]) == 2
    assert "nowhere: No such file or directory; name the files" in capsys.readouterr().err


def test_a_value_that_is_sent_twice_cannot_be_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    story = a_clean_story()
    story.sent("q", "a", at=1)
    assert main(["check", "history", written(story, tmp_path / "h")]) == 2
    assert "was sent before, by p (op 0" in capsys.readouterr().err


def test_what_was_not_judged_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    story = a_clean_story()
    story.sent("p", "b", at=1)
    path = tmp_path / "h"
    path.write_text(story.file.getvalue() + '{"t": 9, "proc')
    assert main(["check", "history", str(path)]) == 0
    out = capsys.readouterr().out
    assert "note: no final read" in out and "was cut short" in out


def test_an_acknowledgement_needs_an_offset_for_each_value(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    story = Story()
    story.acked(story.sending("p", "a", "b"), 0)
    assert main(["check", "history", written(story, tmp_path / "h")]) == 2
    assert "was of 2 values, and was told 1 offsets; an ok has an offset for each" in capsys.readouterr().err


def test_a_history_that_holds_nothing_to_judge_is_not_called_well(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    story = Story()
    story.sending("p", "a")
    path = written(story, tmp_path / "h")
    assert main(["check", "history", path]) == 2
    seen = capsys.readouterr()
    assert "nothing was judged: none of 32 rows applies" in seen.out and "record sends and a final read" in seen.err
    assert main(["check", "history", "-o", "json", path]) == 2
    assert json.loads(capsys.readouterr().out)["ok"] is False


def test_a_pipe_is_refused_because_its_beginning_would_not_be_judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / "pipe")  # as of `check history <(zcat run.jsonl.gz)`
    assert main(["check", "history", str(tmp_path / "pipe")]) == 2
    assert "pipe: is no file but a pipe or a device, and is read twice; write it to a file" in capsys.readouterr().err
