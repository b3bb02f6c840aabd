"""Prometheus' configuration, the alerts and Grafana's dashboards, as they come with lograft.

The files in cluster-configs/ are whole and usable as they are. What this module changes in a copy of them is named by
its arguments: whom to scrape, how often, and how much faster than in earnest time goes for the alerts.

Always
    the rules that run beside a local cluster, those that tests see fire, and those printed are of one file
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence

DASHBOARDS = ("cluster", "topics", "groups")
ALERTS_FILE = "alerts.yml"
"""Its name beside Prometheus' configuration, which refers to it."""
SCRAPE_INTERVAL_S = 15.0
"""Of the configuration as it is stored; rules are written for up to this."""
CLUSTER_LABEL = "lograft"
"""What the cluster is called there."""
RUNBOOKS = "docs/alerts.md"
_SAMPLES_MIN = 5
"""A shortened range still holds so many scrapes, or a rate over it would see nothing."""
_UNIT_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_INTERVAL = re.compile(r"((?:scrape|evaluation)_interval: )(\d+)(ms|s|m)\b")
_TARGETS = re.compile(r"targets: \[[^\]]*\]")
_CLUSTER = re.compile(r"labels: \{cluster: [^}]*\}")
_GOAL = re.compile(r"(?P<before>record: lograft:group_lag_goal_seconds\n +expr: )(?P<expression>0 \*.*)\n")
_FOR = re.compile(r"^(\s*(?:keep_firing_)?for: )(\d+)(ms|s|m|h|d)$", re.MULTILINE)
_RANGE = re.compile(r"(\[)(\d+)(ms|s|m|h|d)(?=\])")


def prometheus_config(
    targets: Sequence[str], *, cluster: str = CLUSTER_LABEL, scrape_interval_s: float = SCRAPE_INTERVAL_S
) -> str:
    """prometheus.yml that scrapes the HTTP ports `targets` (host:port) and reads ALERTS_FILE beside it."""
    scale = scrape_interval_s / SCRAPE_INTERVAL_S
    text = _INTERVAL.sub(_scaled(scale, 100), _stored("prometheus", "prometheus.yml"))
    text = _CLUSTER.sub(lambda _: f"labels: {{cluster: {json.dumps(cluster)}}}", text)
    return _TARGETS.sub(lambda _: f"targets: {json.dumps(list(targets))}", text)


def alerts(
    *,
    lag_goals_s: Mapping[str, float] | None = None,
    runbooks: str = RUNBOOKS,
    time_scale: float = 1.0,
    scrape_interval_s: float = SCRAPE_INTERVAL_S,
) -> str:
    """The rules.

    `lag_goals_s`: by how many seconds a group may be behind, where that is not the usual. `runbooks`: where people find
    docs/alerts.md. With a `time_scale` below 1 rules look over shorter ranges and wait less: for trying them out.
    """
    text = _stored("prometheus", ALERTS_FILE).replace(f"runbook: {RUNBOOKS}", f"runbook: {runbooks}")
    goals = [
        f"0 * max by (cluster, group) (lograft_group_lag_seconds{{group={json.dumps(group)}}}) + {goal_s:g}"
        for group, goal_s in (lag_goals_s or {}).items()
    ]
    if goals:
        usual = _GOAL.search(text)
        assert usual is not None, "the rule of lag goals has another shape"
        lines = " or\n          ".join(f"({goal})" for goal in (*goals, usual["expression"]))
        text = text.replace(usual[0], f"{usual['before']}>-\n          {lines}\n")
    if time_scale == 1.0:
        return text
    text = _FOR.sub(_scaled(time_scale, 0), text)
    return _RANGE.sub(_scaled(time_scale, round(_SAMPLES_MIN * scrape_interval_s * 1000)), text)


def dashboard(name: str) -> str:
    """One of DASHBOARDS, as JSON for Grafana."""
    return _stored("grafana", f"{name}.json")


def _stored(folder: str, name: str) -> str:
    from importlib.resources import files

    return files("lograft.configs").joinpath(folder, name).read_text("utf-8")


def _scaled(scale: float, least_ms: int) -> Callable[[re.Match[str]], str]:
    def replacement(found: re.Match[str]) -> str:
        before, count, unit = found.groups()
        as_stored_ms = int(count) * _UNIT_MS[unit]
        scaled_ms = max(round(as_stored_ms * scale), min(least_ms, as_stored_ms))
        return f"{before}{scaled_ms // 1000}s" if scaled_ms % 1000 == 0 else f"{before}{scaled_ms}ms"

    return replacement
