"""What clients call, how it ends, and how many are connected."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from .families import Catalogue, Row


class ApiMeasures:
    """Of one method."""

    __slots__ = ("_by_code", "_owner", "api", "in_flight", "seconds")

    def __init__(self, owner: RequestMeasures, api: str, in_flight: Gauge, seconds: Histogram) -> None:
        self._owner = owner
        self.api = api
        self.in_flight = in_flight
        self.seconds = seconds
        self._by_code: dict[str, Counter] = {}

    def ended(self, code: str, seconds: float) -> None:
        count = self._by_code.get(code)
        if count is None:
            count = self._by_code[code] = self._owner.total.labels(self.api, code)
        count.inc()
        self.seconds.observe(seconds)


class RequestMeasures:
    """One a broker."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.total = catalogue.counter(
            "requests", "Calls of clients that ended, by gRPC's code, or by Kafka's.", "api", "code"
        )
        self._seconds = catalogue.histogram(
            "request_duration_seconds",
            "Time from a call's start to its end; a long poll's wait and a stream's life are part of it.",
            "api",
        )
        self._in_flight = catalogue.gauge("requests_in_flight", "Calls of clients being carried out.", "api")
        self.calls = catalogue.reading("calls", "Calls of clients being carried out, all together.")
        self.connections = catalogue.reading(
            "connections",
            "Open connections, by port; of `grpc` those with a call under way, which a client of ours always has.",
            "listener",
        )
        self._apis: dict[str, ApiMeasures] = {}

    def api(self, name: str) -> ApiMeasures:
        """Of a method that exists."""
        measures = self._apis.get(name)
        if measures is None:
            measures = ApiMeasures(self, name, self._in_flight.labels(name), self._seconds.labels(name))
            self._apis[name] = measures
        return measures


def connection_rows(**counts: int) -> list[Row]:
    return [((listener,), count) for listener, count in counts.items()]
