"""One frame of `lograft top`: what two looks at a cluster say, as figures and as lines for a terminal.

Always
    pure: looks come as arguments, so that a test says what is seen
    a rate needs two looks; what one broker did not tell is `None`, shown as `-`, and never counted as nothing
    a frame has as many lines as it is given, and no line is wider
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from .broker_http import Samples
from .tables import age, count, size, span

if TYPE_CHECKING:
    from ..admin import ClusterDescription, TopicDescription


class Order(StrEnum):
    """By what topics and groups are sorted."""

    busiest = "busiest"
    largest = "largest"
    name = "name"


class GroupLag(NamedTuple):
    """How far one group is behind in one topic."""

    group: str
    topic: str
    members: int | None
    records: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen of a cluster at one moment."""

    at_s: float
    """By a clock that only goes forward."""
    cluster: ClusterDescription | None
    unanswered: str = ""
    """Why there is no `cluster`."""
    last_known: ClusterDescription | None = None
    """The cluster as it was when somebody last described it; brokers may answer though the cluster does not."""
    metrics: Mapping[int, Samples] = field(default_factory=dict)
    """Of the brokers that answered."""
    topics: Sequence[TopicDescription] = ()
    lags: Sequence[GroupLag] | None = None
    """Asked of the groups themselves; None if the metrics tell."""


class BrokerLine(NamedTuple):
    broker_id: int
    state: str
    leaders: int
    replicas: int
    in_bytes_per_s: float | None
    out_bytes_per_s: float | None
    ack_p99_s: float | None
    """Of produce requests since the look before."""
    loop_p99_s: float | None
    """How late timers fired since the look before."""
    disk_free_bytes: float | None
    memory_bytes: float | None


class TopicLine(NamedTuple):
    name: str
    partitions: int
    in_records_per_s: float | None
    in_bytes_per_s: float | None
    out_bytes_per_s: float | None
    size_bytes: float | None
    """Of one copy."""


@dataclass(frozen=True, slots=True)
class Frame:
    """The figures of one moment."""

    cluster_id: str
    healthy: bool
    reasons: tuple[str, ...]
    brokers: tuple[BrokerLine, ...]
    topics: tuple[TopicLine, ...]
    groups: tuple[GroupLag, ...]
    in_records_per_s: float | None
    in_bytes_per_s: float | None
    out_bytes_per_s: float | None
    partitions: int

    @classmethod
    def of(cls, before: Look | None, now: Look, order: Order = Order.busiest) -> Frame:
        rates = _Rates(before, now)
        topics = sorted(_topic_lines(now, rates), key=_TOPIC_ORDERS[order])
        groups = sorted(_lags(now), key=_GROUP_ORDERS[order])
        cluster = now.cluster
        return cls(
            cluster_id=cluster.cluster_id if cluster else "",
            healthy=bool(cluster and cluster.healthy),
            reasons=cluster.reasons if cluster else (now.unanswered,),
            brokers=tuple(_broker_lines(now, rates)),
            topics=tuple(topics),
            groups=tuple(groups),
            in_records_per_s=_sum(line.in_records_per_s for line in topics),
            in_bytes_per_s=_sum(line.in_bytes_per_s for line in topics),
            out_bytes_per_s=_sum(line.out_bytes_per_s for line in topics),
            partitions=cluster.partitions if cluster else 0,
        )

    def as_json(self) -> dict[str, Any]:
        return {
            "cluster_id": self.cluster_id,
            "healthy": self.healthy,
            "reasons": list(self.reasons),
            "in_records_per_s": self.in_records_per_s,
            "in_bytes_per_s": self.in_bytes_per_s,
            "out_bytes_per_s": self.out_bytes_per_s,
            "partitions": self.partitions,
            "brokers": [line._asdict() for line in self.brokers],
            "topics": [line._asdict() for line in self.topics],
            "groups": [line._asdict() for line in self.groups],
        }


# Figures ----------------------------------------------------------------------------------------------------------


