"""Sends and receives WhatsApp messages for applications that live beside a Postgres."""

from importlib.metadata import version

__version__ = version("waemitter")
