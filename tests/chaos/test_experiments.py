"""The experiment files: valid for the real toolkit, complete, and a black box."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any, get_args

import pytest
from chaoslib.exceptions import ChaosException
from chaoslib.experiment import ensure_experiment_is_valid

from chaos.campaign import fitting
from chaos.catalogue import load, names
from chaos.claim import claim_of
from chaos.errors import ChaosError
from chaos.site import HealerAccess, HookName, Site, read_site
from tests.demo.stack import ROOT

CHAOS = ROOT / "chaos"
TWELVE = {
    "kill-pods", "crash-loop", "hang", "leak", "bad-rollout", "node-not-ready", "node-gone",
    "zone-outage", "prometheus-blind", "alertmanager-duplicates", "api-slow", "healer-killed",
}  # fmt: skip
SITE = Site(
    context="x", namespace="chaos", prometheus="http://p", healer=HealerAccess(url="http://h")
)


def test_there_are_the_twelve() -> None:
    """Every experiment that was promised is there, and no other."""
    assert set(names()) == TWELVE


@pytest.mark.parametrize("experiment", load(), ids=lambda one: one.name)
def test_the_toolkit_finds_it_valid(experiment: Any) -> None:
    """The toolkit's own validation passes: structure, functions, and their arguments."""
    ensure_experiment_is_valid(experiment.content)


def test_the_toolkits_validation_would_find_a_wrong_function() -> None:
    """The same validation refuses an experiment whose probe does not exist."""
    content = load(only=["hang"])[0].content
    content["method"][0]["provider"]["func"] = "hung"
    with pytest.raises(ChaosException):
        ensure_experiment_is_valid(content)


@pytest.mark.parametrize("experiment", load(), ids=lambda one: one.name)
def test_it_has_what_the_verdict_reads(experiment: Any) -> None:
    """Each has one fault, watches last, and undoes what does not end by itself."""
    method = [activity["name"] for activity in experiment.content["method"]]
    assert method.count("fault") == 1
    assert method[-1] == "watch"
    claim = experiment.claim
    if claim.expects == "hold":
        assert method.index("fault") < method.index("hold") < method.index("release")
    if claim.needs:
        assert experiment.content["rollbacks"], "what a hook breaks, a rollback mends"
    if claim.expects != "nothing":
        assert claim.alert
        assert claim.actions
        assert claim.credit == "healer"


def test_alerts_and_actions_it_expects_are_set_up() -> None:
    """Each alert has a rule and each action a playbook under chaos/setup, for that alert."""
    rules = (CHAOS / "setup" / "rules.yml").read_text()
    playbooks = [path.read_text() for path in (CHAOS / "setup" / "playbooks").glob("*.yaml")]
    for one in load():
        if not one.claim.alert:
            continue
        assert f"alert: {one.claim.alert}\n" in rules
        for action in one.claim.actions:
            assert any(
                f'alertname="{one.claim.alert}"' in text and f"action: {action}\n" in text
                for text in playbooks
            ), f"no playbook does {action} for {one.claim.alert}"


def test_it_imports_neither_package() -> None:
    """No file of chaos/ imports healer, scalers or tests, lazily or not."""
    for path in CHAOS.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            found = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                found = [node.module or ""]
            strange = [n for n in found if re.match(r"(healer|scalers|tests)(\.|$)", n)]
            assert not strange, f"{path.relative_to(ROOT)} imports {strange}"


def test_what_is_not_possible_is_said() -> None:
    """A site without hooks cannot freeze a node, and the reason names the hooks to declare."""
    reasons = {one.name: one.not_possible(SITE) for one in load(SITE)}
    assert "hooks.freeze_node, hooks.thaw_node" in reasons["node-not-ready"]
    assert "healer.webhook" in reasons["alertmanager-duplicates"]
    assert reasons["crash-loop"] == ""


def test_a_site_may_expect_other_alerts_and_times() -> None:
    """The site's own claims are merged over the experiment's, key by key."""
    changes = {"alert": "KubePodCrashLooping", "within": {"detect": 1200}}
    site = SITE.model_copy(update={"claims": {"crash-loop": changes}})
    claim = load(site, ["crash-loop"])[0].claim
    assert claim.alert == "KubePodCrashLooping"
    assert (claim.within.detect, claim.within.stable) == (1200, 5)


def test_unknown_experiments_are_errors() -> None:
    """A wrong name is refused, on the command line and in the site file."""
    with pytest.raises(ChaosError, match="no experiment crashloop; there are"):
        load(only=["crashloop"])
    with pytest.raises(ChaosError, match="unknown experiments: crashloop"):
        load(SITE.model_copy(update={"claims": {"crashloop": {}}}))


def test_a_claim_with_a_wrong_key_is_an_error() -> None:
    """A misspelt claim is named with its experiment, not ignored."""
    content = load(only=["hang"])[0].content
    with pytest.raises(ChaosError, match="claim of experiment hang: budgets"):
        claim_of("hang", content, {"budgets": 1})


def test_the_page_about_them_is_true(tmp_path: Path) -> None:
    """docs/chaos.md names each experiment and each hook, and its site file is one."""
    text = (ROOT / "docs" / "chaos.md").read_text()
    assert set(re.findall(r"^\| `([a-z-]+)` \|", text, re.MULTILINE)) == TWELVE
    for hook in get_args(HookName):
        assert f"`{hook}`" in text
    site = tmp_path / "chaos-site.yaml"
    site.write_text(re.findall(r"^```yaml\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)[0])
    load(read_site(site, context="staging"))


def test_a_time_budget_is_filled_in_order() -> None:
    """A short budget holds the first experiments, a longer one more, an hour all of them."""
    chosen = [fitting(load(), seconds, with_control=True) for seconds in (20, 200, 600, 3600)]
    assert [len(one) for one in chosen] == sorted(len(one) for one in chosen)
    assert chosen[0] == []
    assert 0 < len(chosen[1]) < len(chosen[2]) < len(chosen[3]) == len(TWELVE)
    assert chosen[1] == load()[: len(chosen[1])]


def test_files_stay_readable() -> None:
    """No file of chaos/ is longer than three hundred lines."""
    for path in CHAOS.rglob("*.py"):
        assert len(Path(path).read_text().splitlines()) <= 300, path
