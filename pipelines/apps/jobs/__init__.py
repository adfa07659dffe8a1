"""Jobs that a cluster runs: each file works by itself under spark-submit, and as a task of a Databricks job.

`main(argv)` reads arguments and settings and returns an exit code, `run(spark, settings, …)` does the work in the
session it is given, `task()` is for schedulers that look at exceptions and not at exit codes.
"""
