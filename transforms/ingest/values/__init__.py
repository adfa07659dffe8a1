"""Single values: instants, identifiers, JSON texts, hashes."""
