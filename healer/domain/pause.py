"""Pauses are named reasons, each with a scope; while any covers a plan, nothing is done."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pause:
    """Somebody's stop. `namespace` and `playbook` narrow it; both empty means everything."""

    id: str
    reason: str
    by: str
    at: float
    namespace: str = ""
    playbook: str = ""
    until: float | None = None

    def covers(self, namespace: str, playbook: str, now: float) -> bool:
        """Whether this pause forbids acting there now."""
        if self.until is not None and now >= self.until:
            return False
        return self.namespace in {"", namespace} and self.playbook in {"", playbook}

    @property
    def scope(self) -> str:
        """The scope in words."""
        parts = []
        if self.namespace:
            parts.append(f"namespace {self.namespace}")
        if self.playbook:
            parts.append(f"playbook {self.playbook}")
        return " and ".join(parts) or "everything"
