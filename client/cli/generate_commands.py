"""`generate`: configuration for the monitoring of a cluster, as files to look at, change and use."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from .endings import Refused, say

WriteOption = Annotated[
    Path | None, typer.Option("--write", metavar="DIR", help="Write into this directory instead of printing.")
]


def prometheus(
    targets: Annotated[
        str | None,
        typer.Option(
            "--targets", metavar="HOST:PORT,...", help="HTTP ports of the brokers.  [default: the local cluster's]"
        ),
    ] = None,
    cluster: Annotated[
        str, typer.Option("--cluster", metavar="NAME", help="Tells clusters apart in alerts and dashboards.")
    ] = "lograft",
    scrape_interval: Annotated[
        float, typer.Option("--scrape-interval", metavar="SECONDS", min=0.1, max=60.0, help="How often to look.")
    ] = 15.0,
    write: WriteOption = None,
) -> None:
    """Prometheus' configuration.

    That is prometheus.yml; with --write, alerts.yml beside it as well.

    \b
      lograft generate prometheus --targets b0:9602,b1:9602,b2:9602 --write /etc/prometheus
      lograft generate prometheus | promtool check config --syntax-only /dev/stdin
    """
    from . import monitoring_files

    addresses = _http_addresses(targets)
    config = monitoring_files.prometheus_config(addresses, cluster=cluster, scrape_interval_s=scrape_interval)
    if write is None:
        _show({"prometheus.yml": config}, None)
    else:
        _show({"prometheus.yml": config, monitoring_files.ALERTS_FILE: monitoring_files.alerts()}, write)


def alerts(
    lag_goal: Annotated[
        list[str] | None,
        typer.Option(
            "--lag-goal", metavar="GROUP=SECONDS", help="How far this group may be behind; others: 300 s. Repeatable."
        ),
    ] = None,
    runbooks: Annotated[
        str, typer.Option("--runbooks", metavar="URL", help="Where your people find docs/alerts.md.")
    ] = "docs/alerts.md",
    time_scale: Annotated[
        float,
        typer.Option(
            "--time-scale", metavar="X", min=0.001, max=10.0, help="0.05: alerts after 3 s instead of a minute, to try."
        ),
    ] = 1.0,
    write: WriteOption = None,
) -> None:
    """Alerting rules for Prometheus.

    \b
      lograft generate alerts > alerts.yml && promtool check rules alerts.yml
      lograft generate alerts --lag-goal billing=30 --runbooks https://wiki.example.org/lograft-alerts
    """
    from . import monitoring_files

    goals = dict(_goal(text) for text in lag_goal or ())
    if not re.fullmatch(r"[!-~]+", runbooks) or set(runbooks) & set("\"'{}#"):
        raise typer.BadParameter(f"{runbooks!r} is no URL without spaces, quotes and #", param_hint="--runbooks")
    rules = monitoring_files.alerts(lag_goals_s=goals, runbooks=runbooks, time_scale=time_scale)
    _show({monitoring_files.ALERTS_FILE: rules}, write)


def grafana(
    dashboard: Annotated[
        str | None, typer.Argument(help="cluster, topics or groups.", metavar="DASHBOARD", show_default=False)
    ] = None,
    write: WriteOption = None,
) -> None:
    """Grafana's dashboards, as JSON.

    One of them is printed, or all are written into a directory.

    \b
      lograft generate grafana cluster > lograft-cluster.json
      lograft generate grafana --write /var/lib/grafana/dashboards
    """
    from . import monitoring_files

    known = monitoring_files.DASHBOARDS
    if dashboard is not None and dashboard not in known:
        raise typer.BadParameter(f"{dashboard!r} is none of {', '.join(known)}", param_hint="DASHBOARD")
    if dashboard is None and write is None:
        raise typer.BadParameter(
            f"name one of {', '.join(known)}, or a directory for all of them with --write DIR", param_hint="DASHBOARD"
        )
    names = known if dashboard is None else (dashboard,)
    _show({f"lograft-{name}.json": monitoring_files.dashboard(name) for name in names}, write)


def _goal(text: str) -> tuple[str, float]:
    group, equals, seconds = text.rpartition("=")
    if not equals or not group or not re.fullmatch(r"\d{1,9}(\.\d+)?", seconds) or float(seconds) <= 0:
        raise typer.BadParameter(f"{text!r} is not GROUP=SECONDS, as in billing=30", param_hint="--lag-goal")
    if set(group) & set('"\\{}') or not group.isprintable():
        raise typer.BadParameter(f"{group!r} is not the name of a group", param_hint="--lag-goal")
    return group, float(seconds)


def _http_addresses(targets: str | None) -> list[str]:
    if targets is None:
        from .local_cluster import find

        try:
            return [broker.metrics_address for broker in find(None).members]
        except Refused:
            raise Refused(
                "no brokers to watch are known", "name their HTTP ports: --targets host0:9602,host1:9602,host2:9602"
            ) from None
    addresses = [address.strip() for address in targets.split(",")]
    for address in addresses:
        if not re.fullmatch(r"[A-Za-z0-9._\-\[\]:]+:\d{1,5}", address):
            raise typer.BadParameter(f"{address!r} is not host:port", param_hint="--targets")
    return addresses


def _show(texts: Mapping[str, str], directory: Path | None) -> None:
    from .tables import show

    if directory is None:
        for text in texts.values():
            show(text.rstrip("\n"))
        return
    if not directory.is_dir():
        raise Refused(f"{directory} is no directory", "make it first, or name another with --write")
    for name, text in texts.items():
        (directory / name).write_text(text, "utf-8")
        say(f"wrote {directory / name}")
