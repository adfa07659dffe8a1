"""Sessions, their owners, and the profiles of persons. May import `identity`, `ingest` and `arrays`."""
