"""The identity policy: which identifiers link persons, how strongly, and which values never count.

A policy is a YAML file that a user edits; `load_policy` turns it into frozen dataclasses or refuses with the file,
the key, what is wrong and the way out.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

STRENGTHS = ("unique", "strong", "device", "weak", "ignored")
LINKING = ("unique", "strong", "device")
NORMALIZERS = ("opaque", "email", "phone", "hex", "uuid")
SHARED_IDENTIFIER = ("strongest_owner", "own_profile")
ANONYMOUS_ON_SHARED_DEVICE = ("until_shared", "session_bounded", "last_login", "device_profile")
MAX_LINKING_IDENTIFIERS = 50
POLICY_FOLDER = files("conf") / "policies"  # not a path: the package may be a zipped wheel

# What trackers send when they have nothing to send; compared after trimming, without regard to case.
SHIPPED_BLOCKED_VALUES: tuple[str, ...] = (
    "", "0", "-1", "anonymous", "anon", "guest", "id", "distinct_id", "distinctid", "email", "nan", "nil", "none",
    "null", "undefined", "unknown", "n/a", "not_authenticated", "[object object]", "true", "false",
    "ffffffff-ffff-ffff-ffff-ffffffffffff",
)  # fmt: skip
# Nothing but zeros, dashes and the like: the all-zero uuid and advertising id, "00", "--".
SHIPPED_BLOCKED_PATTERNS: tuple[str, ...] = (r"^[0\-_.:\s]*$",)


class PolicyError(ValueError):
    """A policy file that cannot be used; the message says file, key, problem and way out."""


@dataclass(frozen=True)
class Namespace:
    """One kind of identifier. `limit` is how many values one person may have (None: any number)."""

    name: str
    strength: str
    priority: int
    limit: int | None = None
    normalize: str = "opaque"
    blocked_values: tuple[str, ...] = ()
    blocked_patterns: tuple[str, ...] = ()
    max_degree: int | None = None

    @property
    def is_linking(self) -> bool:
        return self.strength in LINKING

    @property
    def value_limit(self) -> int | None:
        """How many values of it one person may have: 1 for unique, `limit` for strong, any number otherwise."""
        return 1 if self.strength == "unique" else self.limit


@dataclass(frozen=True)
class Policy:
    """The whole policy. `namespaces` is ordered by (priority, name); a namespace's code is its place there."""

    namespaces: tuple[Namespace, ...]
    blocked_values: frozenset[str] = frozenset(SHIPPED_BLOCKED_VALUES)
    blocked_patterns: tuple[str, ...] = SHIPPED_BLOCKED_PATTERNS
    max_degree: int = 1000
    shared_identifier: str = "strongest_owner"
    anonymous_on_shared_device: str = "until_shared"
    session_gap_minutes: float = 30.0
    max_value_length: int = 512
    default_phone_region: str | None = None
    origin: str = field(default="", compare=False)

    @cached_property
    def by_name(self) -> dict[str, Namespace]:
        return {n.name: n for n in self.namespaces}

    @cached_property
    def code_of(self) -> dict[str, int]:
        """Namespace name → small integer, stable for one policy."""
        return {n.name: i for i, n in enumerate(self.namespaces)}

    @property
    def fingerprint(self) -> str:
        facts = asdict(self)
        facts.pop("origin")
        facts["blocked_values"] = sorted(self.blocked_values)
        return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]


_NAMESPACE_KEYS = {
    "strength",
    "priority",
    "limit",
    "normalize",
    "blocked_values",
    "blocked_patterns",
    "max_degree",
}
_POLICY_KEYS = {
    "namespaces", "blocked_values", "blocked_values_replace", "blocked_patterns", "max_degree", "shared_identifier",
    "anonymous_on_shared_device", "session_gap_minutes", "max_value_length", "default_phone_region",
}  # fmt: skip


