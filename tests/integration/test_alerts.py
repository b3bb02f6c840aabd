"""The rules, judged by Prometheus' own tool."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from lograft.client.cli import monitoring_files

from tests.monitoring.install import CannotBeHad, install

ROOT = Path(__file__).parents[2]
UNIT_TESTS = ROOT / "tests" / "monitoring" / "alerts_test.yml"


@pytest.fixture(scope="module")
def promtool() -> Path:
    try:
        return install().promtool
    except CannotBeHad as why:
        pytest.skip(str(why))


def run(*command: str | Path, directory: Path = ROOT) -> str:
    ended = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_configuration_and_rules_are_valid_as_stored_and_as_generated(promtool: Path, tmp_path: Path) -> None:
    run(promtool, "check", "config", ROOT / "cluster-configs" / "prometheus" / "prometheus.yml")
    config = monitoring_files.prometheus_config(["b0:9602", "b1:9602"], cluster='a "b" \\ c', scrape_interval_s=0.5)
    (tmp_path / "prometheus.yml").write_text(config)
    rules = monitoring_files.alerts(lag_goals_s={"it's": 1, "b": 2.5}, time_scale=0.01, scrape_interval_s=0.5)
    (tmp_path / monitoring_files.ALERTS_FILE).write_text(rules)
    checked = run(promtool, "check", "config", "--lint=all", "--lint-fatal", tmp_path / "prometheus.yml")
    assert "SUCCESS: 24 rules found" in checked


def test_every_alert_fires_when_it_should_and_is_quiet_before_and_after(promtool: Path) -> None:
    assert "SUCCESS" in run(promtool, "test", "rules", UNIT_TESTS.name, directory=UNIT_TESTS.parent)


def test_the_unit_tests_leave_no_alert_out() -> None:
    rules = yaml.safe_load(monitoring_files.alerts())
    alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"] if "alert" in rule}
    fired = set(re.findall(r'ALERTS{alertname="(\w+)", alertstate="firing"', UNIT_TESTS.read_text()))
    assert alerts == fired


def test_prometheus_understands_what_the_dashboards_ask(promtool: Path, tmp_path: Path) -> None:
    rules = []
    for name in monitoring_files.DASHBOARDS:
        board = json.loads(monitoring_files.dashboard(name))
        asked = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
        asked += [one["expr"] for one in board["annotations"]["list"]]
        for expression in asked:
            known = re.sub(r"\$__rate_interval", "1m", expression)
            rules.append({"record": f"asked:{name}_{len(rules)}", "expr": re.sub(r"\$\w+", ".+", known)})
    assert len(rules) > 50
    (tmp_path / "asked.yml").write_text(yaml.safe_dump({"groups": [{"name": "asked", "rules": rules}]}))
    run(promtool, "check", "rules", tmp_path / "asked.yml")
