"""Cases run through the real decisions, and a wrong expectation is named by file and line."""

from pathlib import Path

import pytest

from healer.cases import CaseReport, run_cases
from healer.playbook_yaml import PlaybookSetError, Registry

CASES = """\
apiVersion: healer.dev/v1alpha1
kind: PlaybookCases
playbook: replace-pod
given:
  alert:
    labels: {alertname: KubePodCrashLooping, namespace: shop, pod: cart-1}
  seen:
    owner: Deployment/shop/cart
    zone: eu-1a
    pods:
      - {name: cart-1, ready: false, reason: CrashLoopBackOff, restarts: 9}
      - {name: cart-2}
      - {name: cart-3}
  others:
    restart all:
      owner: Deployment/shop/cart
      pods:
        - {name: cart-1, ready: false}
        - {name: cart-2, ready: false}
  facts: {approval: given, zone: {total: 40, bad: 1}}
cases:
  - name: it heals
    expect:
      target: Pod/shop/cart-1
      steps:
        - {action: delete_pod, name: replace the pod, with: {grace: 10s}, cost: 1}
        - {action: restart_rollout, target: Deployment/shop/cart}
      verdict: allow
      ladder:
        - {step: replace the pod, verify: recovered, then: healed}
  - name: it climbs, undoes and pages
    expect:
      ladder:
        - {step: replace the pod, verify: not_recovered, then: next}
        - {step: restart all, verify: not_recovered, then: undo}
        - {undo: applied, then: escalated}
  - name: a step whose condition is false is skipped
    given:
      others: {restart all: {pods: [{name: cart-1}]}}
    expect:
      ladder:
        - {step: replace the pod, outcome: failed, then: next}
        - {step: restart all, then: escalated}
  - name: what nobody can tell goes to a person
    expect:
      ladder:
        - {step: replace the pod, outcome: unknown, then: escalated}
  - name: a verification that stays unknown goes to a person
    expect:
      ladder:
        - {step: replace the pod, verify: unknown, then: escalated}
  - name: nothing while the zone is bad
    given: {facts: {zone: {total: 40, bad: 30}}}
    expect: {verdict: {effect: defer, reason: zone_degraded}}
  - name: nothing when the zone cannot be counted
    given: {facts: {zone: unknown}}
    expect: {verdict: {effect: defer, reason: blind}}
  - name: a person is asked
    given: {facts: {approval: null}}
    expect: {verdict: {effect: need_approval, reason: approval_needed}}
  - name: no means no
    given: {facts: {approval: rejected}}
    expect: {verdict: {effect: deny, reason: approval_rejected}}
  - name: an old yes is none
    given: {facts: {approval: expired}}
    expect: {verdict: {effect: deny, reason: approval_expired}}
  - name: not during a backup
    given: {facts: {conditions: {a backup runs: true}}}
    expect: {verdict: {effect: defer, reason: unless_condition}}
  - name: nor when nobody knows of one
    given: {facts: {conditions: {a backup runs: unknown}}}
    expect: {verdict: {effect: defer, reason: blind}}
  - name: CEL is evaluated
    given: {alert: {labels: {namespace: frozen}}}
    expect: {verdict: {effect: defer, reason: unless_condition}, target: Pod/frozen/cart-1}
  - name: the cooldown holds
    given: {facts: {lastRun: 10m}}
    expect: {verdict: {effect: defer, reason: cooldown}}
  - name: and ends
    given: {facts: {lastRun: 16m}}
    expect: {verdict: allow}
  - name: an empty budget
    given: {facts: {budgets: {owner: 0.5}}}
    expect: {verdict: {effect: defer, reason: budget_exhausted}}
  - name: a pause
    given: {facts: {pauses: [{reason: release, namespace: shop}]}}
    expect: {verdict: {effect: defer, reason: paused}}
  - name: another episode works on it
    given: {facts: {lockedBy: ep-1}}
    expect: {verdict: {effect: defer, reason: target_locked}}
  - name: it no longer fires
    given: {facts: {firing: false}}
    expect: {verdict: {effect: deny, reason: not_firing}}
  - name: it was resolved
    given: {alert: {status: resolved}}
    expect: {verdict: {effect: deny, reason: not_firing}}
  - name: three bad runs in a row
    given: {facts: {badOutcomes: 3}}
    expect: {verdict: {effect: defer, reason: breaker_open}}
  - name: an old episode
    given: {alert: {age: 2h}, facts: {approval: null}}
    expect: {verdict: {effect: need_approval, reason: too_old}}
  - name: while it rolls out
    given: {seen: {rollout: true}}
    expect: {verdict: {effect: defer, reason: rollout_in_progress}}
  - name: a protected pod
    given: {seen: {annotations: {healer.dev/protect: 'true'}}}
    expect: {verdict: {effect: deny, reason: target_protected}}
  - name: a right is missing
    given: {facts: {missingRight: delete pods}}
    expect: {verdict: {effect: deny, reason: missing_right}}
  - name: system namespaces
    given: {alert: {labels: {namespace: kube-system}}}
    expect: {playbook: none}
  - name: the pod is gone
    given: {seen: {gone: true}}
    expect: {unplannable: target_gone}
  - name: no pod label
    given: {alert: {labels: {pod: null}}}
    expect: {unplannable: target_unresolved}
"""


