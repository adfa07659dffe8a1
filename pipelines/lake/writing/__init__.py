"""Writes the lake's tables: two engines behind one interface, compaction, and taking back what was not published."""
