"""One micro-batch: from received records to a published state of every table."""