@pytest.fixture
def folder(tmp_path: Path, good: str) -> Path:
    (tmp_path / "replace-pod.yaml").write_text(good)
    (tmp_path / "cases").mkdir()
    return tmp_path


def run(folder: Path, cases: str, registry: Registry) -> CaseReport:
    (folder / "cases" / "replace-pod.yaml").write_text(cases)
    return run_cases([folder], registry)


def test_every_right_expectation_passes(folder: Path, registry: Registry) -> None:
    """A file of right expectations, one for each thing a case can say, has no failure."""
    report = run(folder, CASES, registry)
    assert [str(failure) for failure in report.failures] == []
    assert report.playbooks == 1
    assert report.cases == CASES.count("  - name: ")
    assert report.passed
    assert report.untested == ()


WRONG = {
    "target: Pod/shop/cart-1\n": ("target: Pod/shop/cart-2\n", "it is Pod/shop/cart-1"),
    "{grace: 10s}": ("{grace: 20s}", "expected grace 20.0, but it is 10.0"),
    "cost: 1}": ("cost: 2}", "expected cost 2, but it is 1"),
    "- {action: delete_pod,": ("- {action: evict_pod,", "delete_pod is planned"),
    "name: replace the pod,": ("name: replace it,", "it is 'replace the pod'"),
    "        - {action: restart_rollout, target: Deployment/shop/cart}\n": (
        "",
        "2 are planned: delete_pod, restart_rollout",
    ),
    "verdict: allow\n      ladder": (
        "verdict: {effect: deny, reason: paused}\n      ladder",
        "expected verdict deny (paused), but it is allow",
    ),
    "verify: recovered, then: healed": (
        "verify: recovered, then: next",
        "expected then next, but it is healed (recovered)",
    ),
    "step: replace the pod, verify: recovered": (
        "step: restart all, verify: recovered",
        "the next rung is 'replace the pod'",
    ),
    "verify: not_recovered, then: undo": (
        "verify: not_recovered, then: escalated",
        "expected then escalated, but it is undo",
    ),
    "{undo: applied, then: escalated}": (
        "{undo: failed, then: next}",
        "it is escalated (undo_failed)",
    ),
    "reason: zone_degraded": ("reason: cooldown", "it is defer (zone_degraded): 30 of 40"),
    "expect: {playbook: none}": ("expect: {verdict: allow}", "none of 1 playbooks matches"),
    "unplannable: target_gone": (
        "unplannable: target_unresolved",
        "there is no plan, target_gone: Pod/shop/cart-1 does not exist",
    ),
    "{unplannable: target_unresolved}": ("{verdict: allow}", "expected a plan, but there is no"),
}


