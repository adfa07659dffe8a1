"""Requests: work on a lake that only its one writer may do, whoever asks for it."""
