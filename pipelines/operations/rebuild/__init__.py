"""Derives all tables again from bronze under a policy, compares, and publishes the difference as one batch."""
