"""The playbooks that come with healer load together, and every one has cases that pass."""

from healer.cases import run_cases
from healer.playbook_yaml import Registry, find_shipped, load_paths


def test_the_shipped_set_loads_without_a_warning(registry: Registry) -> None:
    """No two shipped playbooks tie for the same alerts."""
    assert load_paths([find_shipped()], registry).warnings == ()


def test_every_shipped_playbook_has_cases_and_they_pass(registry: Registry) -> None:
    """`healer test` on the shipped set runs at least one case a playbook, and none fails."""
    report = run_cases([find_shipped()], registry)
    assert [str(failure) for failure in report.failures] == []
    assert report.untested == ()
    assert report.cases >= report.playbooks > 0
