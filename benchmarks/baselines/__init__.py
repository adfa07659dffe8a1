"""Other ways to do the same work, for comparison: a DuckDB script, the pipeline of a textbook, graph solvers."""
