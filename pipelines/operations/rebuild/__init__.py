"""Everything derived, computed again from bronze under a given policy, and published as one batch."""
