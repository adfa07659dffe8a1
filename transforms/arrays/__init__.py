"""Arrays of integers, groups of rows, conversions between Arrow and numpy. Imports no other room."""
