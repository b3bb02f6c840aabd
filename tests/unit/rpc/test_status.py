from __future__ import annotations

import pytest
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from lograft.node.rpc.status import MESSAGE_CHARACTERS_MAX, grpc_code, partition_error, status_of
from lograft.proto.errors import BY_REASON, InvalidTopic, LograftError, NotLeader


def unpacked(error: LograftError, kind: type[Message]) -> list[Message]:
    found = []
    for detail in status_of(error).details:
        message = kind()
        if detail.Unpack(message):
            found.append(message)
    return found


@pytest.mark.parametrize("kind", BY_REASON.values(), ids=BY_REASON)
def test_every_error_becomes_a_status_with_its_reason_and_retry_info_only_if_that_helps(
    kind: type[LograftError],
) -> None:
    error = kind("why", limit=5)
    status = status_of(error)
    assert (status.code, status.message) == (grpc_code(error).value[0], "why")
    (info,) = unpacked(error, ErrorInfo)
    assert info == ErrorInfo(reason=kind.reason, domain="lograft", metadata={"limit": "5"})
    assert len(unpacked(error, RetryInfo)) == kind.retriable


def test_a_partitions_error_names_the_leader_where_it_is_known() -> None:
    told = partition_error(NotLeader("elsewhere", leader_id=2, leader_address="h:1", term=7))
    assert (told.reason, told.retriable) == ("NOT_LEADER", True)
    assert (told.leader.broker_id, told.leader.address, told.leader.term) == (2, "h:1", 7)
    assert not partition_error(NotLeader("unknown")).HasField("leader")


def test_an_error_that_quotes_a_megabyte_is_cut() -> None:
    error = InvalidTopic("x" * (1 << 20), topic="y" * (1 << 20))
    assert len(status_of(error).message) == MESSAGE_CHARACTERS_MAX
    assert status_of(error).ByteSize() < 4096
    assert partition_error(error).ByteSize() < 4096


def test_text_that_is_no_utf_8_can_still_be_told() -> None:
    assert status_of(InvalidTopic("bad \udcff name")).message == "bad ? name"
