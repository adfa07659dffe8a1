"""The lake on disk: tables, snapshots, locks, keys, views. Imports `runtime` and the rules, no room above."""
