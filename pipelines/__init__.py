"""The shell: sessions, tables, streams and jobs. All reading, writing, clocks and arguments."""
