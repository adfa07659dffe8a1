"""Measurements of the product: who is found, at what cost, beside what simpler methods find."""
