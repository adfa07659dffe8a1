"""Large lakes made by copying, and batches on them in this process, without a JVM."""
