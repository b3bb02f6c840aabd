"""What `lograft generate` gives, and where a local cluster's Prometheus listens and is found."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from lograft.client.cli import monitoring_files
from lograft.client.cli.endings import Refused
from lograft.client.cli.local_cluster import LocalCluster
from lograft.client.cli.local_monitoring import LocalMonitoring, cache_directory, choose_port, find_program
from lograft.client.cli.processes import ProcessIdentity

ROOT = Path(__file__).parents[3]


def the_rules(text: str) -> dict[str, dict[str, object]]:
    return {
        rule.get("alert") or rule["record"]: rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]
    }


def test_configuration_names_the_brokers_in_every_job_and_the_rules_beside_it() -> None:
    config = yaml.safe_load(monitoring_files.prometheus_config(["a:1", "b:2"], cluster="eu", scrape_interval_s=1))
    assert config["global"] == {"scrape_interval": "1s", "evaluation_interval": "1s"}
    assert config["rule_files"] == [monitoring_files.ALERTS_FILE]
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    assert jobs["lograft-partitions"]["scrape_interval"] == "2s"
    for job in jobs.values():
        assert job["static_configs"] == [{"targets": ["a:1", "b:2"], "labels": {"cluster": "eu"}}]


def test_rules_as_they_are_stored_are_what_is_given_unless_something_else_is_asked_for() -> None:
    assert monitoring_files.alerts() == (ROOT / "cluster-configs" / "prometheus" / "alerts.yml").read_text()


def test_shortened_rules_wait_less_and_look_over_shorter_ranges_that_still_hold_some_scrapes() -> None:
    stored = the_rules(monitoring_files.alerts())
    short = the_rules(monitoring_files.alerts(time_scale=0.05, scrape_interval_s=1))
    assert short.keys() == stored.keys()
    assert (stored["LograftUnderReplicated"]["for"], short["LograftUnderReplicated"]["for"]) == ("5m", "15s")
    assert "[1m]" in str(stored["LograftLeaderChurn"]["expr"])
    assert "[5s]" in str(short["LograftLeaderChurn"]["expr"])
    assert "[15s]" in str(short["LograftProduceSlow"]["expr"])
    for name, rule in stored.items():
        assert ("for" in rule) == ("for" in short[name])


def test_goals_of_groups_come_before_the_usual_one() -> None:
    rules = the_rules(monitoring_files.alerts(lag_goals_s={"billing": 30, "mail": 2.5}))
    lag = "0 * max by (cluster, group) (lograft_group_lag_seconds"
    assert rules["lograft:group_lag_goal_seconds"]["expr"] == (
        f'({lag}{{group="billing"}}) + 30) or ({lag}{{group="mail"}}) + 2.5) or ({lag}) + 300)'
    )


def test_runbooks_lie_where_people_of_the_installation_find_them() -> None:
    rules = the_rules(monitoring_files.alerts(runbooks="https://wiki.example.org/alerts"))
    assert rules["LograftDamage"]["annotations"]["runbook"] == "https://wiki.example.org/alerts#lograftdamage"  # type: ignore[index]


def test_every_alert_says_what_is_wrong_what_to_do_and_where_more_is_written() -> None:
    page = (ROOT / "docs" / "alerts.md").read_text()
    sections = {title.lower() for title in re.findall(r"^## (\w+)$", page, re.MULTILINE)}
    alerts = {name: rule for name, rule in the_rules(monitoring_files.alerts()).items() if "alert" in rule}
    for name, rule in alerts.items():
        assert rule["labels"]["severity"] in ("critical", "warning"), name  # type: ignore[index]
        notes = rule["annotations"]
        assert notes.keys() == {"summary", "description", "runbook"}, name  # type: ignore[attr-defined]
        assert notes["runbook"] == f"docs/alerts.md#{name.lower()}"  # type: ignore[index]
    assert sections == {name.lower() for name in alerts}


def test_prometheus_keeps_its_port_while_that_is_free_and_otherwise_stands_beside_broker_0() -> None:
    assert choose_port(9600, 9999, free=lambda port: True) == 9999
    assert choose_port(9600, None, free=lambda port: True) == 9604
    assert choose_port(9600, 9999, free=lambda port: port != 9999) == 9604
    assert choose_port(65534, None, free=lambda port: True) not in (65538, None)


def test_prometheus_is_found_in_the_cache_and_its_absence_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(Refused, match=r"none on PATH; install it .*apt install prometheus"):
        find_program()
    program = cache_directory() / "usr" / "bin" / "prometheus"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert find_program() == program


def test_a_cluster_remembers_its_prometheus_and_one_that_never_had_any_has_none(tmp_path: Path) -> None:
    cluster = LocalCluster.new(tmp_path, 1, 9600)
    cluster.save()
    assert (found := LocalCluster.load(tmp_path)) is not None and found.monitoring is None
    cluster.monitoring = LocalMonitoring(tmp_path / "prometheus", 9604, ProcessIdentity(1, "born"), "lograft down")
    cluster.save()
    assert (found := LocalCluster.load(tmp_path)) is not None and found.monitoring == cluster.monitoring
    described = (tmp_path / "cluster.json").read_text()
    (tmp_path / "cluster.json").write_text(re.sub(r',\s*"prometheus": {[^}]*}', "", described))
    older = LocalCluster.load(tmp_path)
    assert older is not None and older.monitoring is None
