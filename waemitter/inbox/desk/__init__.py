"""Chatwoot as a source: what customers and agents write there, and who has which conversation."""
