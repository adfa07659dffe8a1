"""Reads a record by its source mapping."""
