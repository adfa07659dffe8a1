"""Processes and engines: Spark sessions, jars, Java, Python workers, memory, GraphFrames. Imports no room above."""
