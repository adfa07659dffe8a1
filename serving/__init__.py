"""A thin HTTP interface over the same tables that the pipelines write."""
