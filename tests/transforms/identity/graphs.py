"""Small identity graphs, written as names: `u1 d1` is a pair of a user id and a device id."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from conf.policy import Policy, policy_from_dict
from tests.transforms.identity.test_resolve import POLICY, tie_hash
from transforms.identity.evidence import Evidence
from transforms.identity.nodes import Nodes, new_nodes

LETTERS = {
    "u": "user_id",
    "e": "email",
    "d": "device_id",
    "c": "cookie_id",
    "b": "browser_id",
    "i": "ip_address",
}
# The resolver's test policy with weak identifiers that attach: a browser may have met two e-mail addresses.
ATTACHING = policy_from_dict(
    {
        "namespaces": {
            "user_id": {"strength": "unique", "priority": 1},
            "email": {"strength": "strong", "limit": 5, "priority": 2, "attach_limit": 2},
            "device_id": {"strength": "device", "priority": 10, "attach_limit": 1},
            "cookie_id": {"strength": "device", "priority": 11},
            "browser_id": {"strength": "weak"},
            "ip_address": {"strength": "weak"},
        },
        "max_degree": 6,
        "weak_identifiers": "attach",
    }
)


class Pair(NamedTuple):
    """One pair of names with its support."""

    names: str
    count: int = 1
    first_seen: int = 0
    kind: int = 0


class Graph:
    """`nodes` and `pairs` as the rules take them. Ids are given in the order of `names`, hashes by name alone."""

    def __init__(
        self, pairs: Iterable[Pair | str], names: Sequence[str] = (), policy: Policy = POLICY
    ) -> None:
        given = [pair if isinstance(pair, Pair) else Pair(pair) for pair in pairs]
        self.policy = policy
        self.names = list(dict.fromkeys([*names, *(word for pair in given for word in pair.names.split())]))
        self._id = {name: 10 * (place + 1) for place, name in enumerate(self.names)}
        code = {namespace.name: number for number, namespace in enumerate(policy.namespaces)}
        self.nodes = new_nodes(
            self.ids(*self.names),
            np.zeros(len(self.names), np.int16),
            np.array([code[LETTERS[name[0]]] for name in self.names], np.int16),
            np.array([tie_hash(name) for name in self.names], np.int64),
        )
        ends = np.array([sorted(self.ids(*pair.names.split()).tolist()) for pair in given], np.int64).reshape(
            -1, 2
        )
        counts, first, kinds = (np.array([pair[field] for pair in given], np.int64) for field in (1, 2, 3))
        self.pairs = Evidence(
            ends[:, 0], ends[:, 1], np.zeros(len(given), np.int32), kinds, counts, first, first
        )

    def ids(self, *names: str) -> np.ndarray:
        return np.array([self._id[name] for name in names], np.int64)

    def named(self, ids: np.ndarray) -> list[str]:
        """The names of `ids`; "" for 0."""
        name_of = {0: "", **{number: name for name, number in self._id.items()}}
        return [name_of[number] for number in ids.tolist()]

    def marked(self, shared: str = "", hubs: str = "") -> Nodes:
        """The nodes, with those named in `shared` and `hubs` marked; a hub is shared."""
        is_hub = np.array([name in hubs.split() for name in self.names])
        is_shared = np.array([name in shared.split() for name in self.names]) | is_hub
        return replace(self.nodes, is_shared=is_shared, is_hub=is_hub)
