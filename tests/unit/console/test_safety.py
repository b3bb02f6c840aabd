"""Whom the console answers, as a browser asks: other people's pages in it read and change nothing."""

from __future__ import annotations

import pytest
from lograft.node.console.safety import answer_headers, is_safe_host, origins_of, why_refused

OURS = {"http://127.0.0.1:9602", "http://127.0.0.1:9612"}


def refused(method: str = "GET", *, is_page: bool = False, **headers: str) -> str | None:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return why_refused(method, {"host": "127.0.0.1:9602", **named}, {"logs.example"}, OURS, is_page=is_page)


@pytest.mark.parametrize(
    "host", ["127.0.0.1:9602", "localhost:9602", "[::1]:9602", "10.0.0.7", "LOCALHOST", "a.localhost"]
)
def test_an_address_and_localhost_are_answered_as_nobody_else_can_point_them_here(host: str) -> None:
    assert is_safe_host(host, ())


@pytest.mark.parametrize(
    "host", ["", "evil.example:9602", "127.0.0.1.evil.example", "localhost.evil.example", "0x7f.1", "@"]
)
def test_a_name_that_somebody_else_may_own_is_not_answered(host: str) -> None:
    assert not is_safe_host(host, ())
    assert "console.hosts" in (refused(host=host) or "")


def test_a_name_that_was_set_is_answered() -> None:
    assert refused(host="logs.example:9602") is None


def test_a_page_of_another_site_cannot_read() -> None:
    assert refused(sec_fetch_site="cross-site") is not None
    assert refused(sec_fetch_site="cross-site", origin="https://evil.example") is not None
    assert refused(origin="https://evil.example") is not None, "of an old browser, that does not tell the site"
    assert refused(sec_fetch_site="same-site", origin="http://127.0.0.1:8000") is not None, (
        "another port is another site"
    )
    assert refused(sec_fetch_site="cross-site", origin="null") is not None


def test_another_console_of_the_cluster_may_read_and_change_nothing() -> None:
    assert refused(sec_fetch_site="same-site", origin="http://127.0.0.1:9612") is None
    change = {"content_type": "application/json", "x_lograft_console": "1"}
    assert refused("POST", sec_fetch_site="same-site", origin="http://127.0.0.1:9612", **change) is not None


def test_a_console_on_this_machine_is_known_by_localhost_too_and_one_elsewhere_by_its_address_alone() -> None:
    assert {"http://127.0.0.1:9602", "http://localhost:9602"} == origins_of("127.0.0.1:9602")
    assert origins_of("[::1]:9602") == {"http://[::1]:9602", "http://localhost:9602", "http://127.0.0.1:9602"}
    assert origins_of("Broker-1:9602") == {"http://broker-1:9602"}
    assert origins_of("") == set()


def test_a_link_to_the_page_may_be_followed_but_none_to_what_it_tells() -> None:
    link = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}
    assert refused(is_page=True, **link) is None
    assert refused(**link) is not None


def test_our_own_page_may_change_things() -> None:
    change = {"content_type": "application/json; charset=utf-8", "x_lograft_console": "1"}
    assert refused("POST", origin="http://127.0.0.1:9602", sec_fetch_site="same-origin", **change) is None
    assert refused("POST", **change) is None, "curl sends neither"


@pytest.mark.parametrize(
    "headers",
    [
        {"content_type": "text/plain", "x_lograft_console": "1"},
        {"content_type": "application/x-www-form-urlencoded", "x_lograft_console": "1"},
        {"x_lograft_console": "1"},
        {"content_type": "application/json"},
        {"content_type": "application/json", "x_lograft_console": "1", "origin": "http://evil.example"},
        {"content_type": "application/json", "x_lograft_console": "1", "origin": "null"},
        {"content_type": "application/json", "x_lograft_console": "1", "sec_fetch_site": "cross-site"},
        {"content_type": "application/json", "x_lograft_console": "1", "host": "evil.example"},
    ],
    ids=lambda headers: ",".join(f"{name}={value}" for name, value in headers.items()),
)
def test_what_a_form_or_another_page_could_send_changes_nothing(headers: dict[str, str]) -> None:
    assert refused("POST", **headers) is not None


def test_every_answer_forbids_scripts_of_others_frames_and_guessing() -> None:
    headers = {name.decode(): value.decode() for name, value in answer_headers(OURS)}
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script-src 'self';" in policy and "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "connect-src 'self' http://127.0.0.1:9602 http://127.0.0.1:9612;" in policy
    assert headers["x-frame-options"] == "DENY" and headers["x-content-type-options"] == "nosniff"
