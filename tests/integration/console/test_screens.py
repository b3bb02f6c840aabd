"""The console in a headless browser, on three living brokers, one of which is killed while the page is open."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.integration.brokers import Brokers
from tests.integration.console.conftest import GROUP, TOPIC, Screen
from tests.integration.console.install import axe

DOCS = Path(__file__).parents[3] / "docs" / "images" / "console"
"""Where the pictures go if LOGRAFT_SCREENSHOTS is set; else they are made, looked at for their size, and dropped."""
IMAGE_BYTES_MAX = 200_000
WIDEST = """[...document.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > innerWidth)
    .map(e => e.outerHTML.slice(0, 120)).slice(0, 12)"""
"""JavaScript: what reaches beyond the right edge."""
SCREENS = {
    "overview": ("", "Healthy"),
    "brokers": ("brokers", "Start number"),
    "topics": ("topics", "payments"),
    "messages": (f"topics/{TOPIC}", "customer-"),
    "partitions": (f"topics/{TOPIC}/partitions", "began to lead"),
    "topic-groups": (f"topics/{TOPIC}/groups", GROUP),
    "topic-settings": (f"topics/{TOPIC}/settings", "topic id"),
    "groups": ("groups", GROUP),
    "group": (f"groups/{GROUP}", "shipper-1"),
    "elections": ("elections", "began to lead"),
}
WIDE, PHONE = {"width": 1200, "height": 780}, {"width": 390, "height": 844}

Opener = Callable[..., Screen]


@pytest.fixture
def opened(chromium: Browser, live: Brokers) -> Iterator[Opener]:
    """Makes screens; afterwards none of them may have had trouble that nobody looked for."""
    live.start()
    screens: list[Screen] = []
    contexts = []

    def open_one(broker_id: int = 0, *, scheme: Any = "light", viewport: Any = WIDE, **facts: Any) -> Screen:
        context = chromium.new_context(color_scheme=scheme, viewport=viewport, reduced_motion="reduce", **facts)
        context.set_default_timeout(20_000)
        contexts.append(context)
        screens.append(Screen(context, live, broker_id))
        return screens[-1]

    yield open_one
    for context in contexts:
        context.close()
    assert [trouble for screen in screens for trouble in screen.unexpected()] == []
    assert [url for screen in screens for url in screen.foreign] == [], "it is to work without the internet"


def visible(page: Page, text: str) -> None:
    expect(page.locator("main").get_by_text(text).first).to_be_visible(timeout=20_000)


def field(dialog: Locator, label: str) -> Locator:
    """The input whose label begins so: settings have parts of their names in common."""
    return dialog.locator("label.field", has=dialog.page.get_by_text(label, exact=True)).locator("input")


def test_the_overview_is_shown_and_its_pages_are_reached_by_keys(opened: Opener) -> None:
    page = opened().open()
    visible(page, "Healthy")
    expect(page.get_by_role("link", name="healthy", exact=True)).to_be_visible()
    page.keyboard.press("g")
    page.keyboard.press("t")
    expect(page.get_by_role("heading", name="Topics")).to_be_visible()
    visible(page, TOPIC)
    page.keyboard.press("/")
    page.keyboard.type("pay")
    expect(page.locator("tbody tr")).to_have_count(1)
    assert "t.q=pay" in page.url, "the state is in the address"
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("search on this page")
    page.keyboard.press("Escape")
    page.keyboard.press("d")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.keyboard.press("u")
    expect(page.get_by_role("button", name="Times are local: change")).to_be_visible()


def test_messages_are_searched_opened_and_not_run(opened: Opener) -> None:
    screen = opened()
    page = screen.open(f"topics/{TOPIC}?partitions=0&stop=60")
    page.on("dialog", lambda dialog: pytest.fail(f"a record was run: {dialog.message}"))
    rows = page.locator(".records tbody tr")
    expect(rows).to_have_count(50)
    page.get_by_label("Where").fill("id = 7")
    page.get_by_role("button", name="Search", exact=True).click()
    expect(rows).to_have_count(1)
    assert "where=id+%3D+7" in page.url
    page.get_by_role("button", name="Record 7 of partition 0").click()
    expect(page.locator(".tree")).to_contain_text(f"big: {2**60 + 7}")
    page.get_by_role("button", name="Hex").click()
    expect(page.locator(".record pre")).to_contain_text("7b 22 69 64")
    page.get_by_label("Where").fill("id")
    page.get_by_role("button", name="Search", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("is no condition")
    # The browser notes the status of an answer that the page shows in words.
    assert [trouble for trouble in screen.troubles if "400" not in trouble] == []
    screen.troubles.clear()


@pytest.mark.long
@pytest.mark.parametrize(("scheme", "viewport"), [("light", WIDE), ("dark", WIDE), ("light", PHONE), ("dark", PHONE)])
def test_every_screen_is_whole_in_dark_and_light_wide_and_on_a_phone(
    opened: Opener, scheme: str, viewport: dict[str, int]
) -> None:
    screen = opened(1, scheme=scheme, viewport=viewport)
    script, found = axe(), list[str]()
    for name, (place, sign) in SCREENS.items():
        page = screen.open(place)
        visible(page, sign)
        page.wait_for_timeout(600 if name != "group" else 6_000)
        assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"], (
            f"{name} is too wide: {page.evaluate(WIDEST)}"
        )
        if viewport is WIDE or scheme == "dark":
            shot(page, f"{name}-{scheme}{'-phone' if viewport is PHONE else ''}")
        if script is not None:
            found += [f"{name}: {flaw}" for flaw in flaws(page, script)]
    assert not found, "\n".join(found)


@pytest.mark.long
def test_dialogs_are_whole_too(opened: Opener) -> None:
    for scheme in ("light", "dark"):
        page = opened(scheme=scheme).open(f"topics/{TOPIC}?partitions=1&stop=30")
        page.get_by_role("button", name="Record 29 of partition 1").click()
        visible(page, "Resend…")
        page.wait_for_timeout(300)
        shot(page, f"record-{scheme}")
        page.get_by_role("button", name="Resend…").click()
        expect(page.get_by_role("dialog")).to_be_visible()
        shot(page, f"resend-{scheme}")
        script = axe()
        assert script is None or flaws(page, script) == []
        page = opened(scheme=scheme).open(f"groups/{GROUP}")
        page.get_by_role("button", name="Seek…").click()
        page.get_by_role("button", name="Show what it would do").click()
        expect(page.get_by_role("dialog")).to_contain_text("records are read again")
        shot(page, f"seek-{scheme}")
        assert script is None or flaws(page, script) == []


@pytest.mark.long
def test_forms_of_topics_are_whole_and_tell_what_is_wrong_at_its_field(opened: Opener) -> None:
    script = axe()
    for scheme, viewport in (("light", WIDE), ("dark", PHONE)):
        screen = opened(scheme=scheme, viewport=viewport)
        page = screen.open("topics")
        page.get_by_role("button", name="Create…").click()
        dialog = page.get_by_role("dialog")
        field(dialog, "Name").fill("payments-refunds")
        field(dialog, "Copies").fill("7")
        dialog.get_by_role("button", name="Create", exact=True).click()
        expect(dialog.locator("label.wrong")).to_contain_text("cannot have 7 replicas")
        assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"], page.evaluate(WIDEST)
        shot(page, f"create-topic-{scheme}{'-phone' if viewport is PHONE else ''}")
        assert script is None or flaws(page, script) == []
        page = screen.open(f"topics/{TOPIC}/settings")
        page.get_by_role("button", name="Change…").click()
        field(dialog, "retention.ms").fill("soon")
        dialog.get_by_role("button", name="Change 1 setting").click()
        expect(dialog.locator("label.wrong")).to_contain_text("retention.ms cannot be 'soon'")
        shot(page, f"alter-topic-{scheme}{'-phone' if viewport is PHONE else ''}")
        assert script is None or flaws(page, script) == []
        screen.troubles = [trouble for trouble in screen.troubles if "status of 400" not in trouble]  # looked for


@pytest.mark.long
def test_a_topic_is_made_and_set_by_hand(opened: Opener) -> None:
    page = opened().open("topics")
    page.get_by_role("button", name="Create…").click()
    dialog = page.get_by_role("dialog")
    field(dialog, "Name").fill("made-by-hand")
    field(dialog, "Partitions").fill("2")
    dialog.get_by_text("Settings", exact=True).click()
    field(dialog, "retention.ms").fill("60000")
    expect(dialog.locator("code")).to_have_text("lograft topic create made-by-hand -p 2 -c retention.ms=60000")
    dialog.get_by_role("button", name="Create", exact=True).click()
    expect(dialog.get_by_role("alert")).to_contain_text("Created, with 2 partitions")
    dialog.get_by_role("link", name="made-by-hand").click()
    visible(page, "made-by-hand")
    page.goto(page.url.split("#")[0] + "#/topics/made-by-hand/settings")
    visible(page, "60000")
    page.get_by_role("button", name="Change…").click()
    field(dialog, "retention.ms").fill("")
    field(dialog, "segment.ms").fill("7000000")
    dialog.get_by_role("button", name="Change 2 settings").click()
    expect(dialog.get_by_role("alert")).to_contain_text("Changed.")
    page.keyboard.press("Escape")
    visible(page, "7000000")


@pytest.mark.long
def test_a_record_is_sent_again_to_another_topic_as_it_was(opened: Opener) -> None:
    page = opened().open(f"topics/{TOPIC}?partitions=2&stop=10")
    page.get_by_role("button", name="Record 9 of partition 2").click()
    page.get_by_role("button", name="Resend…").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Topic").fill("a-dead-letter-queue")
    dialog.get_by_role("button", name="Send again").click()
    expect(dialog.get_by_role("alert")).to_contain_text("Written to partition 0 at offset")
    page.keyboard.press("Escape")
    page.goto(page.url.split("#")[0] + "#/topics/a-dead-letter-queue")
    expect(page.locator(".records tbody tr").first).to_contain_text("customer-2")
    expect(page.locator(".records tbody tr").first).to_contain_text('"id": 209')


@pytest.mark.long
def test_a_group_is_moved_by_what_was_shown(opened: Opener) -> None:
    page = opened().open(f"groups/{GROUP}")
    page.get_by_role("button", name="Seek…").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator("code")).to_have_text(f"lograft group seek {GROUP} --to start")
    dialog.get_by_label("Partitions").fill("0")
    dialog.get_by_role("button", name="Show what it would do").click()
    dialog.get_by_role("button", name="Move 1 partition").click()
    expect(dialog.get_by_role("alert")).to_contain_text("Moved, in generation")


@pytest.mark.long
def test_the_live_tail_goes_on_pauses_and_says_that_it_uses_no_group(opened: Opener) -> None:
    page = opened().open(f"topics/{TOPIC}?live=1")
    visible(page, "It uses no group")
    rows = page.locator(".records tbody tr")
    expect(rows.nth(3)).to_be_visible()
    shot(page, "live-light")
    page.get_by_role("button", name="Pause").click()
    count = rows.count()
    expect(page.locator(".progress")).to_contain_text(re.compile(r"Paused: [1-9]"), timeout=20_000)
    assert rows.count() == count
    page.get_by_role("button", name="Go on").click()
    expect(rows.nth(count)).to_be_visible()


@pytest.mark.long
def test_another_broker_dies_while_the_page_is_open_and_the_page_says_so(opened: Opener, live: Brokers) -> None:
    page = opened(0).open()
    visible(page, "Healthy")
    live[2].kill()
    visible(page, "Not healthy")
    expect(page.get_by_text("not in touch").first).to_be_visible()
    shot(page, "unhealthy-light")
    page.goto(page.url.split("#")[0] + f"#/topics/{TOPIC}")
    expect(page.locator(".records tbody tr").first).to_be_visible(timeout=30_000)
    page.goto(page.url.split("#")[0] + "#/elections")
    visible(page, "was out of touch")
    shot(page, "failover-light")


@pytest.mark.long
def test_the_broker_that_served_the_page_dies_and_the_page_goes_on_by_another(opened: Opener, live: Brokers) -> None:
    page = opened(0).open("topics")
    visible(page, TOPIC)
    page.wait_for_timeout(2_500)  # it has heard of the others
    live[0].kill()
    banner = page.locator(".banner")
    expect(banner).to_contain_text("The broker that served this page does not answer", timeout=30_000)
    page.get_by_role("link", name="Overview").click()
    visible(page, "Not healthy")
    expect(banner.get_by_role("link")).to_have_attribute("href", re.compile(r"^http://127\.0\.0\.1:\d+/console/#"))
    page.get_by_role("link", name="Topics").click()
    page.locator("main").get_by_role("link", name=TOPIC, exact=True).click()
    expect(page.locator(".records tbody tr").first).to_be_visible(timeout=30_000)
    shot(page, "served-by-another-light")
    page.get_by_role("button", name="Produce…").click()
    page.get_by_role("dialog").get_by_role("button", name="Produce", exact=True).click()
    expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text("Open the console of another one")
    page.keyboard.press("Escape")
    live.start()
    expect(banner).to_have_count(0, timeout=30_000)


def shot(page: Page, name: str) -> None:
    picture = page.screenshot()
    assert 5_000 < len(picture) < IMAGE_BYTES_MAX, f"the picture of {name} has {len(picture)} bytes"
    if os.environ.get("LOGRAFT_SCREENSHOTS"):
        DOCS.mkdir(parents=True, exist_ok=True)
        (DOCS / f"{name}.png").write_bytes(picture)


def flaws(page: Page, script: Path) -> list[str]:
    """What axe-core finds wrong for people who cannot see, or not well."""
    page.evaluate(script.read_text())
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{one['id']}: {one['help']}: {[node['html'][:150] for node in one['nodes'][:3]]}"
        for one in found["violations"]
    ]
