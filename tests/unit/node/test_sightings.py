from __future__ import annotations

import itertools

import pytest
from lograft.node.sightings import (
    LEADERS_MAX,
    SIGHTING_BYTES_MAX,
    Addresses,
    ExchangedSightings,
    Leading,
    Led,
    MalformedSighting,
    Sighting,
    decode_sighting,
    encode_sighting,
)
from lograft.partitions.environment import PartitionId

TOPIC = "a" * 32
PARTITION = PartitionId(TOPIC, 0)


def a_sighting(broker_id: int = 1, start: int = 10, sequence: int = 1, terms: tuple[int, ...] = ()) -> Sighting:
    """`terms`: of partition 0, 1, ... that the broker leads; 0 for one that it does not."""
    return Sighting(
        broker_id=broker_id,
        directory_id="d" * 32,
        start_number=start,
        sequence=sequence,
        addresses=Addresses(f"h:{broker_id}", f"h:1{broker_id}", f"h:2{broker_id}"),
        rack="",
        version="1",
        leads=tuple(Led(TOPIC, number, term) for number, term in enumerate(terms) if term),
    )


def a_board() -> ExchangedSightings:
    return ExchangedSightings(send=lambda body: None)


def test_of_a_broker_the_newest_start_and_sequence_counts_in_whatever_order_they_come() -> None:
    told = [a_sighting(start=10, sequence=5), a_sighting(start=11, sequence=0), a_sighting(start=11, sequence=1)]
    for order in itertools.permutations(told):
        board = a_board()
        for sighting in order:
            board.see(sighting)
        assert board.broker(1) == told[2]


def test_a_broker_that_is_back_on_an_earlier_disk_is_believed_though_its_start_number_is_lower() -> None:
    board = a_board()
    between = a_sighting(start=900, sequence=7)._replace(directory_id="e" * 32)
    board.session_up(between)
    board.session_down(1)
    back = a_sighting(start=11, sequence=0)
    board.session_up(back)
    board.see(between._replace(sequence=8))  # somebody who has not heard of its end yet
    assert board.broker(1) == back
    board.see(a_sighting(start=11, sequence=1, terms=(5,)))
    assert board.leading(PARTITION) == Leading(1, 5)


def test_of_a_partition_the_highest_term_counts_whoever_told_of_it() -> None:
    told = [a_sighting(1, terms=(3,)), a_sighting(2, terms=(4,)), a_sighting(3, terms=(2,))]
    for order in itertools.permutations(told):
        board = a_board()
        for sighting in order:
            board.see(sighting)
        assert board.leading(PARTITION) == Leading(2, 4)


def test_a_leader_that_gave_up_is_no_leader_in_that_term_in_whatever_order_that_is_heard() -> None:
    told = [a_sighting(1, terms=(3, 3)), a_sighting(1, sequence=2)._replace(left=(Led(TOPIC, 0, 3),))]
    for order in itertools.permutations([*told, a_sighting(2, terms=(2,))]):
        board = a_board()
        for sighting in order:
            board.see(sighting)
        assert board.leading(PARTITION) == Leading(None, 3)
        assert board.leading(PartitionId(TOPIC, 1)) == Leading(1, 3)


def test_a_broker_that_started_again_leads_in_none_of_its_earlier_terms() -> None:
    for order in itertools.permutations([a_sighting(1, start=10, terms=(3,)), a_sighting(1, start=11, terms=(0, 4))]):
        board = a_board()
        for sighting in order:
            board.see(sighting)
        assert board.leading(PARTITION) == Leading(None, 3)
        assert board.leading(PartitionId(TOPIC, 1)) == Leading(1, 4)


def test_publishing_sends_what_others_can_read() -> None:
    sent: list[bytes] = []
    board = ExchangedSightings(send=sent.append)
    sighting = a_sighting(terms=(7, 0, 9))
    board.publish(sighting)
    assert board.broker(1) == sighting
    assert [decode_sighting(body) for body in sent] == [sighting]


def test_a_change_is_told_alone_and_what_was_given_up_once_more_with_the_whole() -> None:
    sent: list[bytes] = []
    board = ExchangedSightings(send=sent.append)
    for whole, terms in ((True, (3, 3)), (False, (0, 3, 5)), (True, (0, 3, 5)), (True, (0, 3, 5))):
        board.publish(a_sighting(sequence=len(sent), terms=terms), whole=whole)
    gave_up = (Led(TOPIC, 0, 3),)
    all_led = (Led(TOPIC, 1, 3), Led(TOPIC, 2, 5))
    assert [(told.leads, told.left) for told in map(decode_sighting, sent[1:])] == [
        (all_led[1:], gave_up),
        (all_led, gave_up),
        (all_led, ()),
    ]


def test_a_sighting_of_many_partitions_goes_in_parts_that_fit_and_say_the_same_in_any_order() -> None:
    host = "h" * 253 + ":65535"
    sighting = a_sighting(terms=tuple(range(2**40, 2**40 + 4000)))._replace(addresses=Addresses(host, host, host))
    sent: list[bytes] = []
    ExchangedSightings(send=sent.append).publish(sighting)
    assert len(sent) > 1 and max(map(len, sent)) <= SIGHTING_BYTES_MAX
    board = a_board()
    for body in reversed(sent):
        board.see(decode_sighting(body))
    assert [board.leading(PartitionId(TOPIC, led.number)) for led in sighting.leads] == [
        Leading(1, led.term) for led in sighting.leads
    ]


def test_one_who_knows_nothing_learns_all_that_counts() -> None:
    board = a_board()
    for sighting in (a_sighting(1, terms=(3, 4)), a_sighting(2, terms=(5,)), a_sighting(3, start=12)):
        board.see(sighting)
    newcomer = a_board()
    for part in board.all_parts():
        newcomer.see(decode_sighting(part))
    assert newcomer.leading(PARTITION) == Leading(2, 5)
    assert newcomer.leading(PartitionId(TOPIC, 1)) == Leading(1, 4)
    assert [sighting.order for sighting in newcomer.brokers()] == [sighting.order for sighting in board.brokers()]


def test_of_too_many_partitions_those_told_of_longest_ago_are_forgotten() -> None:
    board = a_board()
    for number in range(LEADERS_MAX):
        board.see_leader(PartitionId(TOPIC, number), 1, 1)
    board.see_leader(PARTITION, 1, 1)  # told of again
    board.see_leader(PartitionId(TOPIC, LEADERS_MAX), 1, 1)
    assert board.leading(PARTITION) is not None and board.leading(PartitionId(TOPIC, 1)) is None


def test_only_news_is_told_on() -> None:
    changes: list[int] = []
    board = ExchangedSightings(send=lambda body: None, changed=lambda: changes.append(1))
    board.see(a_sighting(sequence=2))
    board.see(a_sighting(sequence=2))
    board.see(a_sighting(sequence=1))
    assert len(changes) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nonsense",
        encode_sighting(a_sighting())[:-3],
        b"\x90",
        encode_sighting(a_sighting()).replace(b"dd", b"\xff\xff"),
        encode_sighting(a_sighting()._replace(rack="r" * 400)),
        encode_sighting(a_sighting(terms=tuple(range(1, 2000)))),
    ],
)
def test_a_body_that_is_no_sighting_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedSighting):
        decode_sighting(body)
