"""Cuts files into records."""
