from __future__ import annotations

from pathlib import Path

from lograft.node.kafka.apis import table

DOCS = Path(__file__).parents[3] / "docs" / "kafka.md"


def test_the_table_of_requests_in_the_documentation_is_that_of_the_code() -> None:
    _, _, after = DOCS.read_text().partition("<!-- requests -->\n")
    assert after.partition("\n<!-- /requests -->")[0] == table(), f"put this in:\n{table()}"
