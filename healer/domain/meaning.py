"""What each reason says to a person, and what a person can do: the text of docs/reasons.md."""

from collections.abc import Mapping
from dataclasses import dataclass

from healer.domain.verdict import Reason


@dataclass(frozen=True, slots=True)
class Meaning:
    """One reason in words."""

    says: str
    remedy: str


_NOTHING = "Nothing to do."
_WAIT = "Nothing to do: it is looked at again by itself."

MEANINGS: Mapping[Reason, Meaning] = {
    Reason.ALLOWED: Meaning("Every guard allowed the step.", _NOTHING),
    Reason.NO_PLAYBOOK: Meaning(
        "No playbook matches the alert, or two match with the same priority.",
        "Write a playbook for it, or give one of the two a higher `priority`.",
    ),
    Reason.TARGET_UNRESOLVED: Meaning(
        "The alert's labels do not name one object as the playbook's `target` needs.",
        "Add the missing label to the alerting rule, or change `target` in the playbook.",
    ),
    Reason.TARGET_GONE: Meaning("The target no longer exists.", _NOTHING),
    Reason.TARGET_CHANGED: Meaning(
        "An object of the same name is another incarnation now, so the plan is void.", _NOTHING
    ),
    Reason.TARGET_PROTECTED: Meaning(
        "The target is on the list of what healer never touches.",
        "Act by hand; or, if it was not meant, change `protected` or the annotation on the object.",
    ),
    Reason.PARAMETER_INVALID: Meaning(
        "A parameter of a step is invalid after the labels were filled in.",
        "Correct `with:` in the playbook, or the label that was filled in.",
    ),
    Reason.MISSING_RIGHT: Meaning(
        "The API server does not allow healer what the step needs.",
        "Apply the output of `healer rbac`.",
    ),
    Reason.PAUSED: Meaning(
        "A person, or the pause file, has stopped healer here.",
        "`healer pauses` lists them; `healer resume ID` ends one.",
    ),
    Reason.COOLDOWN: Meaning(
        "The playbook ran on this target a short while ago.",
        "Wait, or shorten `guards.cooldown`; a target that needs it often has a deeper fault.",
    ),
    Reason.BUDGET_EXHAUSTED: Meaning(
        "As much was disrupted already as a budget grants.",
        "Wait for the budget to refill, or raise `guards.budgets` if it is too small.",
    ),
    Reason.MIN_HEALTHY: Meaning(
        "Acting would leave too few healthy pods of the workload.",
        "Mend or scale the workload, or lower `guards.minHealthy`.",
    ),
    Reason.ZONE_DEGRADED: Meaning(
        "So much of the zone is bad at once that restarting pods is not the cure.",
        "Look at the zone: nodes, network, a dependency. Healing goes on when sight returns.",
    ),
    Reason.OWNER_DEGRADED: Meaning(
        "So many pods of the workload are bad at once that restarting them is not the cure.",
        "Look at the workload: a bad release, configuration or dependency.",
    ),
    Reason.STORM_PACED: Meaning(
        "Others go first: only so many runs may be under way at once.", _WAIT
    ),
    Reason.BREAKER_OPEN: Meaning(
        "The last runs of the playbook did not help, so it rests.",
        "Mend the playbook, then `healer breaker-reset PLAYBOOK`.",
    ),
    Reason.TARGET_LOCKED: Meaning("Another episode is working on the same workload.", _WAIT),
    Reason.ROLLOUT_IN_PROGRESS: Meaning("The workload is rolling out.", _WAIT),
    Reason.GITOPS_MANAGED: Meaning(
        "The field belongs to a GitOps tool, which would revert the change.",
        "Change it in Git, or set `guards.allowGitopsManaged`.",
    ),
    Reason.HPA_MANAGED: Meaning(
        "The replicas belong to a HorizontalPodAutoscaler.",
        "Use `raise_hpa_max`, or set `guards.allowHpaManaged`.",
    ),
    Reason.FREEZE_WINDOW: Meaning(
        "A freeze window is on, or no maintenance window is.",
        "Wait for it, or change `guards.windows`.",
    ),
    Reason.UNLESS_CONDITION: Meaning(
        "A condition under `unless` is true, for example a backup is running.", _WAIT
    ),
    Reason.ERROR_BUDGET_SPENT: Meaning(
        "Too little of the error budget is left for a disruptive step.",
        "A person decides; acting by hand spends more of it.",
    ),
    Reason.BLIND: Meaning(
        "What must be known to act safely is missing, stale or unreachable.",
        "Mend Prometheus, Alertmanager or the query: `healer doctor` names what does not answer.",
    ),
    Reason.TEMPORARY_FAILURE: Meaning(
        "The API server or another service did not answer; it is tried again.",
        "If it lasts, `healer doctor` names what does not answer.",
    ),
    Reason.APPROVAL_NEEDED: Meaning(
        "The playbook is in mode `approve`.", "`healer approve EPISODE` or `healer reject EPISODE`."
    ),
    Reason.APPROVAL_EXPIRED: Meaning(
        "Nobody answered in time, or the answer came too late to be trusted.",
        "Act by hand; the episode is looked at again while it fires.",
    ),
    Reason.APPROVAL_REJECTED: Meaning("A person said no.", _NOTHING),
    Reason.OBSERVE_ONLY: Meaning(
        "The playbook, or `autonomy.ceiling`, is in mode `observe`.",
        "Raise the mode when its plans have proved right.",
    ),
    Reason.DRY_RUN: Meaning(
        "healer runs with `dry_run`: the API server checked the step and changed nothing.",
        "Unset `dry_run`.",
    ),
    Reason.NOT_FIRING: Meaning("A fresh look says that the alert no longer fires.", _NOTHING),
    Reason.STALE: Meaning("The delivery was late: what it tells has ended already.", _NOTHING),
    Reason.TOO_OLD: Meaning(
        "The episode has been open for so long that a person decides.",
        "`healer approve EPISODE` or `healer reject EPISODE`.",
    ),
    Reason.SELF_RESOLVED: Meaning("It went away before anything was done.", _NOTHING),
    Reason.RECOVERED: Meaning("A step was done, and recovery held.", _NOTHING),
    Reason.NOT_RECOVERED: Meaning(
        "Every step was done, and it did not recover in time.",
        "A person was told; `healer explain EPISODE` shows what was tried.",
    ),
    Reason.UNKNOWN_OUTCOME: Meaning(
        "Nobody can tell whether a step took effect, so it is not repeated.",
        "Look at the target, finish or undo the step by hand, then `healer ack EPISODE`.",
    ),
    Reason.VERIFY_UNKNOWN: Meaning(
        "Whether it recovered could not be seen; that never counts as success.",
        "Mend the probe's source, look at the target, then `healer ack EPISODE`.",
    ),
    Reason.ACTION_FAILED: Meaning(
        "A step failed, certainly without effect.",
        "The step's detail names the cause; the next step, or a person, follows.",
    ),
    Reason.CONDITION_FALSE: Meaning("The step has a condition, and it was false.", _NOTHING),
    Reason.UNDO_FAILED: Meaning(
        "The step did not help, and could not be put back.",
        "Put it back by hand: the run's step holds what was there before.",
    ),
    Reason.ESCALATED: Meaning(
        "A person was told, with the evidence.", "Mend it, then `healer ack EPISODE`."
    ),
    Reason.RECURRED: Meaning(
        "It was healed several times within hours and keeps coming back, so healer stops.",
        "The step cures the symptom; look for the cause.",
    ),
}  # fmt: skip
