"""Conversations between Raft cores, told in text files and replayed line by line.

A line that begins with a word is a command; the indented lines under it are what must follow. Items are written
`end offset@term.rank`, logs as one number a record, its term.

    voters n1 n2 n3             who there is, all in touch; `logs n1: 1 1 3` gives some of them a log
    timer n1                    its timer fires
    deliver [n1 -> n2]          deliver what is under way now (from and to whom), not what follows from it
    settle                      deliver until nothing is under way
    drop [n1 -> n2]             lose what is under way
    propose n1                  append one record
    cut off n1 / join n1        nobody hears it / everybody hears it again
    slow disk n1 / flush n1     nothing of n1 reaches its disk / all of it does
    memory n1                   n1 counts copies once they are written, its own too
    n2 has written              it acknowledges what it has written, on its disk or not
    transfer n1 to n2           hand over leadership
    expect                      role, term, log and commit of each member
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lograft.partitions.raft.events import CountWritten, TimerFired, TransferTo
from lograft.partitions.raft.messages import (
    AppendReply,
    AppendRequest,
    CampaignNow,
    Message,
    ReadProbe,
    ReadProbeReply,
    VoteReply,
    VoteRequest,
)

from tests.unit.raft.group import Group, heard


def commands(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Each command with the lines that must follow from it."""
    command, lines = "", []
    for line in path.read_text().splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        if line.startswith(" "):
            lines.append(line.strip())
        else:
            if command:
                yield command, lines
            command, lines = line.strip(), []
    if command:
        yield command, lines


def replay(path: Path) -> str:
    """The file as it comes out: equal to what it says if the cores do as told."""
    conversation = _Conversation()
    told = [line for line in path.read_text().splitlines() if line.startswith("#")]
    for command, _ in commands(path):
        told.append(command)
        told += [f"    {line}" for line in conversation.carry_out(command)]
    return "\n".join(told) + "\n"


def as_told(path: Path) -> str:
    """The file without what is only for the eye."""
    lines = [line.rstrip() for line in path.read_text().splitlines() if line.strip()]
    return "\n".join(line if line[0] in "# " else line.strip() for line in lines) + "\n"


class _Conversation:
    def __init__(self) -> None:
        self._group = Group()
        self._logs: dict[str, tuple[int, ...]] = {}

    def carry_out(self, command: str) -> list[str]:
        words = command.replace(":", " ").split()
        match words:
            case ["logs", *rest]:
                self._take_logs(rest)
            case ["voters", *names]:
                self._group = Group.of(len(names), **self._logs)
                for member in self._group.members.values():
                    member.core.term = max((max(log) for log in self._logs.values()), default=0)
            case ["timer", name]:
                self._group.step(_number(name), TimerFired())
            case ["deliver", *way]:
                return self._deliver(way)
            case ["settle"]:
                self._group.settle()
            case ["drop", *way]:
                wanted = _is_on(way)
                gone = [_told(message) for message in self._group.network if wanted(message)]
                self._group.drop(wanted)
                return gone
            case ["propose", name]:
                self._group.propose(_number(name))
            case ["cut", "off", name]:
                self._group.cut_off(_number(name))
            case ["join", name]:
                for other in self._group.members:
                    if other != _number(name):
                        self._group.step(other, heard(_number(name)))
                        self._group.step(_number(name), heard(other))
            case ["slow", "disk", name]:
                self._group.slow_disks.add(_number(name))
            case ["flush", name]:
                self._group.flush(_number(name))
            case ["memory", name]:
                self._group.step(_number(name), CountWritten(copies=True, own=True))
            case [name, "has", "written"]:
                self._group.tell_written(_number(name))
            case ["transfer", name, "to", other]:
                self._group.step(_number(name), TransferTo(_number(other)))
            case ["expect"]:
                return [self._state(number) for number in self._group.members]
            case _:
                raise ValueError(f"no command: {command}")
        return []

    def _take_logs(self, words: list[str]) -> None:
        name = ""
        for word in words:
            if word.startswith("n"):
                name = word
                self._logs[name] = ()
            else:
                self._logs[name] = (*self._logs[name], int(word))

    def _deliver(self, way: list[str]) -> list[str]:
        wanted = _is_on(way)
        told = [_told(message) for message in self._group.network if wanted(message)]
        self._group.deliver(wanted)
        return told

    def _state(self, number: int) -> str:
        core = self._group.core(number)
        log = " ".join(map(str, self._group.terms(number))) or "-"
        return f"n{number} {core.role.value} term={core.term} log: {log} commit={core.committed}"


def _number(name: str) -> int:
    return int(name.removeprefix("n"))


def _is_on(way: list[str]):
    if not way:
        return lambda message: True
    sender, _, to = way
    return lambda message: (f"n{message.sender.broker_id}", f"n{message.to.broker_id}") == (sender, to)


def _told(message: Message) -> str:
    way = f"n{message.sender.broker_id} -> n{message.to.broker_id}"
    match message:
        case VoteRequest():
            kind = "pre-vote" if message.pre else "vote"
            return f"{way} {kind}? term={message.term} last={message.last}"
        case VoteReply():
            kind = "pre-vote" if message.pre else "vote"
            return f"{way} {kind} {'granted' if message.granted else 'refused'} term={message.term}"
        case AppendRequest():
            items = " ".join(str(item.point) for item in message.items) or "nothing"
            return f"{way} {items} after {message.prev} commit={message.committed}"
        case AppendReply():
            synced = f" synced={message.synced}" if message.synced is not None else ""
            return f"{way} {'holds' if message.accepted else 'refuses, has'} {message.match}{synced}"
        case ReadProbe():
            return f"{way} still there? round={message.round_number}"
        case ReadProbeReply():
            return f"{way} still here, term={message.term} round={message.round_number}"
        case CampaignNow():
            return f"{way} take over"
