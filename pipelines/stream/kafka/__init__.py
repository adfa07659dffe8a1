"""Kafka topics as sources: where they are, from which offsets they are read, and what can go wrong with a broker."""
