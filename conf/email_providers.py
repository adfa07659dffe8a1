"""What mail providers ignore in an address: data in conf/identifiers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import yaml

PROVIDERS_FILE = files("conf") / "identifiers" / "email_providers.yaml"


@dataclass(frozen=True)
class EmailProvider:
    """One provider's rules for the part before the @; `canonical` stands for its domain, where it has several."""

    domain: str
    canonical: str
    ignores_dots: bool
    tag: str | None


@cache
def email_providers() -> dict[str, EmailProvider]:
    """Domain → the rules of its provider."""
    raw = yaml.safe_load(PROVIDERS_FILE.read_text(encoding="utf-8"))
    return {
        domain: EmailProvider(domain, p.get("canonical", domain), p.get("dots") == "ignored", p.get("tag"))
        for p in raw["providers"]
        for domain in p["domains"]
    }
