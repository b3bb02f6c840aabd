"""Makes Grafana's dashboards: `python -m tests.monitoring.dashboards` writes them into cluster-configs/grafana/.

Made, and not drawn in Grafana and exported: so panels look alike, and a change is read as one line. The JSON is stored,
as it is what people use; a test says if it is not what this module makes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).parents[2] / "cluster-configs" / "grafana"
WIDTH = 24
_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
C = 'cluster="$cluster"'
"""What every series is chosen by. Where nothing has that label, the variable is empty, and that fits as well."""
R = "$__rate_interval"


class Line(NamedTuple):
    expression: str
    legend: str = ""


def stat(
    title: str, expression: str, *, unit: str = "short", bad_from: float | None = None, good_from: float | None = None
) -> dict[str, Any]:
    """One number. Green, and red from `bad_from` on; or red, and green from `good_from` on."""
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if bad_from is not None:
        steps.append({"color": "red", "value": bad_from})
    if good_from is not None:
        steps = [{"color": "red", "value": None}, {"color": "green", "value": good_from}]
    return {
        "type": "stat",
        "title": title,
        "targets": _targets([Line(expression)], instant=True),
        "fieldConfig": {
            "defaults": {"unit": unit, "thresholds": {"mode": "absolute", "steps": steps}, "noValue": "-"},
            "overrides": [],
        },
        "options": {
            "colorMode": "background" if bad_from is not None or good_from is not None else "value",
            "graphMode": "none",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        },
    }


def graph(title: str, *lines: Line, unit: str = "short", note: str = "", stacked: bool = False) -> dict[str, Any]:
    """Lines over time, from zero."""
    return {
        "type": "timeseries",
        "title": title,
        "description": note,
        "targets": _targets(lines, instant=False),
        "fieldConfig": {
            "defaults": {
                "unit": unit,
                "min": 0,
                "custom": {
                    "fillOpacity": 20 if stacked else 5,
                    "showPoints": "never",
                    "stacking": {"mode": "normal" if stacked else "none"},
                },
            },
            "overrides": [],
        },
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom", "calcs": []},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
    }


def _targets(lines: Sequence[Line], *, instant: bool) -> list[dict[str, Any]]:
    return [
        {
            "refId": chr(ord("A") + number),
            "datasource": _DATASOURCE,
            "expr": line.expression,
            "legendFormat": line.legend or "__auto",
            "instant": instant,
            "range": not instant,
        }
        for number, line in enumerate(lines)
    ]


def variable(name: str, of_metric: str, *, several: bool) -> dict[str, Any]:
    chosen = of_metric if name == "cluster" else f"{of_metric}{{{C}}}"
    return {
        "name": name,
        "type": "query",
        "datasource": _DATASOURCE,
        "query": {"query": f"label_values({chosen}, {name})", "refId": name},
        "definition": f"label_values({chosen}, {name})",
        "refresh": 2,
        "sort": 1,
        "multi": several,
        "includeAll": several,
        "current": {"text": ["All"], "value": ["$__all"]} if several else {},
    }


def dashboard(
    name: str,
    title: str,
    variables: Sequence[dict[str, Any]],
    stats: Sequence[dict[str, Any]],
    graphs: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """A row of numbers on top, graphs in two columns below."""
    panels, stat_width = [], WIDTH // len(stats)
    for number, panel in enumerate(stats):
        panels.append({**panel, "gridPos": {"h": 4, "w": stat_width, "x": number * stat_width, "y": 0}})
    for number, panel in enumerate(graphs):
        place = {"h": 8, "w": WIDTH // 2, "x": number % 2 * (WIDTH // 2), "y": 4 + number // 2 * 8}
        panels.append({**panel, "gridPos": place})
    datasource = {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source"}
    return {
        "uid": f"lograft-{name}",
        "title": title,
        "tags": ["lograft"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "",
        "graphTooltip": 1,
        "links": [
            {"type": "dashboards", "tags": ["lograft"], "title": "lograft", "asDropdown": False, "keepTime": True}
        ],
        "templating": {"list": [datasource, variable("cluster", "lograft_brokers_up", several=False), *variables]},
        "annotations": {
            "list": [
                {
                    "name": "Alerts",
                    "datasource": _DATASOURCE,
                    "enable": True,
                    "iconColor": "red",
                    "expr": f'ALERTS{{{C}, alertname=~"Lograft.+", alertstate="firing"}}',
                    "titleFormat": "{{alertname}}",
                    "textFormat": "{{instance}} {{group}} {{topic}}",
                    "step": "15s",
                }
            ]
        },
        "panels": [{**panel, "id": number, "datasource": _DATASOURCE} for number, panel in enumerate(panels, 1)],
    }


def quantile(share: float, metric: str, by: str = "", more: str = "") -> str:
    labels = f"{by}, le" if by else "le"
    return f"histogram_quantile({share}, sum by ({labels}) (rate({metric}_bucket{{{C}{more}}}[{R}])))"


def rates(metric: str, by: str, more: str = "") -> str:
    return f"sum by ({by}) (rate({metric}{{{C}{more}}}[{R}]))"


def percentiles(metric: str) -> list[Line]:
    return [Line(quantile(share, metric), f"p{round(100 * share)}") for share in (0.5, 0.95, 0.99)]


def the_cluster() -> dict[str, Any]:
    return dashboard(
        "cluster",
        "lograft / Cluster",
        [],
        [
            stat(
                "Brokers out of touch",
                f"max(lograft_brokers_registered{{{C}}}) - min(lograft_brokers_up{{{C}}})",
                bad_from=1,
            ),
            stat("Leaderless partitions", f"max(lograft_leaderless_partitions{{{C}}})", bad_from=1),
            stat("At minimum quorum", f"sum(lograft_at_min_quorum_partitions{{{C}}})", bad_from=1),
            stat("Under-replicated", f"sum(lograft_under_replicated_partitions{{{C}}})", bad_from=1),
            stat("Controllers", f"sum(lograft_controller_active{{{C}}})", good_from=1),
            stat(
                "Least disk free",
                f"min(lograft_disk_free_bytes{{{C}}} / lograft_disk_total_bytes{{{C}}})",
                unit="percentunit",
                good_from=0.1,
            ),
            stat("Records in", f"sum(rate(lograft_produce_records_total{{{C}}}[{R}]))", unit="cps"),
            stat("Records out", f"sum(rate(lograft_fetch_records_total{{{C}}}[{R}]))", unit="cps"),
        ],
        [
            graph(
                "Bytes in, by broker",
                Line(rates("lograft_produce_bytes_total", "instance"), "{{instance}}"),
                unit="Bps",
                stacked=True,
            ),
            graph(
                "Bytes out, by broker",
                Line(rates("lograft_fetch_bytes_total", "instance"), "{{instance}}"),
                unit="Bps",
                stacked=True,
            ),
            graph("Produce: request to acknowledgement", *percentiles("lograft_produce_ack_seconds"), unit="s"),
            graph(
                "Replication: append to majority, p99 by leader",
                Line(quantile(0.99, "lograft_replication_ack_seconds", "instance"), "{{instance}}"),
                unit="s",
            ),
            graph(
                "Disk: one fdatasync, p99",
                Line(quantile(0.99, "lograft_fsync_seconds", "instance"), "{{instance}}"),
                unit="s",
                note="Everything that is acknowledged waits for these, on a majority of the brokers.",
            ),
            graph(
                "Event loop lag, p99",
                Line(quantile(0.99, "lograft_event_loop_lag_seconds", "instance"), "{{instance}}"),
                unit="s",
                note="How late a timer fires: the first number to read when a broker is slow.",
            ),
            graph(
                "Leaders",
                Line(rates("lograft_raft_leader_changes_total", "instance"), "changes at {{instance}}"),
                Line(rates("lograft_raft_elections_total", "result"), "elections {{result}}"),
                unit="cps",
            ),
            graph("Partitions led", Line(f"lograft_leaders{{{C}}}", "{{instance}}"), stacked=True),
            graph(
                "Partitions that are not well",
                Line(f"max(lograft_leaderless_partitions{{{C}}})", "leaderless"),
                Line(f"sum(lograft_at_min_quorum_partitions{{{C}}})", "at minimum quorum"),
                Line(f"sum(lograft_under_replicated_partitions{{{C}}})", "under-replicated"),
                Line(f"sum(lograft_damaged_replicas{{{C}}})", "damaged replicas"),
                Line(f"sum(lograft_doubtful_replicas{{{C}}})", "doubtful replicas"),
                Line(f"sum(lograft_unopened_replicas{{{C}}})", "unopened replicas"),
            ),
            graph(
                "Followers behind, worst",
                Line(f"max by (peer) (lograft_replica_lag_max_records{{{C}}})", "broker {{peer}}"),
            ),
            graph(
                "Replicas being copied",
                Line(f"sum(lograft_copies_left_bytes{{{C}}})", "left to copy"),
                unit="bytes",
                note="After a move, or while a broker catches up.",
            ),
            graph("Partition moves", Line(f"sum(lograft_partition_moves_active{{{C}}})", "moving")),
            graph(
                "Disk free",
                Line(f"lograft_disk_free_bytes{{{C}}}", "{{instance}}"),
                Line(f"max(lograft_disk_produce_stop_free_bytes{{{C}}})", "produce stops below"),
                unit="bytes",
            ),
            graph(
                "Silence between brokers",
                Line(f"max by (peer) (lograft_peer_silence_seconds{{{C}}})", "broker {{peer}}"),
                unit="s",
            ),
            graph(
                "CPU",
                Line(rates("process_cpu_seconds_total", "instance", ', job="lograft"'), "{{instance}}"),
                note="1 is one whole core.",
            ),
            graph("Memory", Line(f'process_resident_memory_bytes{{{C}, job="lograft"}}', "{{instance}}"), unit="bytes"),
            graph(
                "Calls that failed, by code",
                Line(rates("lograft_requests_total", "api, code", ', code!~"OK|CANCELLED"'), "{{api}} {{code}}"),
                unit="cps",
            ),
            graph(
                "Batches refused, by reason",
                Line(rates("lograft_produce_rejected_total", "reason"), "{{reason}}"),
                unit="cps",
            ),
            graph(
                "Collector's pauses",
                Line(quantile(0.99, "lograft_gc_pause_seconds", "generation"), "generation {{generation}}, p99"),
                unit="s",
            ),
            graph("Connections", Line(f"sum by (listener) (lograft_connections{{{C}}})", "{{listener}}")),
        ],
    )


def the_topics() -> dict[str, Any]:
    chosen = ', topic=~"$topic"'
    return dashboard(
        "topics",
        "lograft / Topics",
        [variable("topic", "lograft_log_size_bytes", several=True)],
        [
            stat("Topics", f"count(count by (topic) (lograft_log_size_bytes{{{C}{chosen}}}))"),
            stat("Records in", f"sum(rate(lograft_produce_records_total{{{C}{chosen}}}[{R}]))", unit="cps"),
            stat("Bytes in", f"sum(rate(lograft_produce_bytes_total{{{C}{chosen}}}[{R}]))", unit="Bps"),
            stat("Bytes out", f"sum(rate(lograft_fetch_bytes_total{{{C}{chosen}}}[{R}]))", unit="Bps"),
            stat("Stored, all copies", f"sum(lograft_log_size_bytes{{{C}{chosen}}})", unit="bytes"),
            stat(
                "Least replicas in sync",
                f"min(lograft_partition_in_sync_replicas{{{C}{chosen}}} / lograft_partition_replicas{{{C}{chosen}}})",
                unit="percentunit",
                good_from=1,
            ),
        ],
        [
            graph("Records in", Line(rates("lograft_produce_records_total", "topic", chosen), "{{topic}}"), unit="cps"),
            graph("Records out", Line(rates("lograft_fetch_records_total", "topic", chosen), "{{topic}}"), unit="cps"),
            graph(
                "Bytes in",
                Line(rates("lograft_produce_bytes_total", "topic", chosen), "{{topic}}"),
                unit="Bps",
                stacked=True,
            ),
            graph(
                "Bytes out",
                Line(rates("lograft_fetch_bytes_total", "topic", chosen), "{{topic}}"),
                unit="Bps",
                stacked=True,
            ),
            graph(
                "Records a batch",
                Line(
                    f"{rates('lograft_produce_records_total', 'topic', chosen)} / "
                    f"{rates('lograft_produce_batches_total', 'topic', chosen)}",
                    "{{topic}}",
                ),
                note="Few records a batch are expensive: raise linger_ms in the producers.",
            ),
            graph(
                "Stored, all copies",
                Line(f"sum by (topic) (lograft_log_size_bytes{{{C}{chosen}}})", "{{topic}}"),
                unit="bytes",
                stacked=True,
            ),
            graph("Segments", Line(f"sum by (topic) (lograft_log_segments{{{C}{chosen}}})", "{{topic}}")),
            graph(
                "Dropped by retention",
                Line(rates("lograft_retention_deleted_bytes_total", "topic", chosen), "{{topic}}"),
                unit="Bps",
            ),
            graph(
                "Skew: busiest partition against the mean",
                Line(
                    f"max by (topic) (rate(lograft_committed_offset{{{C}{chosen}}}[5m])) / "
                    f"avg by (topic) (rate(lograft_committed_offset{{{C}{chosen}}}[5m]))",
                    "{{topic}}",
                ),
                note="1: all partitions get the same. Much more: a few keys make most of the records.",
            ),
            graph(
                "Busiest partitions",
                Line(
                    f"topk(10, max by (topic, partition) (rate(lograft_committed_offset{{{C}{chosen}}}[5m])))",
                    "{{topic}}-{{partition}}",
                ),
                unit="cps",
            ),
            graph(
                "Largest partitions",
                Line(
                    f"topk(10, max by (topic, partition) (lograft_partition_size_bytes{{{C}{chosen}}}))",
                    "{{topic}}-{{partition}}",
                ),
                unit="bytes",
            ),
            graph(
                "Replicas behind, worst",
                Line(
                    f"topk(10, max by (topic, partition, peer) (lograft_replica_lag_records{{{C}{chosen}}}) > 0)",
                    "{{topic}}-{{partition}} on {{peer}}",
                ),
            ),
        ],
    )


def the_groups() -> dict[str, Any]:
    chosen = ', group=~"$group"'
    lag = f"max by (group, topic) (lograft_group_lag_records{{{C}{chosen}}})"
    change = f"max by (group, topic) (deriv(lograft_group_lag_records{{{C}{chosen}}}[5m]))"
    into = f"sum by (topic) (rate(lograft_produce_records_total{{{C}}}[5m]))"
    return dashboard(
        "groups",
        "lograft / Groups",
        [variable("group", "lograft_group_members", several=True)],
        [
            stat("Groups", f"sum(lograft_groups{{{C}}})"),
            stat("Without members", f'sum(lograft_groups{{{C}, state="empty"}})'),
            stat("Members", f"sum(lograft_group_members{{{C}{chosen}}})"),
            stat("Worst lag", f"max(lograft_group_lag_seconds{{{C}{chosen}}})", unit="s", bad_from=300),
            stat("Records unread", f"sum({lag})"),
            stat(
                "Records missed",
                f"sum(max by (group, topic) (lograft_group_expired_records{{{C}{chosen}}}))",
                bad_from=1,
            ),
        ],
        [
            graph(
                "Lag in seconds",
                Line(f"max by (group, topic) (lograft_group_lag_seconds{{{C}{chosen}}})", "{{group}}: {{topic}}"),
                unit="s",
                note="Age of the oldest record that the group has not read, in its worst partition.",
            ),
            graph("Lag in records", Line(lag, "{{group}}: {{topic}}")),
            graph(
                "Written and read",
                Line(f"{into} and on (topic) {lag}", "{{topic}} written"),
                Line(f"clamp_min(-({change} - on (topic) group_left () {into}), 0)", "{{group}}: {{topic}} read"),
                unit="cps",
                note="Read: what is written less what the lag grows by.",
            ),
            graph(
                "Time to catch up",
                Line(f"{lag} / -({change} < 0)", "{{group}}: {{topic}}"),
                unit="s",
                note="At the pace of the last five minutes. Nothing where the lag does not shrink.",
            ),
            graph(
                "Worst partition",
                Line(f"max by (group, topic) (lograft_group_lag_max_records{{{C}{chosen}}})", "{{group}}: {{topic}}"),
            ),
            graph(
                "Partitions furthest behind",
                Line(
                    "topk(10, max by (group, topic, partition) "
                    f"(lograft_group_partition_lag_seconds{{{C}{chosen}}}) > 0)",
                    "{{group}}: {{topic}}-{{partition}}",
                ),
                unit="s",
            ),
            graph("Members", Line(f"max by (group) (lograft_group_members{{{C}{chosen}}})", "{{group}}")),
            graph(
                "Rebalances",
                Line(f"sum by (group) (increase(lograft_group_rebalances_total{{{C}{chosen}}}[5m]))", "{{group}}"),
                note="In five minutes. Many: members come and go, or take too long to handle what they got.",
            ),
            graph(
                "Offsets stored and refused",
                Line(rates("lograft_group_offset_stores_total", "group, result", chosen), "{{group}} {{result}}"),
                unit="cps",
                note="Refused: a member that lost the partition meanwhile. Its records are handled by another as well.",
            ),
            graph(
                "Records missed",
                Line(f"max by (group, topic) (lograft_group_expired_records{{{C}{chosen}}})", "{{group}}: {{topic}}"),
                note="Dropped by retention or trim before the group read them.",
            ),
        ],
    )


def made() -> dict[str, str]:
    """File names and contents."""
    boards = {"cluster": the_cluster(), "topics": the_topics(), "groups": the_groups()}
    return {f"{name}.json": json.dumps(board, indent=2) + "\n" for name, board in boards.items()}


if __name__ == "__main__":
    for name, text in made().items():
        (FOLDER / name).write_text(text)
        print(FOLDER / name)
