"""Upkeep: joins small files, shortens logs, removes old versions, archives old records, while a stream may run."""
