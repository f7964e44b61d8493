"""The experiments, as their YAML files declare them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from chaos.claim import Claim, claim_of
from chaos.errors import ChaosError
from chaos.site import Site

FOLDER = Path(__file__).parent / "experiments"


@dataclass(frozen=True)
class Experiment:
    """One experiment of the Chaos Toolkit, and what it claims here."""

    name: str
    content: dict[str, Any]
    claim: Claim

    @property
    def title(self) -> str:
        """Its title."""
        return str(self.content["title"])

    def not_possible(self, site: Site) -> str:
        """Why it cannot run at this site; empty when it can."""
        missing = site.lacks(list(self.claim.needs))
        if missing:
            return f"not possible here: declare {', '.join(f'hooks.{m}' for m in missing)}"
        if self.claim.needs_webhook and not (site.healer.webhook and site.alertmanager):
            return "not possible here: name `alertmanager` and `healer.webhook`"
        return ""


def names() -> list[str]:
    """The names of all experiments, by file."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load(site: Site | None = None, only: list[str] | None = None) -> list[Experiment]:
    """The experiments in their order; ChaosError for an unknown name."""
    known = names()
    unknown = [name for name in only or [] if name not in known]
    if unknown:
        raise ChaosError(f"no experiment {', '.join(unknown)}; there are {', '.join(known)}")
    found = []
    for name in only or known:
        content = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
        changes = site.claims.get(name, {}) if site is not None else {}
        found.append(Experiment(name, content, claim_of(name, content, changes)))
    if site is not None:
        strange = [name for name in site.claims if name not in known]
        if strange:
            raise ChaosError(f"the site's `claims` name unknown experiments: {', '.join(strange)}")
    return sorted(found, key=lambda one: one.claim.order)
