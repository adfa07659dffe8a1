"""One stream: sources, topics, checkpoint, and the batch. Imports `state` and `lake`."""
