"""What docs/kafka.md shows is what works: each quick start is run as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.brokers import Brokers

DOCS = Path(__file__).parents[3] / "docs" / "kafka.md"
STARTS = re.findall(r"\*\*([a-z-]+)\*\*[^\n]*\n```python\n(.*?)```", DOCS.read_text(), re.S)


@pytest.mark.parametrize(("client", "code"), STARTS, ids=[client for client, _ in STARTS])
def test_each_quick_start_works_as_it_is_shown(brokers: Brokers, bootstrap: str, client: str, code: str) -> None:
    topic = f"events-of-{client}"
    brokers.create_topic(topic, partitions=3)
    code = code.replace("127.0.0.1:9603", bootstrap).replace('"events"', f'"{topic}"').replace('"team"', f'"{client}"')
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert shown.returncode == 0, shown.stderr
    assert topic in shown.stdout and "hello" in shown.stdout


def test_there_is_one_for_each_client() -> None:
    assert [client for client, _ in STARTS] == ["confluent-kafka", "kafka-python", "aiokafka"]
