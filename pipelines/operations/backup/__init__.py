"""Backups of a lake: restore points in a folder elsewhere, and a lake made from one of them."""
