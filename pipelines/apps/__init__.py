"""What users start: command line, jobs, SQL server, demo, notebooks. May import every other room."""