class _Rates:
    """How fast counters rose between two looks, by broker and by topic."""

    _COUNTED = ("lograft_produce_records_total", "lograft_produce_bytes_total", "lograft_fetch_bytes_total")

    def __init__(self, before: Look | None, now: Look) -> None:
        self._metrics = now.metrics
        self._earlier = before.metrics if before else {}
        self._seconds = now.at_s - before.at_s if before else 0.0
        self._told_twice = {number for number in self._metrics if number in self._earlier and self._seconds > 0}
        self._of_brokers: dict[tuple[int, str], float] = defaultdict(float)
        self._of_topics: dict[tuple[str, str], float] = defaultdict(float)
        for broker_id in self._told_twice:
            earlier = self._earlier[broker_id]
            for (name, labels), value in self._metrics[broker_id].items():
                if name in self._COUNTED:
                    was = earlier.get((name, labels), 0.0)
                    grown = value - was if value >= was else value  # it was restarted, and counts from zero
                    self._of_brokers[broker_id, name] += grown
                    self._of_topics[dict(labels).get("topic", ""), name] += grown

    def of_broker(self, broker_id: int, name: str) -> float | None:
        """None if this broker did not tell twice."""
        return self._of_brokers[broker_id, name] / self._seconds if broker_id in self._told_twice else None

    def of_topic(self, topic: str, name: str) -> float | None:
        """Sum over the brokers; None if none of them told twice."""
        return self._of_topics[topic, name] / self._seconds if self._told_twice else None

    def quantile(self, broker_id: int, name: str, share: float) -> float | None:
        """Of what a histogram counted since the look before: the bound of the bucket; None without any."""
        now, earlier = self._metrics.get(broker_id), self._earlier.get(broker_id)
        if now is None or earlier is None:
            return None
        grown: dict[float, float] = defaultdict(float)
        for (series, labels), value in now.items():
            if series == f"{name}_bucket":
                grown[float(dict(labels)["le"])] += value - earlier.get((series, labels), 0.0)
        bounds = sorted(grown)
        if not bounds or grown[bounds[-1]] <= 0:
            return None
        wanted = share * grown[bounds[-1]]
        for lower, upper in pairwise([0.0, *bounds]):
            if grown[upper] >= wanted:
                return lower if upper == float("inf") else upper
        return None


def _sum(figures: Iterable[float | None]) -> float | None:
    known = [figure for figure in figures if figure is not None]
    return sum(known) if known else None


def _value(samples: Samples | None, name: str) -> float | None:
    return None if samples is None else samples.get((name, ()))


def _broker_lines(now: Look, rates: _Rates) -> Iterable[BrokerLine]:
    described = now.cluster or now.last_known
    for broker in sorted(described.brokers if described else (), key=lambda one: one.broker_id):
        number, samples = broker.broker_id, now.metrics.get(broker.broker_id)
        state = "gone" if broker.gone else "dead" if not broker.alive else "draining" if broker.draining else "alive"
        if now.cluster is None:
            state = "silent" if samples is None else "alone"  # nobody says what the others think of it
        elif samples is None and broker.alive:
            state = "no http"
        yield BrokerLine(
            number,
            state,
            broker.leaders,
            broker.replicas,
            rates.of_broker(number, "lograft_produce_bytes_total"),
            rates.of_broker(number, "lograft_fetch_bytes_total"),
            rates.quantile(number, "lograft_produce_ack_seconds", 0.99),
            rates.quantile(number, "lograft_event_loop_lag_seconds", 0.99),
            _value(samples, "lograft_disk_free_bytes"),
            _value(samples, "process_resident_memory_bytes"),
        )


def _topic_lines(now: Look, rates: _Rates) -> Iterable[TopicLine]:
    for topic in now.topics:
        sizes = [partition.size_bytes for partition in topic.partitions if partition.size_bytes >= 0]
        yield TopicLine(
            topic.name,
            len(topic.partitions),
            rates.of_topic(topic.name, "lograft_produce_records_total"),
            rates.of_topic(topic.name, "lograft_produce_bytes_total"),
            rates.of_topic(topic.name, "lograft_fetch_bytes_total"),
            float(sum(sizes)) if sizes else None,
        )


