"""The lake's tables: made, written by one of two engines, compacted, and read as one published state."""