@pytest.mark.parametrize("right", WRONG)
def test_a_wrong_expectation_is_named_by_file_and_line(
    right: str, folder: Path, registry: Registry
) -> None:
    """One wrong expectation is one failure, at the line where it stands, with what is true."""
    wrong, says = WRONG[right]
    at = CASES.index(right)
    (failure,) = run(folder, CASES[:at] + wrong + CASES[at + len(right) :], registry).failures
    line = CASES[: at + len(right) - len(right.lstrip())].count("\n") + 1
    if right.strip().startswith("- {action: restart_rollout"):
        line -= 1  # the list itself is named, by its first item
    assert says in str(failure)
    assert str(failure).startswith(f"{folder}/cases/replace-pod.yaml:{line}:")


def test_faults_of_a_case_file_are_failures_with_their_place(
    folder: Path, registry: Registry
) -> None:
    """A case file that cannot be understood fails with each fault's line and a hint."""
    text = CASES.replace("lockedBy: ep-1", "locktBy: ep-1").replace("zone: unknown", "zone: bad")
    found = [str(failure) for failure in run(folder, text, registry).failures]
    assert len(found) == 2
    assert "write {total: 40, bad: 2} or unknown" in found[0]
    assert "unknown key 'locktBy'; did you mean 'lockedBy'?" in found[1]
    line = text[: text.index("locktBy")].count("\n") + 1
    assert found[1].startswith(f"{folder}/cases/replace-pod.yaml:{line}:21: ")


def test_two_cases_with_one_name_are_refused(folder: Path, registry: Registry) -> None:
    """A second case of the same name is a failure at its own line."""
    (failure,) = run(folder, CASES.replace("and ends", "it heals"), registry).failures
    assert "a second case 'it heals'; rename one" in str(failure)


def test_cases_of_no_playbook_are_a_failure(folder: Path, registry: Registry) -> None:
    """Cases of a playbook that is not in the set are a failure and not passed over."""
    text = CASES.replace("playbook: replace-pod", "playbook: replace-pods")
    (failure,) = run(folder, text, registry).failures
    assert str(failure).startswith(f"{folder}/cases/replace-pod.yaml:3:11: there is no playbook")


def test_playbooks_without_cases_are_named(folder: Path, registry: Registry) -> None:
    """A playbook without cases is reported as untested."""
    report = run_cases([folder / "replace-pod.yaml"], registry)
    assert report.untested == ("replace-pod",)
    assert report.cases == 0


def test_the_cases_of_one_file_can_be_run_alone(folder: Path, registry: Registry) -> None:
    """Naming a playbook's file runs the cases beside it."""
    (folder / "cases" / "replace-pod.yaml").write_text(CASES)
    assert run_cases([folder / "replace-pod.yaml"], registry).cases == CASES.count("  - name: ")


def test_a_faulty_playbook_stops_its_cases(folder: Path, registry: Registry) -> None:
    """Cases are not run on a set that would not load."""
    (folder / "replace-pod.yaml").write_text("a: b\n")
    with pytest.raises(PlaybookSetError):
        run(folder, CASES, registry)


def test_the_owner_is_the_target_when_the_playbook_says_so(
    folder: Path, registry: Registry, good: str
) -> None:
    """With `owner: true` the plan is about the controller, and a pod without one has no plan."""
    text = good.replace(
        "name: ${labels.pod}\n  guards", "name: ${labels.pod}\n    owner: true\n  guards"
    )
    text = text.replace("delete_pod", "restart_rollout").replace("{grace: 10s}", "{}")
    (folder / "replace-pod.yaml").write_text(text)
    head, _, _ = CASES.partition("cases:\n")
    cases = head + (
        "cases:\n"
        "  - name: owner\n"
        "    expect: {target: Deployment/shop/cart, verdict: allow}\n"
        "  - name: none\n"
        "    given: {seen: {owner: null}}\n"
        "    expect: {unplannable: target_unresolved}\n"
    )
    report = run(folder, cases, registry)
    assert [str(failure) for failure in report.failures] == []
