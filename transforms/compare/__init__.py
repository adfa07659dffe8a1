"""Comparisons of derived tables. May import `identity`, `ingest` and `arrays`."""
