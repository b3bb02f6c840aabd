"""Errors: the one table, as it is raised, sent and translated."""

from __future__ import annotations

import inspect

from lograft.proto.errors import BY_REASON, LograftError


def page() -> str:
    rows = [
        f"| [`{reason}`](../errors.md#{reason.lower()}) | `{kind.__name__}` | {kind.grpc_status} | "
        f"{kind.kafka_code if kind.kafka_code >= 0 else '-'} | {'yes' if kind.retriable else 'no'} | {_told(kind)} |"
        for reason, kind in sorted(BY_REASON.items())
    ]
    return "\n".join(
        [
            "# Errors\n",
            "`reason` is the word on the wire (`ErrorInfo.reason`, domain `lograft`). The Python client raises the exception,",
            "of `lograft.errors`; all are a `lograft.LograftError` with `.reason`, `.facts` and `.retriable`. Where trying",
            "again can help, the client does so by itself until its timeout.\n",
            "What to do about each is in [errors people meet](../errors.md).\n",
            "| reason | exception | gRPC status | Kafka's code | try again? | it means |",
            "| --- | --- | --- | --- | --- | --- |",
            *rows,
        ]
    )


def _told(kind: type[LograftError]) -> str:
    told = kind.__dict__.get("__doc__")
    return " ".join(inspect.cleandoc(told).split()).replace("|", "\\|") if told else ""
