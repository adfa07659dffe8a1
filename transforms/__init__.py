"""Pure rules: frames, rows and policies in, frames and rows out. No reading, writing, clock or session."""
