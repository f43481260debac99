"""Alerts and dashboard ask for metrics that there are, and each alert is tried out."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse_text

from gateway.ops.metrics import Exposition, Usage
from supervisor.kinds import CONSOLE, DSP, SPEECH, WORKER
from supervisor.scoreboard import Field, RowName, Scoreboard
from tests.promtool import DEPLOY, promtool

ALERTS = DEPLOY / "alerts.yml"
CASES = DEPLOY / "alerts_test.yml"
DASHBOARD = DEPLOY / "grafana" / "dashboards" / "voice-gateway.json"
MATCHER = re.compile(r"(\w+)(?:=|!=)\"([\w/]+)\"")


def expressions() -> list[str]:
    """Of the dashboard, with values for Grafana's variables."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    found = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    return [text.replace("$__rate_interval", "5m").replace("$instance", ".*") for text in found]


def exposition() -> str:
    """What a gateway with a child of each kind tells Prometheus."""
    board = Scoreboard([RowName(kind, 0) for kind in (WORKER, DSP, SPEECH, CONSOLE)], arenas=2)
    for pid, row in enumerate(board.rows(), 1):
        row.set(Field.PID, pid)
    usage = {pid: Usage(1, 1, 1) for pid in range(1, 5)}
    return Exposition(board).render("", usage)[0].decode()


def exposed() -> tuple[set[str], dict[str, set[str]]]:
    """Names of all samples, and the values of each label."""
    samples = [sample for family in parse_text(exposition()) for sample in family.samples]
    labels: dict[str, set[str]] = {"job": {"voice-gateway"}}
    for sample in samples:
        for label, value in sample.labels.items():
            labels.setdefault(label, set()).add(value)
    return {sample.name for sample in samples}, labels


@pytest.mark.parametrize("source", [ALERTS, CASES, DASHBOARD], ids=lambda path: path.name)
def test_all_that_is_asked_for_is_exposed(source: Path) -> None:
    text = "\n".join(expressions()) if source == DASHBOARD else source.read_text()
    names, labels = exposed()
    asked = set(re.findall(r"\bvoice_gateway_\w+", text))
    assert len(asked) > 15
    assert asked <= names
    for label, value in MATCHER.findall(text):
        if label in ("kind", "stage", "reason", "event", "job"):
            assert value in labels[label], f'{label}="{value}"'


def test_each_alert_has_a_case_and_says_what_to_do() -> None:
    text = ALERTS.read_text()
    alerts = re.findall(r"- alert: (\w+)", text)
    assert len(alerts) == len(set(alerts))
    assert set(re.findall(r'alertname="(\w+)"', CASES.read_text())) == set(alerts)
    for part in ("summary: ", "action: ", "severity: "):
        assert text.count(part) == len(alerts), part


def test_prometheus_finds_no_fault_in_the_exposition() -> None:
    assert promtool("check", "metrics", told=exposition()) == ""


def test_prometheus_takes_its_configuration_and_the_rules() -> None:
    assert "SUCCESS" in promtool("check", "config", "prometheus.yml")


def test_each_alert_fires_alone_and_none_when_all_is_well() -> None:
    assert "SUCCESS" in promtool("test", "rules", "alerts_test.yml")


def test_prometheus_understands_every_panel(tmp_path: Path) -> None:
    rules = [{"record": f"panel:{n}", "expr": text} for n, text in enumerate(expressions())]
    made = tmp_path / "panels.yml"  # JSON is YAML
    made.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    assert f"{len(rules)} rules found" in promtool("check", "rules", made)