def _lags(now: Look) -> Iterable[GroupLag]:
    """Exactly one broker tells of a group, save for a moment when its coordination changes hands: then the larger."""
    if now.lags is not None:
        return now.lags
    records: dict[tuple[str, str], float] = {}
    seconds: dict[tuple[str, str], float] = {}
    members: dict[str, int] = {}
    for samples in now.metrics.values():
        for (name, label_pairs), value in samples.items():
            labels = dict(label_pairs)
            if name == "lograft_group_members":
                members[labels["group"]] = max(int(value), members.get(labels["group"], 0))
            elif name in ("lograft_group_lag_records", "lograft_group_lag_seconds"):
                into = records if name.endswith("_records") else seconds
                of = labels["group"], labels["topic"]
                into[of] = max(value, into.get(of, 0.0))
    return [
        GroupLag(group, topic, members.get(group), value, seconds.get((group, topic), 0.0))
        for (group, topic), value in records.items()
    ]


def tells_groups(metrics: Mapping[int, Samples]) -> bool:
    """Do these brokers tell of groups in their metrics? Those of older versions do not."""
    return any(name == "lograft_groups" for samples in metrics.values() for name, _ in samples)


_TOPIC_ORDERS: dict[Order, Callable[[TopicLine], Any]] = {
    Order.busiest: lambda line: (
        -(line.in_bytes_per_s or 0) - (line.out_bytes_per_s or 0),
        -(line.size_bytes or 0),
        line.name,
    ),
    Order.largest: lambda line: (-(line.size_bytes or 0), line.name),
    Order.name: lambda line: line.name,
}
_GROUP_ORDERS: dict[Order, Callable[[GroupLag], Any]] = {
    Order.busiest: lambda lag: (-lag.seconds, -lag.records, lag.group, lag.topic),
    Order.largest: lambda lag: (-lag.records, -lag.seconds, lag.group, lag.topic),
    Order.name: lambda lag: (lag.group, lag.topic),
}


# Lines ------------------------------------------------------------------------------------------------------------


class Line(NamedTuple):
    text: str
    style: str = ""
    """As rich names it."""


_TITLE, _BAD = "bold", "red"
_BROKERS = ("BROKER", "STATE", "LEADS", "HOLDS", "IN/S", "OUT/S", "ACK P99", "LOOP P99", "DISK FREE", "MEMORY")
_TOPICS = ("TOPIC", "PARTITIONS", "RECORDS/S", "IN/S", "OUT/S", "SIZE")
_GROUPS = ("GROUP", "TOPIC", "MEMBERS", "LAG", "BEHIND")


def lines(frame: Frame, *, width: int, height: int | None, clock: str, hint: str) -> list[Line]:
    """The frame for a terminal of this size. Without a height: everything."""
    alive = sum(line.state == "alive" for line in frame.brokers)
    health = "healthy" if frame.healthy else "NOT HEALTHY"
    first = f"lograft {frame.cluster_id[:12] or '-'}  {alive} of {count(len(frame.brokers), 'broker')}  {health}"
    rates = (
        f"in {_rate(frame.in_bytes_per_s)}, {_number(frame.in_records_per_s)} records/s   "
        f"out {_rate(frame.out_bytes_per_s)}   "
        f"{count(len(frame.topics), 'topic')}  {count(frame.partitions, 'partition')}"
    )
    head = [
        Line(_ends(first, clock, width), "bold green" if frame.healthy else "bold red"),
        Line(rates),
    ]
    foot = [Line(hint, "dim")] if hint else []
    reasons = [Line(f"! {reason}", _BAD) for reason in frame.reasons]
    brokers = _table(_BROKERS, [_broker_cells(line) for line in frame.brokers], left=2, width=width)
    brokers = [
        Line(one.text, _BAD) if place and frame.brokers[place - 1].state != "alive" else one
        for place, one in enumerate(brokers)
    ]
    topics = _table(_TOPICS, [_topic_cells(line) for line in frame.topics], left=1, width=width)
    groups = _table(_GROUPS, [_group_cells(line) for line in frame.groups], left=2, width=width)
    parts = [(reasons, "reason"), (brokers, "broker"), (topics, "topic"), (groups, "group")]
    shown = [part for part, _ in parts if part]
    if height is not None:
        room = height - len(head) - len(foot) - sum(1 for part in (brokers, topics, groups) if part)
        shown = _fitted([(part, noun) for part, noun in parts if part], room)
    whole = list(head)
    for part in shown:
        whole += part if part[0].text.startswith("! ") else [Line(""), *part]
    if height is not None:
        whole = whole[: height - len(foot)]
        whole += [Line("")] * (height - len(foot) - len(whole))  # what explains the keys is always the last line
    return [Line(line.text[:width], line.style) for line in [*whole, *foot]]


