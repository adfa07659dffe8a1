"""A policy is data; a wrong one says where, what and the way out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from conf.policy import PolicyError, load_policy, policy_from_dict, shipped_policies

USER = "user_id: {strength: unique, priority: 1}"


def refusal(tmp_path: Path, text: str) -> str:
    file = tmp_path / "mine.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(PolicyError) as error:
        load_policy(file)
    said = str(error.value)
    assert "mine.yaml" in said
    assert "\n" not in said
    return said


@pytest.mark.parametrize("name", shipped_policies())
def test_shipped_policies_load_by_their_bare_names(name):
    policy = load_policy(name)
    assert policy.by_name["user_id"].strength == "unique"
    assert policy.origin.endswith(f"{name}.yaml")


def test_default_strict_and_attaching_are_shipped():
    assert set(shipped_policies()) >= {"default", "strict_weak", "attach_weak"}


def test_the_example_of_the_contract_is_a_policy():
    policy = policy_from_dict(
        {
            "namespaces": {
                "user_id": {"strength": "unique", "priority": 1},
                "email": {"strength": "strong", "limit": 5, "priority": 2, "normalize": "email"},
                "phone": {"strength": "strong", "limit": 5, "priority": 3, "normalize": "phone"},
                "device_id": {"strength": "device", "priority": 10},
                "ip_address": {"strength": "weak"},
            },
            "blocked_values": ["anonymous", "null", "undefined"],
            "blocked_patterns": ["^[0-]*$"],
            "max_degree": 1000,
            "shared_identifier": "strongest_owner",
            "anonymous_on_shared_device": "until_shared",
            "session_gap_minutes": 30,
        }
    )
    assert [n.name for n in policy.namespaces] == ["user_id", "email", "phone", "device_id", "ip_address"]
    assert not any(n.attaches for n in policy.namespaces)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("namespaces: [a]", "namespaces: must name at least one"),
        ("42", "must be a mapping"),
        ("namespaces: {x: {strength: weak}}", "none of them links"),
        ("namespaces: {a: {strength: strongly}}", "namespaces.a.strength: must be one of unique, strong"),
        ("namespaces: {a: {}}", "namespaces.a.strength: must be one of"),
        ("namespaces: {a: unique}", "namespaces.a: must be a mapping such as {strength"),
        ("namespaces: {9a: {strength: unique}}", "namespaces.9a: a namespace starts with a letter"),
        ("namespaces: {unclaimed: {strength: unique}}", "give the namespace another one"),
        (f"namespaces: {{{USER}}}\nmax_degre: 3", "max_degre: is not known; did you mean max_degree?"),
        (
            "namespaces: {a: {strength: unique, prority: 1}}",
            "namespaces.a.prority: is not known; did you mean prio",
        ),
        ("namespaces: {a: {strength: device, limit: 3}}", "namespaces.a.limit: only strong namespaces have"),
        ("namespaces: {a: {strength: unique, limit: 2}}", "unique always means 1"),
        (
            "namespaces: {a: {strength: strong, limit: 0}}",
            "namespaces.a.limit: must be a whole number of at least 1",
        ),
        (
            "namespaces: {a: {strength: strong, limit: true}}",
            "namespaces.a.limit: must be a whole number of at least 1",
        ),
        (
            "namespaces: {a: {strength: strong, priority: high}}",
            "namespaces.a.priority: must be a whole number",
        ),
        (
            "namespaces: {a: {strength: strong, max_degree: x}}",
            "namespaces.a.max_degree: must be a whole number",
        ),
        (
            "namespaces: {a: {strength: strong, normalize: mail}}",
            "namespaces.a.normalize: must be one of opaque",
        ),
        (
            "namespaces: {a: {strength: strong, normalize: {kind: phone, providers: true}}}",
            "namespaces.a.normalize.providers: is not known; known are kind, region",
        ),
        (
            "namespaces: {a: {strength: strong, normalize: {kind: phone, region: Germany}}}",
            "namespaces.a.normalize.region: must be a two-letter country code",
        ),
        (
            "namespaces: {a: {strength: strong, normalize: {kind: email, providers: gmail}}}",
            "namespaces.a.normalize.providers: must be true or false",
        ),
        (
            f"namespaces: {{{USER}, w: {{strength: weak, attach_limit: 1}}}}",
            "put it on that namespace",
        ),
        (
            f"namespaces: {{{USER}, w: {{strength: weak, priority: 1}}}}\nweak_identifiers: attach",
            "namespaces.w.priority: must be more than 1",
        ),
        (
            f"namespaces: {{{USER}}}\nweak_identifiers: often",
            "weak_identifiers: must be one of never, attach",
        ),
        (
            f"namespaces: {{{USER}}}\nshared_identifier: x",
            "shared_identifier: must be one of strongest_owner",
        ),
        (
            f"namespaces: {{{USER}}}\nanonymous_on_shared_device: x",
            "anonymous_on_shared_device: must be one of until",
        ),
        (
            f"namespaces: {{{USER}}}\nsession_gap_minutes: 0",
            "session_gap_minutes: must be a number above 0",
        ),
        (
            f"namespaces: {{{USER}}}\nsession_gap_minutes: .inf",
            "session_gap_minutes: must be a number above 0",
        ),
        (
            f"namespaces: {{{USER}}}\nmax_value_length: 0",
            "max_value_length: must be a whole number of at least 1",
        ),
        (f"namespaces: {{{USER}}}\ndefault_phone_region: NO", "in quotes (NO means no)"),
        (f"namespaces: {{{USER}}}\ndefault_phone_region: ZZ", "must be a two-letter country code"),
        (f"namespaces: {{{USER}}}\nblocked_values: guest", "blocked_values: must be a list"),
        (
            f"namespaces: {{{USER}}}\nblocked_values: [{{value: x, case: lower}}]",
            "blocked_values.case: must be one of any, exact",
        ),
        (f"namespaces: {{{USER}}}\nblocked_values_replace: 'no'", "blocked_values_replace: must be true or"),
        (f"namespaces: {{{USER}}}\nblocked_patterns: ['(']", "blocked_patterns: '(' is not a regular"),
        (
            "namespaces: {a: {strength: device, blocked_patterns: ['[']}}",
            "namespaces.a.blocked_patterns: '[' is not a",
        ),
        ("namespaces: {a: {strength: unique}\n", "is not readable YAML"),
        (
            "namespaces:\n  a: {strength: unique}\n  a: {strength: weak}",
            "line 3: a: is there twice; keep one of them",
        ),
    ],
)
def test_a_wrong_policy_says_file_key_problem_and_way_out(tmp_path, text, said):
    assert said in refusal(tmp_path, text)


def test_a_missing_policy_names_the_shipped_ones():
    with pytest.raises(PolicyError, match=r"nowhere\.yaml does not exist.*attach_weak, default, strict_weak"):
        load_policy("nowhere.yaml")


def test_a_fingerprint_is_the_same_in_every_process_and_another_for_every_change():
    code = "from conf.policy import load_policy as l; print(l().fingerprint)"
    found = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }
    assert found == {load_policy().fingerprint + "\n"}
    base = {"namespaces": {"a": {"strength": "unique"}, "w": {"strength": "weak"}}}
    changes = [
        {},
        {"weak_identifiers": "attach"},
        {"blocked_values": ["x"]},
        {"blocked_values": [{"value": "x", "case": "exact"}]},
        {"blocked_values_replace": True},
        {"max_degree": 7},
        {"default_phone_region": "DE"},
        {
            "namespaces": {
                "a": {"strength": "unique", "normalize": {"kind": "email", "providers": True}},
                "w": {"strength": "weak"},
            }
        },
    ]
    assert len({policy_from_dict(base | change).fingerprint for change in changes}) == len(changes)


def test_where_a_policy_was_read_from_does_not_change_it():
    raw = {"namespaces": {"a": {"strength": "unique"}}}
    assert policy_from_dict(raw, "here").fingerprint == policy_from_dict(raw, "there").fingerprint
