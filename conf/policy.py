"""The identity policy: which identifiers link persons, how strongly, and which values never count.

A policy is a YAML file that a user edits; `load_policy` turns it into frozen dataclasses or refuses with the file,
the key, what is wrong and the way out. docs/policy.md explains every key.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

from phonenumbers import SUPPORTED_REGIONS

from conf import checks
from conf.blocked import BlockedValue, shipped_blocked
from conf.checks import Refuse
from conf.errors import UserMistake
from conf.yaml_file import YamlProblem, read_yaml

STRENGTHS = ("unique", "strong", "device", "weak", "ignored")
LINKING = ("unique", "strong", "device")
NAMESPACE = re.compile(r"[A-Za-z][A-Za-z0-9_.\-]{0,511}")  # what may be the name of one
NORMALIZERS = ("opaque", "email", "phone", "hex", "uuid", "wallet")
SHARED_IDENTIFIER = ("strongest_owner", "own_profile")
ANONYMOUS_ON_SHARED_DEVICE = ("until_shared", "session_bounded", "last_login", "device_profile")
WEAK_IDENTIFIERS = ("never", "attach")
MAX_LINKING_IDENTIFIERS = 50
RULES = 2  # raised when the same policy gives other persons, sessions or owners than before; lakes are then rebuilt
RESERVED = ("unclaimed",)  # what the identity map calls the node of sessions that are nobody's
POLICY_FOLDER = files("conf") / "policies"  # not a path: the package may be a zipped wheel


class PolicyError(UserMistake):
    """A policy file that cannot be used; the message says file, key, problem and way out."""


@dataclass(frozen=True)
class Namespace:
    """One kind of identifier.

    `limit`: how many values one person may have (None: any number). `attach_limit`: how many of them a weak
    identifier may have been seen with and still be attached (None: as many as a person may have). `attaches`: weak,
    and linked for as long as that fits (`weak_identifiers: attach`).
    """

    name: str
    strength: str
    priority: int
    limit: int | None = None
    normalize: str = "opaque"
    email_providers: bool = False
    phone_region: str | None = None
    blocked: tuple[BlockedValue, ...] = ()
    max_degree: int | None = None
    attach_limit: int | None = None
    attaches: bool = False

    @property
    def is_linking(self) -> bool:
        """Whether identifiers of this namespace may join persons."""
        return self.strength in LINKING

    @property
    def is_personal(self) -> bool:
        """Whether a value of it can be one person's own, so that who is named by it is meant."""
        return self.strength in ("unique", "strong")

    @property
    def value_limit(self) -> int | None:
        """How many values of it one person may have: 1 for unique, `limit` for strong, any number otherwise."""
        return 1 if self.strength == "unique" else self.limit

    @property
    def company_limit(self) -> int | None:
        """How many values of it an attached weak identifier may have been seen with."""
        return self.value_limit if self.attach_limit is None else self.attach_limit


@dataclass(frozen=True)
class Policy:
    """The whole policy. `namespaces` is ordered by (priority, name); a namespace's code is its place there."""

    namespaces: tuple[Namespace, ...]
    blocked: tuple[BlockedValue, ...] = ()
    max_degree: int = 1000
    shared_identifier: str = "strongest_owner"
    anonymous_on_shared_device: str = "until_shared"
    weak_identifiers: str = "never"
    session_gap_minutes: float = 30.0
    max_value_length: int = 512
    default_phone_region: str | None = None
    origin: str = field(default="", compare=False)

    @cached_property
    def by_name(self) -> dict[str, Namespace]:
        """The namespaces by name."""
        return {n.name: n for n in self.namespaces}

    @cached_property
    def fingerprint(self) -> str:
        """Of all that decides what becomes of an event: the policy, and the rules that it is read by."""
        facts = asdict(self) | {"rules": RULES}
        facts.pop("origin")
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


_NAMESPACE_KEYS = (
    "strength", "priority", "limit", "normalize", "blocked_values", "blocked_patterns", "max_degree", "attach_limit",
)  # fmt: skip
_POLICY_KEYS = (
    "description", "namespaces", "blocked_values", "blocked_values_replace", "blocked_patterns", "max_degree",
    "shared_identifier", "anonymous_on_shared_device", "weak_identifiers", "session_gap_minutes", "max_value_length",
    "default_phone_region",
)  # fmt: skip
_NORMALIZE_OPTIONS = {"email": ("kind", "providers"), "phone": ("kind", "region")}


