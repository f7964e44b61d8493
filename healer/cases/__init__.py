"""Cases of playbooks: given an alert and a cluster, which playbook, target, steps and verdict."""

from healer.cases.runner import CaseFailure, CaseReport, run_cases

__all__ = ["CaseFailure", "CaseReport", "run_cases"]
