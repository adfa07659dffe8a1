"""Quarantine: lists refused records, and replays them once the cause is repaired."""