def load_policy(path: Path | str | None = None) -> Policy:
    """The policy in `path`, or one shipped in conf/policies by its bare name, or the default one."""
    file = POLICY_FOLDER / "default.yaml" if path is None else Path(path)
    if path is not None and not file.is_file() and (POLICY_FOLDER / f"{path}.yaml").is_file():
        file = POLICY_FOLDER / f"{path}.yaml"
    try:
        raw = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PolicyError(f"policy file {file} does not exist; give --policy an existing YAML file") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as e:
        where = getattr(e, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        raise PolicyError(
            f"policy file {file}{line} is not readable YAML; check its indentation and quotes"
        ) from None
    return policy_from_dict(raw, str(file))


def policy_from_dict(raw: Any, origin: str = "policy") -> Policy:
    """A validated Policy from parsed YAML. PolicyError names the key and what is allowed there."""

    def refuse(key: str, problem: str) -> PolicyError:
        return PolicyError(f"{origin}: {key}: {problem}")

    if not isinstance(raw, Mapping):
        raise refuse("(top)", "must be a mapping with the key `namespaces`")
    if unknown := sorted(set(map(str, raw)) - _POLICY_KEYS):
        raise refuse(unknown[0], f"is not a policy key; known are {', '.join(sorted(_POLICY_KEYS))}")
    spaces = raw.get("namespaces")
    if not isinstance(spaces, Mapping) or not spaces:
        raise refuse(
            "namespaces", "must name at least one namespace, such as user_id: {strength: unique, priority: 1}"
        )
    parsed = [_namespace(str(name), body, refuse) for name, body in spaces.items()]
    if not any(n.is_linking for n in parsed):
        raise refuse(
            "namespaces", "none of them links; give at least one the strength unique, strong or device"
        )

    def one_of(key: str, allowed: tuple[str, ...]) -> str:
        value = raw.get(key, allowed[0])
        if value not in allowed:
            raise refuse(key, f"must be one of {', '.join(allowed)}")
        return str(value)

    values = _strings(raw.get("blocked_values"), "blocked_values", refuse)
    shipped = () if raw.get("blocked_values_replace") else SHIPPED_BLOCKED_VALUES
    patterns = () if raw.get("blocked_values_replace") else SHIPPED_BLOCKED_PATTERNS
    region = raw.get("default_phone_region")
    if region is not None and not re.fullmatch(r"[A-Z]{2}", str(region)):
        raise refuse("default_phone_region", "must be a two-letter country code such as DE")
    return Policy(
        namespaces=tuple(sorted(parsed, key=lambda n: (n.priority, n.name))),
        blocked_values=frozenset(v.strip().lower() for v in (*shipped, *values)),
        blocked_patterns=(*patterns, *_patterns(raw.get("blocked_patterns"), "blocked_patterns", refuse)),
        max_degree=_positive(raw.get("max_degree", 1000), "max_degree", refuse),
        shared_identifier=one_of("shared_identifier", SHARED_IDENTIFIER),
        anonymous_on_shared_device=one_of("anonymous_on_shared_device", ANONYMOUS_ON_SHARED_DEVICE),
        session_gap_minutes=_positive_number(
            raw.get("session_gap_minutes", 30), "session_gap_minutes", refuse
        ),
        max_value_length=_positive(raw.get("max_value_length", 512), "max_value_length", refuse),
        default_phone_region=region,
        origin=origin,
    )


def _namespace(name: str, body: Any, refuse: Any) -> Namespace:
    key = f"namespaces.{name}"
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_.\-]*", name):
        raise refuse(key, "a namespace starts with a letter and has letters, digits, _ . - only")
    if not isinstance(body, Mapping):
        raise refuse(key, "must be a mapping such as {strength: device, priority: 10}")
    if unknown := sorted(set(map(str, body)) - _NAMESPACE_KEYS):
        raise refuse(f"{key}.{unknown[0]}", f"is not known; known are {', '.join(sorted(_NAMESPACE_KEYS))}")
    strength = body.get("strength")
    if strength not in STRENGTHS:
        raise refuse(f"{key}.strength", f"must be one of {', '.join(STRENGTHS)}")
    limit = body.get("limit")
    if limit is not None:
        limit = _positive(limit, f"{key}.limit", refuse)
        if strength not in ("unique", "strong") or (strength == "unique" and limit != 1):
            raise refuse(
                f"{key}.limit", "only strong namespaces have a limit of their own; unique always means 1"
            )
    normalize = body.get("normalize", "opaque")
    if normalize not in NORMALIZERS:
        raise refuse(f"{key}.normalize", f"must be one of {', '.join(NORMALIZERS)}")
    priority = body.get("priority", 100)
    if isinstance(priority, bool) or not isinstance(priority, int):
        raise refuse(f"{key}.priority", "must be a whole number; smaller is better")
    degree = body.get("max_degree")
    return Namespace(
        name=name,
        strength=strength,
        priority=priority,
        limit=limit,
        normalize=normalize,
        blocked_values=tuple(
            v.strip().lower() for v in _strings(body.get("blocked_values"), f"{key}.blocked_values", refuse)
        ),
        blocked_patterns=_patterns(body.get("blocked_patterns"), f"{key}.blocked_patterns", refuse),
        max_degree=None if degree is None else _positive(degree, f"{key}.max_degree", refuse),
    )


def _strings(value: Any, key: str, refuse: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(v is None or isinstance(v, str | int | float) for v in value):
        raise refuse(key, "must be a list of values")
    # YAML reads a bare null as no value; in this list it means the word.
    return tuple("null" if v is None else str(v) for v in value)


def _patterns(value: Any, key: str, refuse: Any) -> tuple[str, ...]:
    patterns = _strings(value, key, refuse)
    for p in patterns:
        try:
            re.compile(p)
        except re.error as e:
            raise refuse(key, f"{p!r} is not a regular expression: {e}") from None
    return patterns


def _positive(value: Any, key: str, refuse: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise refuse(key, "must be a whole number of at least 1")
    return value


def _positive_number(value: Any, key: str, refuse: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise refuse(key, "must be a number above 0")
    return float(value)
