from __future__ import annotations

import io
import itertools
import json
import re
from pathlib import Path

import pytest
from lograft.client.check.history import BadHistory, History, Poll, Polled, Recorder, Send

HEADER = '{"lograft_history": 1, "idempotent": true}\n'
INVOKED = '{"t": 1.0, "process": "p", "op": 0, "f": "send", "type": "invoke", "topic": "t", "values": ["a"]}\n'


def a_file(folder: Path, text: str, name: str = "history.jsonl") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_what_the_recorder_wrote_is_read_back(tmp_path: Path) -> None:
    clock = itertools.count(10)
    with open(tmp_path / "history.jsonl", "w") as file:
        recorder = Recorder(file, lambda: next(clock), compacted=["keyed"], made_by="a test")
        send = recorder.invoke("p-1", "send", topic="t", partition=None, producer="p-1/1", values=["a", "b"])
        poll = recorder.invoke("c-1", "poll")
        recorder.ok(send, partition=0, offsets=[4, 5], term=2)
        recorder.ok(poll, records=[["t/0", 4, "a", 2], ["t/0", 5, "b", None]])
        recorder.note("p-1", "crash")
    history = History([tmp_path / "history.jsonl"])
    events = list(history.events())
    assert history.idempotent and history.compacted == {"keyed"}
    assert [(event.seq, event.t, event.process, event.type) for event in events] == [
        (0, 10.0, "p-1", "invoke"),
        (1, 11.0, "c-1", "invoke"),
        (2, 12.0, "p-1", "ok"),
        (3, 13.0, "c-1", "ok"),
        (4, 14.0, "p-1", "ok"),
    ]
    assert isinstance(events[2], Send) and events[2].offsets == [4, 5]
    assert isinstance(events[3], Poll) and events[3].records == [Polled("t/0", 4, "a", 2), Polled("t/0", 5, "b")]


def test_every_line_is_on_its_way_to_the_disk_before_the_recorder_returns() -> None:
    class File(io.StringIO):
        flushed = ""

        def flush(self) -> None:
            self.flushed = self.getvalue()

    file = File()
    recorder = Recorder(file, lambda: 0.0)
    recorder.invoke("p", "poll")
    assert json.loads(file.flushed.splitlines()[1])["f"] == "poll"


def test_an_op_ends_once_and_only_if_it_began() -> None:
    recorder = Recorder(io.StringIO(), lambda: 0.0)
    op = recorder.invoke("p", "poll")
    recorder.info(op)
    with pytest.raises(AssertionError, match="not open"):
        recorder.ok(op, records=[])
    with pytest.raises(AssertionError, match="no beginning"):
        recorder.invoke("p", "crash")


def test_files_of_several_processes_are_told_in_the_order_of_time_beginnings_first(tmp_path: Path) -> None:
    def poll(t: float, op: int, kind: str) -> str:
        records = ', "records": []' if kind == "ok" else ""
        return f'{{"t": {t}, "process": "x", "op": {op}, "f": "poll", "type": "{kind}"{records}}}\n'

    one = a_file(tmp_path, HEADER + poll(1, 0, "invoke") + poll(3, 0, "ok"), "one")
    two = a_file(tmp_path, HEADER + poll(2, 0, "invoke") + poll(2.5, 0, "ok") + poll(3, 1, "invoke"), "two")
    events = list(History([one, two]).events())
    told = [(event.t, event.file, event.type) for event in events]
    assert told == [(1, 0, "invoke"), (2, 1, "invoke"), (2.5, 1, "ok"), (3, 1, "invoke"), (3, 0, "ok")]


def test_a_last_line_that_was_cut_short_is_left_out_and_said(tmp_path: Path) -> None:
    history = History([a_file(tmp_path, HEADER + INVOKED + INVOKED[:40])])
    assert len(list(history.events())) == 1
    assert len(history.notes) == 1 and "line, 3, was cut short" in history.notes[0]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is empty; a history begins with"),
        ("{}\n", "line 1: is no header of a history"),
        ('{"lograft_history": 2}\n', "line 1: is of format 2"),
        (HEADER + "nonsense\n" + INVOKED, "line 2: is no event"),
        (HEADER + INVOKED.replace("send", "sned"), "line 2: is no event .*sned"),
        (HEADER + INVOKED.replace("1.0", '"soon"'), "line 2: is no event .*float"),
        (HEADER + INVOKED.replace('"values": ["a"]', '"v": 1'), "line 2: a send that is 'invoke' needs `values`"),
        (HEADER + INVOKED + INVOKED, "line 3: op 0 is open already"),
        (HEADER + INVOKED.replace("invoke", "fail"), "line 2: op 0 ends as send, and is open as nothing"),
        (HEADER + INVOKED + INVOKED.replace("1.0", "0.5"), "line 3: time falls here, from 1.0 to 0.5; all processes"),
        (HEADER + '{"\xff', "line, 2, was cut short"),
    ],
)
def test_a_line_that_says_nothing_is_named_with_a_remedy(tmp_path: Path, text: str, why: str) -> None:
    path = a_file(tmp_path, text)
    try:
        history = History([path])
        list(history.events())
        said = history.notes[0]
    except BadHistory as bad:
        said = str(bad)
    assert said.startswith(str(path))
    assert re.search(why, said), said


def test_files_of_unlike_producers_are_not_judged_together(tmp_path: Path) -> None:
    one = a_file(tmp_path, HEADER, "one")
    two = a_file(tmp_path, HEADER.replace("true", "false"), "two")
    with pytest.raises(BadHistory, match="said to differ"):
        History([one, two])
