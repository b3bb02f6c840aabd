"""What a client believes about the cluster: brokers, topics, and who leads each partition.

Invariants
    of one topic id, a partition's leader is replaced only by what was said in the same or a later term
    at most one Metadata call is under way; who asks meanwhile shares the next one
    belief here is only a hint: the broker asked has the last word, and says NOT_LEADER
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from lograft.v1 import broker_service_pb2

from ..proto.errors import BrokerUnavailable, LograftError, NotLeader, UnknownTopic
from .connection import Connection, backoff_s

_ASK_TIMEOUT_S = 1.5
_UNKNOWN_TOPIC_PATIENCE_S = 1.0
"""A topic just made may not yet be known at the broker asked; a name mistyped never will be."""


@dataclass(slots=True)
class BrokerView:
    """A broker as the cluster describes it."""

    broker_id: int
    address: str
    """Empty: nobody that was asked has heard from it yet."""
    rack: str = ""
    alive: bool = True
    peer_address: str = ""
    http_address: str = ""
    directory_id: str = ""
    version: str = ""


@dataclass(slots=True)
class PartitionView:
    """Who leads a partition, as far as is known here. leader_id is -1 if nobody is."""

    number: int
    leader_id: int = -1
    term: int = -1
    replicas: tuple[int, ...] = ()


@dataclass(slots=True)
class TopicView:
    """A topic. A deleted topic made anew has another id."""

    name: str
    topic_id: str
    partitions: list[PartitionView]
    config: dict[str, str] = field(default_factory=dict)
    internal: bool = False


class Metadata:
    """The client's view of the cluster. One for each Client; all its producers and consumers share it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._environment = connection.environment
        self.cluster_id = ""
        self.controller_id = -1
        self.brokers: dict[int, BrokerView] = {}
        self.topics: dict[str, TopicView] = {}
        self._all_topics_wanted = False
        self._wanted: set[str] = set()
        self._next_refresh: asyncio.Future[None] | None = None
        self._refreshing: asyncio.Task[None] | None = None
        self._last_good: str | None = None
        self._in_vain: dict[str, None] = {}
        """Who was asked since an answer named a leader for every partition, the latest last: they knew of a partition
        without one, or did not answer. Brokers that are cut off from the others still answer us, that they alone are
        alive: so everybody is asked in turn."""
        self.on_change: list[Callable[[], None]] = []
        """Called after each answer that was taken in."""

    # Asking --------------------------------------------------------------------------------------------------------

    async def bootstrap(self) -> None:
        """Ask each address once, until one answers.

        Raises
            BrokerUnavailable  none did; its message names every address and why
        """
        await self.refresh()

    async def refresh(self, *topics: str, all_topics: bool = False) -> None:
        """Take in a fresh answer, for `topics` at least.

        Raises
            BrokerUnavailable  no broker answered
        """
        self._wanted.update(topics)
        self._all_topics_wanted |= all_topics
        if self._next_refresh is None:
            self._next_refresh = asyncio.get_running_loop().create_future()
        turn = self._next_refresh
        if self._refreshing is None:
            self._refreshing = asyncio.ensure_future(self._refresh_while_wanted())
        await asyncio.shield(turn)

    async def _refresh_while_wanted(self) -> None:
        try:
            while (turn := self._next_refresh) is not None:
                self._next_refresh = None
                wanted, self._wanted = sorted(self._wanted), set()
                all_topics, self._all_topics_wanted = self._all_topics_wanted, False
                try:
                    answer = await self._ask_around(wanted, all_topics)
                except LograftError as error:
                    turn.set_exception(error)
                    turn.exception()  # whoever asked may have stopped waiting
                except BaseException:
                    turn.cancel()
                    raise
                else:
                    self._take_in(answer, all_topics)
                    turn.set_result(None)
        finally:
            self._refreshing = None

    async def _ask_around(self, wanted: list[str], all_topics: bool) -> broker_service_pb2.MetadataResponse:
        request = broker_service_pb2.MetadataRequest(topics=wanted, all_topics=all_topics)
        failures: dict[str, str] = {}
        for address in self.addresses():
            try:
                stub = self._connection.broker(address)
                answer: broker_service_pb2.MetadataResponse = await self._connection.call(
                    address, stub.Metadata, request, timeout_s=_ASK_TIMEOUT_S
                )
            except LograftError as error:
                failures[address] = f"{address} ({self._origin(address)}): {error}"
                if self._last_good == address:
                    self._last_good = None
                continue
            if any(partition.leader_id < 0 for topic in answer.topics for partition in topic.partitions):
                self._note_in_vain(address, *failures)  # the dead behind it: asking them may take its time
            else:
                self._last_good = address
                self._in_vain.clear()
            return answer
        tried = "; ".join(failures.values())
        raise BrokerUnavailable(
            f"no broker answered; tried {tried}. Is the cluster running, and are these its addresses?"
        )

    def _note_in_vain(self, *addresses: str) -> None:
        self._last_good = None
        for address in addresses:
            self._in_vain.pop(address, None)
            self._in_vain[address] = None

    def _origin(self, address: str) -> str:
        return "as given" if address in self._connection.bootstrap else "as the cluster advertises it"

    def addresses(self) -> list[str]:
        """Every address worth asking: the one that answered last first, those believed dead last; and behind them those
        that were asked in vain, the latest last."""
        known = [broker for broker in self.brokers.values() if broker.address]
        self._environment.chance.shuffle(known)
        known.sort(key=lambda broker: not broker.alive)
        ordered = [broker.address for broker in known]
        # The bootstrap list last, so that a cluster that moved altogether is still found.
        ordered += [address for address in self._connection.bootstrap if address not in ordered]
        if self._last_good in ordered:
            ordered.remove(self._last_good)
            ordered.insert(0, self._last_good)
        in_vain = [address for address in self._in_vain if address in ordered]
        return [address for address in ordered if address not in self._in_vain] + in_vain

    def doubt(self, address: str | None = None) -> None:
        """Whoever is at `address` (None: who answered last) did not answer, or lags behind: ask others first."""
        if address is None or self._last_good == address:
            self._last_good = None

    # Taking in -----------------------------------------------------------------------------------------------------

    def _take_in(self, answer: broker_service_pb2.MetadataResponse, all_topics: bool) -> None:
        self.cluster_id = answer.cluster_id
        self.controller_id = answer.controller_id
        # After a start of all of them, whoever is asked may not have heard from the others yet.
        known = {broker_id: broker.address for broker_id, broker in self.brokers.items()}
        self.brokers = {
            broker.broker_id: BrokerView(
                broker.broker_id,
                broker.address or known.get(broker.broker_id, ""),
                broker.rack,
                broker.alive,
                broker.peer_address,
                broker.http_address,
                broker.directory_id,
                broker.version,
            )
            for broker in answer.brokers
        }
        for topic in answer.topics:
            self._take_in_topic(topic)
        for name in answer.unknown_topics:
            self.topics.pop(name, None)
        if all_topics:
            there = {topic.name for topic in answer.topics}
            self.topics = {name: topic for name, topic in self.topics.items() if name in there}
        self._tell()

    def _take_in_topic(self, topic: broker_service_pb2.MetadataResponse.Topic) -> None:
        known = self.topics.get(topic.name)
        fresh = [
            PartitionView(partition.number, partition.leader_id, partition.term, tuple(partition.replicas))
            for partition in sorted(topic.partitions, key=lambda partition: partition.number)
        ]
        if known is not None and known.topic_id == topic.topic_id:
            for number, before in enumerate(known.partitions[: len(fresh)]):
                if before.term > fresh[number].term:
                    fresh[number].leader_id, fresh[number].term = before.leader_id, before.term
            fresh += known.partitions[len(fresh) :]  # partitions never become fewer; the broker asked lags behind
        self.topics[topic.name] = TopicView(topic.name, topic.topic_id, fresh, dict(topic.config), topic.internal)

    def note_not_leader(self, topic: str, partition: int, error: LograftError, asked: str) -> bool:
        """Learn from a refusal by the broker at `asked`. True if it named a leader who is worth asking at once."""
        view = self.topics.get(topic)
        if view is None or not 0 <= partition < len(view.partitions):
            return False
        believed = view.partitions[partition]
        if isinstance(error, NotLeader):
            address = error.facts.get("leader_address", "")
            leader_id, term = int(error.facts.get("leader_id", -1)), int(error.facts.get("term", -1))
            if address and leader_id >= 0 and term >= believed.term and address != asked:
                if leader_id not in self.brokers:
                    self.brokers[leader_id] = BrokerView(leader_id, address)
                self.brokers[leader_id].address = address
                believed.leader_id, believed.term = leader_id, term
                self._tell()
                return True
        if self.leader_address(topic, partition) == asked:
            believed.leader_id = -1  # until a refresh says better; the term stays, so that older news is not believed
        return False

    def _tell(self) -> None:
        for listener in list(self.on_change):
            listener()

    # Looking up ----------------------------------------------------------------------------------------------------

    def leader_address(self, topic: str, partition: int) -> str | None:
        """host:port of the believed leader; None if there is none, or nobody knows where, or no such partition."""
        view = self.topics.get(topic)
        if view is None or not 0 <= partition < len(view.partitions):
            return None
        broker = self.brokers.get(view.partitions[partition].leader_id)
        return (broker.address or None) if broker is not None else None

    async def topic(self, name: str, *, timeout_s: float, fresh: bool = False) -> TopicView:
        """The topic called `name`; with `fresh` as a broker says now.

        Raises
            UnknownTopic       no broker knows it, for a second
            BrokerUnavailable  no broker answered within `timeout_s`
        """
        if not fresh and (known := self.topics.get(name)) is not None:
            return known
        now = self._environment.now
        begun = now()
        attempt = 0
        while True:
            failure: LograftError | None = None
            try:
                await self.refresh(name)
            except BrokerUnavailable as error:
                failure = error
            if failure is None and (found := self.topics.get(name)) is not None:
                return found
            patience_s = timeout_s if failure else min(timeout_s, _UNKNOWN_TOPIC_PATIENCE_S)
            wait_s = backoff_s(attempt, self._environment.chance)
            if now() + wait_s - begun > patience_s:
                raise failure or UnknownTopic(
                    f"there is no topic {name!r}: create it first, or check the name", topic=name
                )
            self._last_good = None  # ask another broker: this one may lag behind
            attempt += 1
            await asyncio.sleep(wait_s)

    async def known_topics(self, names: Iterable[str], *, timeout_s: float) -> list[TopicView]:
        return [await self.topic(name, timeout_s=timeout_s) for name in names]

    async def close(self) -> None:
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.gather(self._refreshing, return_exceptions=True)
