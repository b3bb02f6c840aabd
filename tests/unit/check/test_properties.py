"""The checker against a model: nothing is found in what a correct log shows, and every kind of damage to it is."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lograft.client.check.verdict import Verdict, judge

from tests.unit.check.model_log import PARTITIONS, ModelLog

Line = dict[str, Any]


def lines_of(seed: int, steps: int = 300) -> list[Line]:
    story = ModelLog(Random(seed), steps).story
    return [json.loads(line) for line in story.file.getvalue().splitlines()]


def verdict_of(lines: list[Line], folder: Path) -> Verdict:
    path = folder / "history.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return judge([path])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("histories")


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 1 << 40), steps=st.integers(0, 600))
def test_nothing_is_found_in_what_a_correct_log_shows(folder: Path, seed: int, steps: int) -> None:
    verdict = verdict_of(lines_of(seed, steps), folder)
    assert verdict.ok, [example.text for row in verdict.failing for example in row.told()]


# Damage: each kind changes a clean history in one place and says which rows may tell of it; None: no such place.

Damage = Callable[[list[Line], Random], set[str] | None]
DAMAGES: list[Damage] = []


def damage(change: Damage) -> Damage:
    DAMAGES.append(change)
    return change


def ends(lines: list[Line], f: str, kind: str = "ok") -> list[Line]:
    return [line for line in lines if line.get("f") == f and line.get("type") == kind]


def finals(lines: list[Line]) -> Iterator[Line]:
    return (line for line in ends(lines, "read_all") if line["partition"] != "u/0")


def acknowledged(lines: list[Line]) -> set[str]:
    invoked = {line["op"]: line for line in ends(lines, "send", "invoke")}
    return {value for line in ends(lines, "send") for value in invoked[line["op"]]["values"]}


def polled(lines: list[Line]) -> set[str]:
    return {record[2] for line in ends(lines, "poll") for record in line["records"]}


def one_of(random: Random, choices: list[Any]) -> Any:
    return random.choice(choices) if choices else None


@damage
def a_record_is_lost_in_the_midst(lines: list[Line], random: Random) -> set[str] | None:
    known = acknowledged(lines) | polled(lines)
    places = [
        (line, at) for line in finals(lines) for at in range(len(line["values"])) if line["values"][at][1] in known
    ]
    if (place := one_of(random, places)) is None:
        return None
    del place[0]["values"][place[1]]
    return {"lost-write", "vanished-read"}


@damage
def the_tail_is_lost(lines: list[Line], random: Random) -> set[str] | None:
    known = acknowledged(lines) | polled(lines)
    cut = one_of(random, [line for line in finals(lines) if line["values"] and line["values"][-1][1] in known])
    if cut is None:
        return None
    cut["end"] = cut["values"].pop()[0]
    return {"unseen", "vanished-read"}


@damage
def a_record_stands_there_twice(lines: list[Line], random: Random) -> set[str] | None:
    line = one_of(random, [line for line in finals(lines) if line["values"]])
    if line is None:
        return None
    line["values"].append([line["end"], random.choice(line["values"])[1]])
    line["end"] += 1
    return {"duplicate"}


@damage
def a_reader_gets_another_value(lines: list[Line], random: Random) -> set[str] | None:
    record = one_of(random, [record for line in ends(lines, "poll") for record in line["records"]])
    if record is None:
        return None
    record[2] = "rotten"
    return {"garbage-read", "inconsistent-offsets", "epoch-fork"}


@damage
def the_send_of_what_was_read_failed(lines: list[Line], random: Random) -> set[str] | None:
    read = {value for line in ends(lines, "read_all") for _, value in line["values"]}
    invoked = {line["op"]: line for line in ends(lines, "send", "invoke")}
    sends = [line for line in ends(lines, "send") if read & set(invoked[line["op"]]["values"])]
    if (line := one_of(random, sends)) is None:
        return None
    line["type"] = "fail"
    return {"aborted-read"}


@damage
def a_poll_hands_out_two_records_in_the_wrong_order(lines: list[Line], random: Random) -> set[str] | None:
    pairs = [
        (line["records"], at)
        for line in ends(lines, "poll")
        if line["process"].startswith("c-")
        for at in range(len(line["records"]) - 1)
        if line["records"][at][0] == line["records"][at + 1][0]
    ]
    if (pair := one_of(random, pairs)) is None:
        return None
    records, at = pair
    records[at], records[at + 1] = records[at + 1], records[at]
    return {"int-nonmonotonic-poll"}


@damage
def a_poll_leaves_a_record_out(lines: list[Line], random: Random) -> set[str] | None:
    middles = [
        (line["records"], at)
        for line in ends(lines, "poll")
        if line["process"].startswith("c-")
        for at in range(1, len(line["records"]) - 1)
        if line["records"][at - 1][0] == line["records"][at][0] == line["records"][at + 1][0] != "u/0"
    ]
    if (middle := one_of(random, middles)) is None:
        return None
    del middle[0][middle[1]]
    return {"int-poll-skip"}


@damage
def a_poll_hands_out_the_same_once_more(lines: list[Line], random: Random) -> set[str] | None:
    places = [
        number
        for number, line in enumerate(lines)
        if line.get("f") == "poll" and line.get("type") == "ok" and line["process"].startswith("c-") and line["records"]
    ]
    if (place := one_of(random, places)) is None:
        return None
    again = {**lines[place], "op": 10_000_000}
    begun = {**{key: again[key] for key in ("t", "process", "op", "f")}, "type": "invoke"}
    lines[place + 1 : place + 1] = [begun, again]
    return {"nonmonotonic-poll"}


@damage
def an_acknowledgement_names_another_offset(lines: list[Line], random: Random) -> set[str] | None:
    read = {value for line in ends(lines, "read_all") for _, value in line["values"]}
    invoked = {line["op"]: line for line in ends(lines, "send", "invoke")}
    sends = [line for line in ends(lines, "send") if set(invoked[line["op"]]["values"]) <= read]
    if (line := one_of(random, sends)) is None:
        return None
    line["offsets"] = [offset + 10_000 for offset in line["offsets"]]
    return {"dedup-window"}


@damage
def an_end_is_told_too_low(lines: list[Line], random: Random) -> set[str] | None:
    told = ends(lines, "ends")
    line = one_of(random, told[1:])
    if line is None or told[0]["t"] > min(one["t"] for one in lines if one.get("op") == line["op"]):
        return None
    name = one_of(random, [name for name in PARTITIONS if told[0]["ends"][name][1] > 0])
    if name is None:
        return None
    line["ends"][name] = [0, 0]
    return {"stale-end", "end-regress"}


@damage
def a_stored_offset_is_read_that_nobody_stored(lines: list[Line], random: Random) -> set[str] | None:
    stored = ends(lines, "store")
    found = [line for line in ends(lines, "fetch_stored") if stored and stored[0]["t"] < begun(lines, line)["t"]]
    if (line := one_of(random, found)) is None:
        return None
    offsets = begun(lines, stored[0])["offsets"]
    line["offsets"][random.choice(list(offsets))] = 77_777
    return {"commit-offset"}


@damage
def a_stored_offset_is_forgotten(lines: list[Line], random: Random) -> set[str] | None:
    stored = ends(lines, "store")
    found = [line for line in ends(lines, "fetch_stored") if stored and stored[0]["t"] < begun(lines, line)["t"]]
    if (line := one_of(random, found)) is None:
        return None
    line["offsets"][random.choice(list(begun(lines, stored[0])["offsets"]))] = None
    return {"commit-offset"}


def begun(lines: list[Line], end: Line) -> Line:
    return next(line for line in lines if line.get("op") == end["op"] and line["type"] == "invoke")


@damage
def two_members_own_a_partition(lines: list[Line], random: Random) -> set[str] | None:
    owns = [number for number, line in enumerate(lines) if line.get("f") == "own" and line["partitions"]]
    if (place := one_of(random, owns)) is None:
        return None
    lines.insert(place + 1, {**lines[place], "process": "m-9", "member": "m-9", "op": 10_000_000})
    return {"double-owner"}


@damage
def a_store_under_an_old_grant_is_accepted(lines: list[Line], random: Random) -> set[str] | None:
    """A store that was accepted names a grant from before one that another member had heard of by then."""
    stores = []
    newest: dict[str, tuple[str, int]] = {}  # by partition: the last grant to anybody
    others: list[tuple[str, str, int]] = []
    accepted = {line["op"] for line in ends(lines, "store")}
    for line in lines:
        if line.get("f") == "own":
            for name, generation in line["generation"].items():
                if generation > newest.get(name, ("", 0))[1]:
                    newest[name] = line["member"], generation
                    others.append((name, line["member"], generation))
        elif line.get("op") in accepted and line["f"] == "store" and line["type"] == "invoke":
            stores += [
                (line, name, generation)
                for name, member, generation in others
                if name in line["offsets"] and member != line["member"]
            ]
    if (found := one_of(random, stores)) is None:
        return None
    line, name, generation = found
    line["generation"][name] = generation - 1
    return {"fenced-store"}


@damage
def a_group_never_did_what_it_stored(lines: list[Line], random: Random) -> set[str] | None:
    done = {(line["member"], name): offsets for line, name, offsets in _stored_past(lines)}
    if not done:
        return None
    (_, name), missing = random.choice(sorted(done.items()))
    for line in ends(lines, "process"):
        line["records"] = [record for record in line["records"] if record != [name, missing]]
    return {"group-gap"}


def _stored_past(lines: list[Line]) -> Iterator[tuple[Line, str, int]]:
    """Stores that were accepted of an offset with at least two processed before it; and the last of those."""
    processed: dict[str, set[int]] = {}
    accepted = {line["op"] for line in ends(lines, "store")}
    for line in lines:
        if line.get("f") == "process":
            for name, offset in line["records"]:
                processed.setdefault(name, set()).add(offset)
        elif line.get("f") == "store" and line["type"] == "invoke" and line["op"] in accepted:
            for name, offset in line["offsets"].items():
                lowest = min(processed.get(name, {offset}))
                if name != "u/0" and lowest < offset - 1:
                    yield line, name, offset - 1


@damage
def a_term_falls(lines: list[Line], random: Random) -> set[str] | None:
    records = [record for line in ends(lines, "poll") for record in line["records"] if record[3] > 1]
    later = [record for record in records if any(other[0] == record[0] and other[1] < record[1] for other in records)]
    if (record := one_of(random, later)) is None:
        return None
    record[3] = 0
    return {"epoch-regress", "epoch-fork"}


@damage
def a_replica_differs(lines: list[Line], random: Random) -> set[str] | None:
    sums = [one for line in ends(lines, "replica") for one in line["sums"]]
    if (one := one_of(random, sums)) is None:
        return None
    one[1] += 1
    return {"replica-divergence"}


@damage
def a_topic_that_is_gone_is_listed(lines: list[Line], random: Random) -> set[str] | None:
    deleted = ends(lines, "delete_topic")
    listed = [line for line in ends(lines, "list_topics") if deleted and deleted[0]["t"] < begun(lines, line)["t"]]
    if (line := one_of(random, listed)) is None:
        return None
    line["topics"][begun(lines, deleted[0])["topic"]] = "id-of-nobody"
    return {"metadata"}


@damage
def offsets_of_two_sends_are_swapped_everywhere(lines: list[Line], random: Random) -> set[str] | None:
    """A later send stands before an earlier one that was acknowledged before it was begun."""
    ok = [line for line in ends(lines, "send") if len(line["offsets"]) == 1]
    invoked = {line["op"]: line for line in ends(lines, "send", "invoke")}
    pairs = [
        (one, other)
        for one in ok
        for other in ok
        if one["partition"] == other["partition"]
        and invoked[one["op"]]["topic"] == invoked[other["op"]]["topic"]
        and one["t"] < invoked[other["op"]]["t"]
    ]
    if (pair := one_of(random, pairs)) is None:
        return None
    one, other = pair
    (first,), (second,) = invoked[one["op"]]["values"], invoked[other["op"]]["values"]
    swapped = {first: second, second: first}
    one["offsets"], other["offsets"] = other["offsets"], one["offsets"]
    for line in ends(lines, "poll"):
        for record in line["records"]:
            record[2] = swapped.get(record[2], record[2])
    for line in ends(lines, "read_all"):
        for entry in line["values"]:
            entry[1] = swapped.get(entry[1], entry[1])
    return {"realtime-order", "nonmonotonic-send", "garbage-read", "stale-end"}


@pytest.mark.parametrize("change", DAMAGES, ids=lambda change: change.__name__)
@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 1 << 40))
def test_damage_to_a_clean_history_is_found(folder: Path, change: Damage, seed: int) -> None:
    for one in range(seed, seed + 50):  # until there is such a place
        lines = lines_of(one)
        rows = change(lines, Random(seed))
        if rows is not None:
            break
    else:
        raise AssertionError("no history of the model has a place for this damage")
    found = {row.name for row in verdict_of(lines, folder).failing}
    assert found & rows, f"{found or 'nothing'} was found, seed {one}"
