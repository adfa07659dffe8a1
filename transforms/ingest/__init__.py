"""From bytes to rows of events: framing, mapping, parsing, normalising, hashing, duplicates. Imports `arrays`."""
