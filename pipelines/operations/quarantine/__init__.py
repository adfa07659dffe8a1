"""What was refused: looked at, and read again once its cause is gone."""
