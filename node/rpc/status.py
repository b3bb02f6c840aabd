"""How an error looks on the wire: one translation for whole calls, one for the partitions of a call.

A whole call fails with `google.rpc.Status`, carrying `ErrorInfo(reason, domain="lograft", metadata)` and, where trying
again can help, `RetryInfo`. A partition of a call fails with `PartitionError`, which says the same.

Invariants
    every LograftError has exactly one look, taken from its class in proto/errors.py
    what is sent is short: an error that quotes its cause (a name of a megabyte) is cut, so it fits in the trailers
    an unexpected exception is never shown: the client gets an id, the log has the traceback under it
"""

from __future__ import annotations

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from lograft.v1 import common_pb2

from ...proto.errors import LograftError

DOMAIN = "lograft"
RETRY_DELAY_MS = 100
"""What RetryInfo advises: an election takes a few of these."""
MESSAGE_CHARACTERS_MAX = 1_000
FACT_CHARACTERS_MAX = 256


def status_of(error: LograftError) -> Status:
    """The status with which a whole call fails."""
    info = ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=_facts(error))
    details = [_packed(info)]
    if error.retriable:
        details.append(_packed(RetryInfo(retry_delay=Duration(nanos=RETRY_DELAY_MS * 1_000_000))))
    return Status(code=grpc_code(error).value[0], message=_short(error.message), details=details)


def grpc_code(error: LograftError) -> grpc.StatusCode:
    code: grpc.StatusCode = grpc.StatusCode[error.grpc_status]
    return code


def partition_error(error: LograftError) -> common_pb2.PartitionError:
    """The part of an answer that says why one partition's share of the request failed."""
    facts = _facts(error)
    answer = common_pb2.PartitionError(
        reason=error.reason, message=_short(error.message), retriable=error.retriable, metadata=facts
    )
    if "leader_id" in facts:
        answer.leader.broker_id = int(facts["leader_id"])
        answer.leader.address = facts.get("leader_address", "")
        answer.leader.term = int(facts.get("term", 0))
    return answer


def _facts(error: LograftError) -> dict[str, str]:
    return {name: _short(fact, FACT_CHARACTERS_MAX) for name, fact in error.facts.items()}


def _short(text: str, characters_max: int = MESSAGE_CHARACTERS_MAX) -> str:
    # Surrogates cannot be written as UTF-8; they come from file names and from broken clients.
    text = text.encode("utf-8", "replace").decode("utf-8")
    return text if len(text) <= characters_max else text[: characters_max - 3] + "..."


def _packed(message: ErrorInfo | RetryInfo) -> Any:
    packed = Any()
    packed.Pack(message)
    return packed
