"""Dashboards and rules ask for what brokers export, and for nothing else.

That their expressions are understood by Prometheus is seen in tests/integration/test_alerts.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from lograft.client.cli import monitoring_files
from lograft.node.metrics import Metrics

from tests.monitoring import dashboards

OF_PROMETHEUS = {"up": set(), "ALERTS": {"alertname", "alertstate"}}
"""Series that Prometheus makes itself, and their labels."""
RECORDED = {"lograft:group_lag_goal_seconds": {"group"}}
ON_ALL = {"job", "instance", "cluster"}
_NAME = re.compile(r"\b(?:lograft[_:]\w+|process_\w+|python_\w+|up|ALERTS)\b")
_SELECTOR = re.compile(r"([\w:]+)\{([^}]*)\}")
_MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"')
_CLAUSE = re.compile(r"\b(?:by|on|without|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_LEGEND = re.compile(r"\{\{\s*(\w+)\s*\}\}|\{\{ \$labels\.(\w+) \}\}")


def the_exported() -> dict[str, set[str]]:
    """Every series that a broker can give, and its labels."""
    metrics = Metrics()
    found: dict[str, set[str]] = {}
    for family in (*metrics.page.families, *metrics.partitions_page.families):
        labels = set(family.labels)
        if family.kind == "histogram":
            found |= {
                f"{family.name}_bucket": labels | {"le"},
                f"{family.name}_sum": labels,
                f"{family.name}_count": labels,
            }
        else:
            found[family.name] = labels
    found |= {name: set() for name in re.findall(r"^# TYPE ((?!lograft_)\S+)", metrics.text(), re.MULTILINE)}
    return found


def the_panels() -> Iterator[tuple[str, str, str]]:
    """Title, expression and legend."""
    for name in monitoring_files.DASHBOARDS:
        board = json.loads(monitoring_files.dashboard(name))
        for panel in board["panels"]:
            for target in panel["targets"]:
                yield f"{name}: {panel['title']}", target["expr"], target["legendFormat"]
        for one in board["templating"]["list"]:
            if one["type"] == "query":
                yield f"{name}: ${one['name']}", one["definition"], ""


def the_rules() -> Iterator[tuple[str, str, str]]:
    for group in yaml.safe_load(monitoring_files.alerts(lag_goals_s={"billing": 1}))["groups"]:
        for rule in group["rules"]:
            notes = rule.get("annotations", {})
            yield rule.get("alert", rule.get("record")), rule["expr"], notes.get("summary", "")


def unknown_in(expression: str, legend: str, known: dict[str, set[str]]) -> list[str]:
    """Names and labels that nobody exports."""
    without_texts = re.sub(r'"[^"]*"', '""', expression)
    names = set(_NAME.findall(re.sub(r"\{[^}]*\}", "", without_texts)))
    wrong = [f"metric {name}" for name in names - known.keys()]
    labels = set().union(*(known.get(name, set()) for name in names)) | ON_ALL
    for name, matchers in _SELECTOR.findall(expression):
        mine = known.get(name, set()) | ON_ALL
        wrong += [f"label {label} of {name}" for label in _MATCHER.findall(matchers) if label not in mine]
    for clause in _CLAUSE.findall(without_texts):
        wrong += [f"label {label}" for label in re.findall(r"\w+", clause) if label not in labels]
    wrong += [f"label {a or b} in the legend" for a, b in _LEGEND.findall(legend) if (a or b) not in labels]
    return wrong


def test_the_search_for_what_is_unknown_finds_it() -> None:
    known = {"lograft_a": {"topic"}, "lograft_b_bucket": {"le"}}
    assert not unknown_in('sum by (topic) (rate(lograft_a{cluster="$cluster", topic=~"x|y"}[5m]))', "{{topic}}", known)
    assert unknown_in("lograft_c", "", known) == ["metric lograft_c"]
    assert unknown_in('lograft_a{group="x"}', "", known) == ["label group of lograft_a"]
    assert unknown_in("sum by (peer) (lograft_a)", "{{peer}}", known) == ["label peer", "label peer in the legend"]


@pytest.mark.parametrize("source", [the_panels, the_rules])
def test_every_metric_and_label_asked_for_is_exported_by_a_broker(source: Any) -> None:
    known = {**the_exported(), **OF_PROMETHEUS, **RECORDED}
    asked = list(source())
    assert len(asked) > 20
    wrong = {what: found for what, expression, legend in asked if (found := unknown_in(expression, legend, known))}
    assert not wrong


def test_stored_dashboards_are_those_that_are_made() -> None:
    for name, text in dashboards.made().items():
        assert (dashboards.FOLDER / name).read_text() == text, "run: python -m tests.monitoring.dashboards"
    assert {f"{name}.json" for name in monitoring_files.DASHBOARDS} == dashboards.made().keys()


@pytest.mark.parametrize("name", monitoring_files.DASHBOARDS)
def test_a_dashboard_has_numbers_on_top_no_overlaps_and_its_data_source_as_a_variable(name: str) -> None:
    board = json.loads(monitoring_files.dashboard(name))
    variables = [one["name"] for one in board["templating"]["list"]]
    assert variables[:2] == ["datasource", "cluster"]
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        assert panel["datasource"]["uid"] == "${datasource}"
        place = panel["gridPos"]
        assert (panel["type"] == "stat") == (place["y"] == 0)
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken and place["x"] + place["w"] <= dashboards.WIDTH
        taken |= cells
        for target in panel["targets"]:
            asked = set(re.findall(r"\$(\w+)", target["expr"])) - {"__rate_interval"}
            assert "cluster" in asked and asked <= set(variables), target["expr"]
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
