"""Turns the identifiers of a record into nodes: sorted, each once, with flags for values that do not count."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any, NamedTuple

from conf.policy import LINKING, MAX_LINKING_IDENTIFIERS, NAMESPACE, Policy, unique_namespaces
from transforms.ingest.values.hashing import digest, node_ids
from transforms.ingest.values.normalize import WRONG_TYPE, Normalizer, number_text
from transforms.ingest.values.visible_text import visible

TOO_MANY = "too_many_identifiers"
NO_IDENTIFIER = "no_identifier"

_CACHE_SIZE = 100_000
_CACHED_LENGTH = 1024
_CHECK_EVERY = 1000
MAX_VALUES = 1000  # of one namespace, or of one actor; whoever sends more sends no identifiers
_NO_PRIORITY = 1_000_000


class TooMany(Exception):
    """The record has more values than anybody would read; refused without reading them."""


class Node(NamedTuple):
    """One identifier. Nodes sort by priority, then value, then namespace: that is what *best* means."""

    priority: int
    value: str
    namespace: str
    node_id: int
    strength: str
    tie_hash: int


_STRENGTH = Node._fields.index("strength")  # by place is twice as fast


# The nodes of one record, best first: those that link, the weak ones that attach to them, and the weak ones that are
# only recorded; and what no namespace knows. Only the first authenticate an event or anchor a session.
Subject = tuple[list[Node], list[Node], list[Node], dict[str, Any] | None]


class IdentifierReader:
    """Raw identifiers → nodes, by one policy and one key, with the last hundred thousand nodes cached."""

    def __init__(self, policy: Policy, key: bytes) -> None:
        self._node_id = node_ids(key)
        self._policy = policy
        self._normalizer = Normalizer(policy)
        self.strengths = {n.name: n.strength for n in policy.namespaces}
        self.unique = frozenset(unique_namespaces(policy))
        self._attaches = policy.weak_identifiers == "attach"
        # tenant → namespace → raw value → node: three small look-ups cost less than one with a key to build.
        self._known: dict[str, dict[str, dict[Any, Node]]] = {}
        self._known_count = 0

    def subject(self, tenant: str, identifiers: Any, flags: list[str], ip: Any = None) -> Subject:
        """The subject's nodes; what does not count is named in `flags`. At most one more node than may
        link.

        TooMany where there are more values than are read."""
        linking: list[Node] = []
        weak: list[Node] = []
        unknown: dict[str, Any] | None = None
        if type(identifiers) is not dict:
            if identifiers is not None:
                flags.append(WRONG_TYPE)
                unknown = identifiers
            identifiers = {}
        known, strengths = self._known_of(tenant), self.strengths
        is_repeatable = False
        if ip is not None and "ip_address" in strengths:
            is_repeatable = "ip_address" in identifiers or type(ip) is list
            node = known["ip_address"].get(ip) if type(ip) is str else None
            if node is not None:
                (weak if node[_STRENGTH] == "weak" else linking).append(node)
            else:
                self._add(tenant, "ip_address", ip, linking, weak, flags)
        for namespace, raw in identifiers.items():
            if type(raw) is str:
                values = known.get(namespace)
                node = None if values is None else values.get(raw)
                if node is not None:
                    (weak if node[_STRENGTH] == "weak" else linking).append(node)
                    continue
            elif raw is None:
                continue
            elif type(raw) is list:
                is_repeatable = True
            if namespace not in strengths:
                flags.append("unknown_namespace")
                unknown = {} if unknown is None else unknown
                unknown[namespace] = raw
                continue
            self._add(tenant, namespace, raw, linking, weak, flags)
        if is_repeatable:
            linking, weak = _once(linking), _once(weak)
        if len(linking) > 1:
            linking.sort()
        if len(weak) > 1:
            weak.sort()
        return (linking, weak, [], unknown) if self._attaches else (linking, [], weak, unknown)

    def actor(self, tenant: str, identifiers: Any) -> list[Node]:
        """Who acted for the subject: of any namespace, known or not. Nothing of it links, so nothing is
        flagged. TooMany where there are more values than are read."""
        if type(identifiers) is not dict or not identifiers:
            return []
        nodes: list[Node] = []
        for namespace, raw in identifiers.items():
            for value in _values(raw):
                node = self._actor_node(tenant, namespace, value)
                if node is not None:
                    nodes.append(node)
            if len(nodes) > MAX_VALUES and len(_once(nodes)) > MAX_VALUES:
                raise TooMany
        return sorted(_once(nodes)) if len(nodes) > 1 else nodes

    def recorded(self, tenant: str, unknown: dict[str, Any], flags: list[str]) -> list[Node]:
        """The subject's identifiers of namespaces that the policy does not know: they link nothing. At most as many as
        may link, of so many namespaces, and of each so many values."""
        nodes: list[Node] = []
        for namespace in sorted(unknown)[:MAX_LINKING_IDENTIFIERS]:
            raw = unknown[namespace]
            for value in raw[:MAX_LINKING_IDENTIFIERS] if type(raw) is list else (raw,):
                node = self._other_node(tenant, namespace, value)
                if node is not None:
                    nodes.append(node)
                elif value is not None and type(value) is not str:
                    flags.append(WRONG_TYPE)
        return sorted(_once(nodes))[:MAX_LINKING_IDENTIFIERS]

    def linking_node(self, tenant: str, namespace: Any, value: Any) -> Node | None:
        """The node of one identifier of a linking namespace; None for any other, and for what does not count."""
        if self.strengths.get(namespace) not in LINKING or value is None:
            return None
        node = self.node(tenant, namespace, value)
        return node if type(node) is Node else None

    def _add(
        self, tenant: str, namespace: str, raw: Any, linking: list[Node], weak: list[Node], flags: list[str]
    ) -> None:
        strength = self.strengths[namespace]
        if strength == "ignored":
            return
        target = weak if strength == "weak" else linking
        for value in _values(raw):
            if value is None:
                continue
            node = self.node(tenant, namespace, value)
            if type(node) is Node:
                target.append(node)
                if len(linking) % _CHECK_EVERY == 0 and len(_once(linking)) > MAX_LINKING_IDENTIFIERS:
                    return  # refused already; a list of a million values need not be read to its end
            else:
                flags.append(str(node))

    def node(self, tenant: str, namespace: str, raw: Any) -> Node | str:
        """The node of a value in a namespace of the policy, or the flag of one that does not count."""
        kind = type(raw)
        if kind is not str and kind is not int and kind is not float and kind is not Decimal:
            return WRONG_TYPE
        values = self._known_of(tenant)[namespace]
        node = values.get(raw)
        if node is not None:
            return node
        value, flag = self._normalizer.usable(raw, namespace)
        if value is None:
            return str(flag)
        spaces = self._policy.by_name[namespace]
        node = self._hashed(tenant, namespace, value, spaces.priority, spaces.strength)
        if kind is not str or len(raw) <= _CACHED_LENGTH:
            self._known_count += 1
            values[raw] = node
        return node

    def _known_of(self, tenant: str) -> dict[str, dict[Any, Node]]:
        found = self._known.get(tenant)
        if found is None or self._known_count >= _CACHE_SIZE:
            # A tenant counts as well, or a million of them with nothing known would fill the memory.
            if self._known_count >= _CACHE_SIZE:
                self._known, self._known_count = {}, 0
            self._known_count += 1 + len(self.strengths)
            found = self._known[tenant] = {namespace: {} for namespace in self.strengths}
        return found

    def _hashed(self, tenant: str, namespace: str, value: str, priority: int, strength: str) -> Node:
        # encode(), spelled out, for new identifiers are many.
        text = f"{len(tenant)}:{tenant}{len(namespace)}:{namespace}{len(value)}:{value}"
        identifier = text.encode("utf-8", "surrogatepass")
        return Node(priority, value, namespace, self._node_id(identifier), strength, digest(identifier))

    def _actor_node(self, tenant: str, namespace: str, raw: Any) -> Node | None:
        if namespace in self.strengths:
            node = None if raw is None else self.node(tenant, namespace, raw)
            return node if type(node) is Node else None
        return self._other_node(tenant, namespace, raw)

    def _other_node(self, tenant: str, namespace: str, raw: Any) -> Node | None:
        """The node of a value in a namespace that the policy does not know; None for what is no name and value."""
        text = raw if type(raw) is str else None if type(raw) is bool else _number(raw)
        text = None if text is None else visible(text)
        if not text or len(text) > self._policy.max_value_length or not NAMESPACE.fullmatch(namespace):
            return None
        return self._hashed(tenant, namespace, text, _NO_PRIORITY, "recorded")


def _values(raw: Any) -> Iterable[Any]:
    """The values of a namespace: one, or a list of them, in which what is repeated often is read once."""
    if type(raw) is not list:
        return (raw,)
    if len(raw) <= MAX_VALUES:
        return raw
    distinct: dict[Any, Any] = {}
    for value in raw:
        distinct.setdefault(
            (type(value), value if isinstance(value, str | int | float | Decimal) else None), value
        )
        if len(distinct) > MAX_VALUES:
            raise TooMany
    return distinct.values()


def _number(raw: Any) -> str | None:
    return number_text(raw) if isinstance(raw, int | float | Decimal) else None


def _once(nodes: list[Node]) -> list[Node]:
    """Each identifier once; also one whose node id is another one's."""
    return list({(node.node_id, node.tie_hash): node for node in nodes}.values())
