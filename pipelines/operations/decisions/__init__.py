"""Manual decisions: put on record, applied, listed, explained."""
