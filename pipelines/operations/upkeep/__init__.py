"""Upkeep: few files, short logs, old batches let go, old records archived; beside a running stream."""
