"""What a broker tells over HTTP: its metrics, and whether it is ready.

Always
    every question has a deadline and a bound on its answer; a broker that does not answer is an answer
    no proxy is asked: brokers are where the cluster says they are
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

TIMEOUT_S = 3.0
_ANSWER_BYTES_MAX = 64 << 20

Labels = tuple[tuple[str, str], ...]
"""Sorted by name."""
Samples = Mapping[tuple[str, Labels], float]
"""Every line of an exposition."""


class Unanswered(Exception):
    """The broker did not answer; the text says why."""


async def get(address: str, path: str, *, timeout_s: float = TIMEOUT_S) -> bytes:
    """The body of what `http://address/path` answers, whatever its status. Raises Unanswered."""
    try:
        return await asyncio.wait_for(asyncio.to_thread(_get, address, path, timeout_s), 2 * timeout_s)
    except TimeoutError:
        raise Unanswered(f"http://{address}{path} did not answer within {2 * timeout_s:g} s") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise Unanswered(f"http://{address}{path}: {getattr(reason, 'strerror', None) or reason}") from None


def _get(address: str, path: str, timeout_s: float) -> bytes:
    opener = build_opener(ProxyHandler({}))
    try:
        with opener.open(f"http://{address}{path}", timeout=timeout_s) as answer:
            body: bytes = answer.read(_ANSWER_BYTES_MAX)
            return body
    except HTTPError as error:  # such as 503 of /readyz: the body says why
        with error:
            return error.read(_ANSWER_BYTES_MAX)


def parsed(text: str) -> Samples:
    """The samples of a Prometheus text. What cannot be read is an empty one: not every port is a broker's."""
    from prometheus_client.parser import text_string_to_metric_families

    try:
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
    except (ValueError, KeyError, IndexError):
        return {}
