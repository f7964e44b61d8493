"""What docs/playbooks.md shows is true."""

import re
from pathlib import Path

import pytest

from healer.cases import run_cases
from healer.domain.playbook import Guards, Mode, StepRule, VerifyRule
from healer.playbook_yaml import Registry, load_paths, parse

PAGE = (Path(__file__).parents[2] / "docs" / "playbooks.md").read_text()
PLAYBOOK, CASES = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


def test_the_example_loads_and_its_cases_pass(tmp_path: Path, registry: Registry) -> None:
    """The page's playbook loads, and the page's cases of it pass."""
    (tmp_path / "cases").mkdir()
    (tmp_path / "replace-crash-looping-pod.yaml").write_text(PLAYBOOK)
    (tmp_path / "cases" / "replace-crash-looping-pod.yaml").write_text(CASES)
    report = run_cases([tmp_path], registry)
    assert [str(failure) for failure in report.failures] == []
    assert report.cases == 3


def test_the_defaults_on_the_page_are_those_of_the_domain(registry: Registry) -> None:
    """A playbook that says only what is required has exactly the domain's own defaults."""
    text = re.sub(r"  guards:\n(    .*\n)+", "", PLAYBOOK)
    text = re.sub(r"  mode: .*\n", "", text)
    text = re.sub(r"        (within|stableFor): .*\n", "", text)
    playbook = parse(text, registry, "replace-crash-looping-pod.yaml")
    assert playbook.guards == Guards()
    assert playbook.mode is Mode.APPROVE
    assert playbook.priority == 50
    step = playbook.steps[0]
    assert step.verify == VerifyRule(step.verify.probes if step.verify else ())
    assert step == StepRule(step.name, step.action, step.params, step.verify)


@pytest.mark.parametrize("key", ["unless", "windows", "errorBudget", "storm", "breaker"])
def test_every_guard_on_the_page_can_be_written(
    key: str, tmp_path: Path, registry: Registry
) -> None:
    """The guards that the page shows in a line are accepted as they are shown."""
    shown = {
        "unless": "[{promql: 'backup_running == 1', because: a backup runs}]",
        "windows": "[{freeze: true, days: [mon, tue, wed, thu, fri], from: '22:00', to: '06:00', "
        "because: nobody is awake}]",
        "errorBudget": "{expr: slo_budget_left, minimum: 20%}",
        "storm": "{ratio: 55%, minimum: 3, maxInFlight: 4}",
        "breaker": "{failures: 3, for: 1h}",
    }[key]
    assert key == "errorBudget" or shown.strip("[]") in PAGE
    file = tmp_path / "replace-crash-looping-pod.yaml"
    file.write_text(PLAYBOOK.replace("  guards:\n", f"  guards:\n    {key}: {shown}\n"))
    (playbook,) = load_paths([tmp_path], registry).playbooks
    guards = playbook.guards
    assert {
        "unless": bool(guards.unless),
        "windows": bool(guards.windows) and guards.windows[0].end_minute == 360,
        "errorBudget": guards.error_budget is not None and guards.error_budget.minimum == 0.2,
        "storm": guards.storm_ratio == 0.55,
        "breaker": guards.breaker_failures == 3,
    }[key]
