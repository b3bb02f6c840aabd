"""A headless browser, and three brokers that it looks at."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.integration.brokers import Brokers, a_batch, eventually
from tests.integration.console.install import browser as browser_path
from tests.integration.console.traffic import order
from tests.integration.consoles import Console, group_path

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
TOPIC = "orders"
GROUP = "shippers"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Closed with the module: while it is driven, an event loop runs in this thread, and other tests have their own."""
    path = browser_path()
    if path is None:
        pytest.skip("no browser here: python -m tests.integration.console.install")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


class Screen:
    """A page of the console in a browser, and what went wrong in it."""

    def __init__(self, context: BrowserContext, brokers: Brokers, broker_id: int) -> None:
        self.home = f"http://127.0.0.1:{brokers[broker_id].http_port}"
        self.page: Page = context.new_page()
        self.troubles: list[str] = []
        self.foreign: list[str] = []
        ours = {f"127.0.0.1:{broker.http_port}" for broker in brokers.all}
        self.page.on("pageerror", lambda error: self.troubles.append(f"not handled: {error}"))
        self.page.on("console", lambda said: self.troubles.append(said.text) if said.type == "error" else None)
        self.page.on(
            "request",
            lambda request: (
                self.foreign.append(request.url)
                if not request.url.startswith(("data:", "blob:")) and request.url.split("/")[2] not in ours
                else None
            ),
        )

    def open(self, place: str = "") -> Page:
        self.page.goto(f"{self.home}/console/#/{place}")
        return self.page

    def unexpected(self) -> list[str]:
        """What the browser complained of, but for connections that a killed broker cannot take."""
        return [trouble for trouble in self.troubles if "ERR_CONNECTION" not in trouble and "ERR_EMPTY" not in trouble]


@pytest.fixture(scope="session")
def live(shared_brokers: Brokers) -> Iterator[Brokers]:
    """A topic with orders that keep coming, and a group of two members that reads half of them."""
    brokers = shared_brokers
    brokers.create_topic(TOPIC, 3)
    began_ms = time.time_ns() // 1_000_000
    for partition in range(3):
        leader = brokers.leader_of(TOPIC, partition)
        for first in range(0, 60, 20):
            values = [order(100 * partition + number) for number in range(first, first + 20)]
            at_ms = began_ms - 180_000 + 1000 * (first + partition)
            leader.produce(
                TOPIC, a_batch(*values, key=b"customer-%d" % partition, timestamp_ms=at_ms), partition=partition
            )
    brokers.create_topic("payments", 2)
    brokers.create_topic("a-dead-letter-queue", 1)
    addresses = ",".join(broker.address for broker in brokers.all)
    # A process of its own: gRPC's event loop and the browser's do not go together in one.
    traffic = subprocess.Popen([sys.executable, "-m", "tests.integration.console.traffic", addresses, TOPIC, GROUP])
    console = Console(brokers[0])
    described = f"api/{group_path(GROUP, 'describe')}"
    try:
        eventually(
            lambda: (answer := console.get(described)).status == 200 and len(answer.told["group"]["members"]) == 2,
            seconds=30,
        )
        # Rates are known once there are some samples to take them from.
        for broker in brokers.all:
            eventually(lambda: (Console(broker).told("overview")["rates"]["records"] or 0) > 0, seconds=30)  # noqa: B023
        yield brokers
    finally:
        traffic.terminate()
        traffic.wait(timeout=20)
