"""The handler `sql`: a function of yours, in the database."""

from waemitter.turns.handlers.sql.handler import Sql

__all__ = ["Sql"]
