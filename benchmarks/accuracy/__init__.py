"""How right the persons are, against the truth of the generator and beside simpler methods."""
