"""The driver's memory of published tables: rebuilt from Delta, changed only after a batch is published."""