def shipped_policies() -> tuple[str, ...]:
    """The names of the policies that come with the program."""
    names = (f.name for f in POLICY_FOLDER.iterdir())
    return tuple(sorted(n.removesuffix(".yaml") for n in names if n.endswith(".yaml")))


def load_policy(path: Path | str | None = None) -> Policy:
    """The policy in `path`, or one shipped in conf/policies by its bare name, or the default one."""
    file = POLICY_FOLDER / "default.yaml" if path is None else Path(path)
    if path is not None and not file.is_file() and str(path) in shipped_policies():
        file = POLICY_FOLDER / f"{path}.yaml"
    try:
        raw = read_yaml(file)
    except FileNotFoundError:
        raise PolicyError(
            f"policy file {file} does not exist; give --policy an existing YAML file, "
            f"or one of the shipped policies: {', '.join(shipped_policies())}"
        ) from None
    except YamlProblem as e:
        raise PolicyError(f"policy file {file}{e}") from None
    return policy_from_dict(raw, str(file))


def unique_namespaces(policy: Policy) -> tuple[str, ...]:
    """The policy's unique namespaces, best first, where there are several.

    Where there is only one, an event's user is enough, and claims do not repeat it.
    """
    unique = tuple(n.name for n in policy.namespaces if n.strength == "unique")
    return unique if len(unique) > 1 else ()


def policy_from_dict(raw: Any, origin: str = "policy") -> Policy:
    """A validated Policy from parsed YAML. PolicyError names the key and what is allowed there."""

    def refuse(key: str, problem: str) -> PolicyError:
        return PolicyError(f"{origin}: {key}: {problem}")

    if not isinstance(raw, Mapping):
        raise refuse("(top)", "must be a mapping with the key `namespaces`")
    raw = {str(k): v for k, v in raw.items()}
    checks.only_known(raw, _POLICY_KEYS, "", refuse)
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
        return checks.one_of(raw.get(key, allowed[0]), allowed, key, refuse)

    weak_identifiers = one_of("weak_identifiers", WEAK_IDENTIFIERS)
    if weak_identifiers == "attach":
        parsed = _with_attached(parsed, refuse)
    replaces = checks.boolean(raw.get("blocked_values_replace", False), "blocked_values_replace", refuse)
    region = raw.get("default_phone_region")
    return Policy(
        namespaces=tuple(sorted(parsed, key=lambda n: (n.priority, n.name))),
        blocked=(*(() if replaces else shipped_blocked()), *_blocked(raw, "", refuse)),
        max_degree=checks.whole_number(raw.get("max_degree", 1000), "max_degree", refuse, least=1),
        shared_identifier=one_of("shared_identifier", SHARED_IDENTIFIER),
        anonymous_on_shared_device=one_of("anonymous_on_shared_device", ANONYMOUS_ON_SHARED_DEVICE),
        weak_identifiers=weak_identifiers,
        session_gap_minutes=checks.positive_number(
            raw.get("session_gap_minutes", 30), "session_gap_minutes", refuse
        ),
        max_value_length=checks.whole_number(
            raw.get("max_value_length", 512), "max_value_length", refuse, least=1
        ),
        default_phone_region=None if region is None else _region(region, "default_phone_region", refuse),
        origin=origin,
    )