def _fitted(parts: Sequence[tuple[list[Line], str]], room: int) -> list[list[Line]]:
    """Each part cut so that all of them have their place: what needs less than its share leaves it to the others."""
    given = dict.fromkeys(range(len(parts)), 0)
    left = room
    open_places = sorted(given, key=lambda place: len(parts[place][0]))
    for nth, place in enumerate(open_places):
        given[place] = min(len(parts[place][0]), max(left // (len(open_places) - nth), 2))
        left -= given[place]
    return [_cut(part, given[place], noun) for place, (part, noun) in enumerate(parts)]


def _cut(part: list[Line], most: int, noun: str) -> list[Line]:
    if len(part) <= most:
        return part
    missing = len(part) - most + 1
    return [*part[: most - 1], Line(f"  and {count(missing, noun)} more", "dim")]


def _broker_cells(line: BrokerLine) -> tuple[str, ...]:
    return (
        str(line.broker_id),
        line.state,
        str(line.leaders),
        str(line.replicas),
        _rate(line.in_bytes_per_s),
        _rate(line.out_bytes_per_s),
        _milliseconds(line.ack_p99_s),
        _milliseconds(line.loop_p99_s),
        _bytes(line.disk_free_bytes),
        _bytes(line.memory_bytes),
    )


def _topic_cells(line: TopicLine) -> tuple[str, ...]:
    return (
        line.name,
        str(line.partitions),
        _number(line.in_records_per_s),
        _rate(line.in_bytes_per_s),
        _rate(line.out_bytes_per_s),
        _bytes(line.size_bytes),
    )


def _group_cells(line: GroupLag) -> tuple[str, ...]:
    members = "-" if line.members is None else str(line.members)
    return line.group, line.topic, members, _number(line.records), span(line.seconds) if line.seconds else "0 s"


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]], *, left: int, width: int) -> list[Line]:
    """Columns, the first `left` of them names, which give way where the terminal is narrow; none without rows."""
    if not rows:
        return []
    gap = 1 if width < 100 else 2
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    too_wide = sum(widths) + gap * (len(widths) - 1) - width
    while too_wide > 0 and max(widths[:left]) > 8:
        widest = max(range(left), key=widths.__getitem__)
        widths[widest] -= 1
        too_wide -= 1
    told = []
    for number, row in enumerate([titles, *rows]):
        cells = [
            _shortened(cell, wide).ljust(wide) if place < left else cell.rjust(wide)
            for place, (cell, wide) in enumerate(zip(row, widths, strict=True))
        ]
        told.append(Line((" " * gap).join(cells).rstrip(), "" if number else _TITLE))
    return told


def _shortened(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _ends(left: str, right: str, width: int) -> str:
    """Both in one line, the right one at its end if there is room for it."""
    room = width - len(left) - len(right)
    return f"{left}{' ' * room}{right}" if room > 1 else left


def _rate(bytes_per_s: float | None) -> str:
    return "-" if bytes_per_s is None else _bytes(bytes_per_s) + "/s" if bytes_per_s else "0"


def _bytes(number: float | None) -> str:
    return "-" if number is None else size(number).replace(" ", "").replace("iB", "")


def _number(figure: float | None) -> str:
    return "-" if figure is None else f"{figure:,.0f}"


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:g}ms" if seconds < 10 else age(seconds)
