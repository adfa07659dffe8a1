"""Comparisons of derived tables. Imports `ingest` and `arrays`."""
