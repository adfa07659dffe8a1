"""What a benchmark hands over, the targets it is judged by, and the tables and pages that are made of the figures."""
