"""What decides a node id apart from the policy and the key: rules and tables that a new version may change.

A lake records these facts with every batch (`ops.batches.identifier_rules`). Where they change, the same identifier may
become another node, so the lake has to be rebuilt.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from dataclasses import asdict

import phonenumbers

from conf.email_providers import email_providers
from conf.policy import Policy

# The number of the rules by which values are brought to one spelling and hashed (transforms/ingest/values/normalize.py,
# visible_text.py, written_number.py, hashing.py). Raise it with every change after which any value has another
# spelling or another node; a test holds answers and number together. A lake of before the number was recorded has none.
RULES = "1"
UNICODE = "unicode"


def identifier_rules(policy: Policy) -> dict[str, str]:
    """The facts by name, as far as the policy's namespaces depend on them."""
    facts = {"rules": RULES, UNICODE: unicodedata.unidata_version}
    if any(n.normalize == "phone" for n in policy.namespaces):
        facts["phonenumbers"] = phonenumbers.__version__
    if any(n.email_providers for n in policy.namespaces):
        table = {domain: asdict(provider) for domain, provider in email_providers().items()}
        text = json.dumps(table, sort_keys=True)
        facts["email_providers"] = hashlib.sha256(text.encode()).hexdigest()[:16]
    return facts
