"""The snippets for Prometheus and Alertmanager, by their own tools."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from healer.web.metrics import Instruments
from tests.bed.builds import binary
from tests.deploy.rendered import DEPLOY, base, compose, pod_of, the

RULES = DEPLOY / "prometheus" / "healer.rules.yaml"
ALERTMANAGER = DEPLOY / "alertmanager" / "alertmanager.yaml"


def run(program: str, *arguments: str | Path) -> str:
    """What the program printed; it must end well."""
    done = subprocess.run(
        [str(binary(program)), *map(str, arguments)],
        capture_output=True, text=True, check=False, cwd=DEPLOY / "prometheus",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_promtool_accepts_configuration_and_rules() -> None:
    """Promtool finds no fault with the scrape configuration and the rules it loads."""
    assert "SUCCESS" in run("promtool", "check", "config", "--lint-fatal", "prometheus.yaml")
    run("promtool", "check", "rules", "--lint-fatal", RULES)


def test_rules_fire_when_they_should() -> None:
    """Promtool's unit tests of the rules pass."""
    run("promtool", "test", "rules", "healer.rules.test.yaml")


def test_every_rule_is_tested_to_fire() -> None:
    """Each alert is expected to fire in the unit tests."""
    names = {r["alert"] for g in yaml.safe_load(RULES.read_text())["groups"] for r in g["rules"]}
    text = (DEPLOY / "prometheus" / "healer.rules.test.yaml").read_text()
    assert names == set(re.findall(r"alertname(?:: |=\")(Healer\w+)", text))


def test_rules_ask_for_metrics_that_exist() -> None:
    """Each `healer_…` metric in a rule is one that healer exports."""
    exported = {one.name for one in Instruments().described()}
    expressions = " ".join(
        rule["expr"] for g in yaml.safe_load(RULES.read_text())["groups"] for rule in g["rules"]
    )
    asked = set(re.findall(r"\bhealer_\w+", expressions))
    assert asked
    assert asked <= exported


def test_alerts_about_healer_go_to_people() -> None:
    """No alert about healer itself is routed to healer."""
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            assert "remediation" not in rule["labels"]
            assert routed(alertname=rule["alert"], **rule["labels"]) == "people"


def routed(**labels: str) -> str:
    pairs = [f"{name}={value}" for name, value in labels.items()]
    return run(
        "amtool", "config", "routes", "test", f"--config.file={ALERTMANAGER}", *pairs
    ).strip()


def test_operator_objects_hold_the_same_rules(tmp_path: Path) -> None:
    """The PrometheusRule holds the same groups, and the ServiceMonitor selects healer's Service."""
    objects = compose(tmp_path, ["monitoring"])
    groups = yaml.safe_load(RULES.read_text())["groups"]
    assert the(objects, "PrometheusRule")["spec"]["groups"] == groups
    monitor = the(objects, "ServiceMonitor")["spec"]
    service = the(objects, "Service")
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["endpoints"][0]["port"] in {p["name"] for p in service["spec"]["ports"]}
    # The job label is the Service's name: the rules ask for job="healer".
    assert service["metadata"]["name"] == "healer"


def test_amtool_accepts_the_configuration() -> None:
    """Amtool finds no fault with the routes, the receiver and the inhibitions."""
    assert "SUCCESS" in run("amtool", "check-config", ALERTMANAGER)


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        ({"alertname": "KubePodCrashLooping", "remediation": "healer"}, "healer"),
        ({"alertname": "KubePodCrashLooping"}, "people"),
        ({"alertname": "HealerRemediationFailed", "remediation": "healer"}, "people"),
        ({"alertname": "HealerDown"}, "people"),
    ],
)
def test_routes(labels: dict[str, str], receiver: str) -> None:
    """What healer may answer goes to healer alone, and its failures go to people."""
    assert routed(**labels) == receiver


def test_receiver_posts_where_healer_listens() -> None:
    """The webhook's address is the Service's webhook port and the credential is a file."""
    config = yaml.safe_load(ALERTMANAGER.read_text())
    (hook,) = next(r for r in config["receivers"] if r["name"] == "healer")["webhook_configs"]
    assert hook["url"] == "http://healer.healer.svc:8080/v1/alertmanager"
    assert hook["send_resolved"] is True
    assert hook["max_alerts"] == 0
    assert set(hook["http_config"]["authorization"]) == {"type", "credentials_file"}


def test_documented_configuration_is_the_shipped_one() -> None:
    """docs/escalation.md shows the routes, receiver and inhibitions that are shipped."""
    text = (DEPLOY.parent / "docs" / "escalation.md").read_text()
    shown = yaml.safe_load(re.findall(r"```yaml\n(route:.*?)```", text, re.DOTALL)[0])
    shipped = yaml.safe_load(ALERTMANAGER.read_text())
    shipped["receivers"][1]["webhook_configs"][0]["http_config"]["authorization"].pop("type")

    def plain(matchers: list[str]) -> list[str]:
        return [m.replace('"', "") for m in matchers]

    for config in (shown, shipped):
        for one in config["route"]["routes"]:
            one["matchers"] = plain(one["matchers"])
        for rule in config["inhibit_rules"]:
            rule["source_matchers"] = plain(rule["source_matchers"])
            rule["target_matchers"] = plain(rule["target_matchers"])
    assert shown == shipped


def test_health_port_is_reachable_for_the_scrape() -> None:
    """The port that Prometheus scrapes is a port of the pod."""
    (container,) = pod_of(base())["containers"]
    names = {port["name"] for port in container["ports"]}
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yaml").read_text())
    (job,) = config["scrape_configs"]
    keep = job["relabel_configs"][0]["regex"]
    assert keep.split(";")[1] in names
    assert job["job_name"] == "healer"