def _namespace(name: str, body: Any, refuse: Refuse) -> Namespace:
    key = f"namespaces.{name}"
    if not NAMESPACE.fullmatch(name):
        raise refuse(key, "a namespace starts with a letter and has letters, digits, _ . - only")
    if name in RESERVED:
        raise refuse(key, "is a name of the program's own; give the namespace another one")
    body = checks.mapping(body, key, refuse, "{strength: device, priority: 10}")
    checks.only_known(body, _NAMESPACE_KEYS, f"{key}.", refuse)
    strength = checks.one_of(body.get("strength"), STRENGTHS, f"{key}.strength", refuse)
    limit = body.get("limit")
    if limit is not None:
        limit = checks.whole_number(limit, f"{key}.limit", refuse, least=1)
        if strength not in ("unique", "strong") or (strength == "unique" and limit != 1):
            raise refuse(
                f"{key}.limit",
                "only strong namespaces have a limit of their own; unique always means 1, others have none: "
                "remove it, or make the namespace strong",
            )
    attach_limit = body.get("attach_limit")
    if attach_limit is not None:
        attach_limit = checks.whole_number(attach_limit, f"{key}.attach_limit", refuse, least=1)
        if strength not in LINKING:
            raise refuse(
                f"{key}.attach_limit",
                "says how many values of a linking namespace a weak identifier may be seen with; "
                "put it on that namespace",
            )
    degree = body.get("max_degree")
    # Of the identifiers of an event the better ones come first; what does not link comes last.
    priority = body.get("priority", 100 if strength in LINKING else 1000)
    return Namespace(
        name=name,
        strength=strength,
        priority=checks.whole_number(priority, f"{key}.priority", refuse),
        limit=limit,
        **_normalizer(body.get("normalize", "opaque"), f"{key}.normalize", refuse),
        blocked=_blocked(body, f"{key}.", refuse),
        max_degree=None if degree is None else checks.whole_number(degree, f"{key}.max_degree", refuse, 1),
        attach_limit=attach_limit,
    )


def _normalizer(value: Any, key: str, refuse: Refuse) -> dict[str, Any]:
    """`email`, or `{kind: email, providers: true}`."""
    options = {"kind": value} if isinstance(value, str) else value
    options = checks.mapping(
        options, key, refuse, "{kind: email, providers: true}, or one word such as email"
    )
    kind = checks.one_of(options.get("kind"), NORMALIZERS, key, refuse)
    checks.only_known(options, _NORMALIZE_OPTIONS.get(kind, ("kind",)), f"{key}.", refuse)
    region = options.get("region")
    return {
        "normalize": kind,
        "email_providers": checks.boolean(options.get("providers", False), f"{key}.providers", refuse),
        "phone_region": None if region is None else _region(region, f"{key}.region", refuse),
    }


def _with_attached(namespaces: list[Namespace], refuse: Refuse) -> list[Namespace]:
    """The weak ones marked as attaching. They are believed last, so their priority has to say so."""
    last = max(n.priority for n in namespaces if n.is_linking)
    for n in namespaces:
        if n.strength == "weak" and n.priority <= last:
            raise refuse(
                f"namespaces.{n.name}.priority",
                f"must be more than {last}, the last of the linking ones, for an attached weak identifier is "
                "believed last; raise it or leave it out",
            )
    return [replace(n, attaches=n.strength == "weak") for n in namespaces]


def _blocked(body: Mapping[str, Any], prefix: str, refuse: Refuse) -> tuple[BlockedValue, ...]:
    """The user's entries: a plain value holds in any case, `{value: NaN, case: exact}` as it stands."""
    key = f"{prefix}blocked_values"
    listed = body.get("blocked_values") or []
    if not isinstance(listed, list):
        raise refuse(key, "must be a list of values, such as [guest, test]")
    entries = []
    for item in listed:
        any_case = True
        if isinstance(item, Mapping):
            checks.only_known(map(str, item), ("value", "case"), f"{key}.", refuse)
            any_case = (
                checks.one_of(item.get("case", "any"), ("any", "exact"), f"{key}.case", refuse) == "any"
            )
            item = item.get("value", "")
        (value,) = checks.text_list([item], key, refuse)
        entries.append(BlockedValue(value=value.strip(), any_case=any_case, sources=("policy",)))
    patterns = checks.pattern_list(body.get("blocked_patterns"), f"{prefix}blocked_patterns", refuse)
    return (*entries, *(BlockedValue(pattern=p, sources=("policy",)) for p in patterns))


def _region(value: Any, key: str, refuse: Refuse) -> str:
    if value not in SUPPORTED_REGIONS:
        raise refuse(
            key, "must be a two-letter country code such as DE, in capitals and in quotes (NO means no)"
        )
    return str(value)
