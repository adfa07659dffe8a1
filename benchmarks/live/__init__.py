"""What the questions about a running stream share: a world, a producer, the stream's process, a reader, an oracle."""
