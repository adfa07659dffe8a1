"""Row rules, quarantine reasons, table checks and conservation."""
