"""Whom the console answers: the checks against other people's pages in the same browser. Pure.

Invariants
    no name is answered to that somebody else could have pointed here (DNS rebinding): only localhost, IP addresses, and
        names that were set
    what changes anything comes by POST, as JSON, with a header that no form can send, and from our own page
    another page of this browser reads nothing, but for the consoles of the same cluster, and these only read
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping

OWN_HEADER = "x-lograft-console"


def host_of(header: str) -> str:
    """The name in a Host header, without its port."""
    if header.startswith("["):
        return header[1:].partition("]")[0].lower()
    return header.partition(":")[0].lower()


def origins_of(address: str) -> set[str]:
    """As what a browser may know the console at `host:port`: on this machine also by localhost."""
    if not address:
        return set()
    host, port = host_of(address), address.rpartition(":")[2]
    try:
        is_here = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_here = host == "localhost"
    others = {f"http://{name}:{port}" for name in ("localhost", "127.0.0.1")} if is_here else set()
    return {f"http://{address.lower()}", *others}


def is_safe_host(header: str, names: Collection[str]) -> bool:
    """Could only this broker's own administrator have made a browser send this Host?"""
    host = host_of(header)
    if host in ("localhost", *names) or host.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def why_refused(
    method: str, headers: Mapping[str, str], names: Collection[str], consoles: Collection[str], *, is_page: bool = False
) -> str | None:
    """Why a request is not answered, or None.

    `headers` has names in lower case; `consoles`: origins of this cluster's consoles; `is_page`: what is asked for is
    the page itself, in which nothing is told.
    """
    host = headers.get("host", "")
    if not is_safe_host(host, names):
        return (
            f"this console does not answer to the name {host_of(host)[:80]!r}: use an IP address or localhost, or add "
            "the name to console.hosts"
        )
    origin = headers.get("origin")
    is_own = origin is None or origin.lower() in (f"http://{host.lower()}", f"https://{host.lower()}")
    if method in ("GET", "HEAD"):
        site = headers.get("sec-fetch-site", "none")
        # Following a link to the page is no reading: whoever has the link learns nothing.
        if (is_page and headers.get("sec-fetch-mode") == "navigate") or (site in ("none", "same-origin") and is_own):
            return None
        return None if origin is not None and origin.lower() in consoles else "asked by another site's page"
    if not is_own or headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return "asked by another site's page: nothing is changed for it"
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        return "a change is asked for as application/json"
    return None if headers.get(OWN_HEADER) == "1" else f"a change needs the header {OWN_HEADER}: 1"


def answer_headers(consoles: Collection[str]) -> list[tuple[bytes, bytes]]:
    """What every answer says to the browser: run and load nothing but ours, show it in no frame, keep nothing."""
    connect = " ".join(["'self'", *sorted(consoles)])
    policy = (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
        f"connect-src {connect}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return [
        (b"content-security-policy", policy.encode()),
        (b"x-frame-options", b"DENY"),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
        (b"cross-origin-opener-policy", b"same-origin"),
        (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
    ]
