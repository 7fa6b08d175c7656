"""A WhatsApp Cloud API on localhost, faithful enough to be believed.

It shares nothing with the rest of this distribution, so it cannot share a misreading of Meta's
documents either: whatever it and a sender agree on, two readers found there.
"""

from waemitter.simulator.ledger import Ledger, Row
from waemitter.simulator.options import Options
from waemitter.simulator.server import Simulator

__all__ = ["Ledger", "Options", "Row", "Simulator"]
