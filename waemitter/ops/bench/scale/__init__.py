"""What only size or time shows: a long backlog, many finished rows, a transaction that stays open, an hour of work.

Each is a program for itself, with a size and a time that are asked for; none has a bar in the table, since nobody waits for
a table for hours. docs/guarantees.md has the figures.
"""
