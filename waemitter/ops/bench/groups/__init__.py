"""A group of bars is a file: what is measured, in which order, and the rows that the table has of it.

A new one: a class that is a `Group`, its amounts as fields of `Plan`, and its place in `GROUPS` (suite.py).
"""
