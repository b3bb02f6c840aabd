"""What a broker tells the service manager that started it (systemd, `Type=notify`)."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from contextlib import suppress


def tell(state: str, environ: Mapping[str, str]) -> None:
    """Send `READY=1` or `STOPPING=1` to the socket that the environment names; without one nobody asked to be told.

    Never fails: a broker does not end because nobody listens.
    """
    address = environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):
        address = "\0" + address[1:]  # Linux' abstract sockets, as systemd writes them
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifying:
        notifying.setblocking(False)
        notifying.sendto(state.encode(), address)
