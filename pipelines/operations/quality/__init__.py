"""The quality job, and the gate that other jobs ask."""
