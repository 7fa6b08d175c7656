"""Whether a recipient may be written to: opt-outs, and the 24 hours after their own message.

`window` decides what becomes of a message outside those hours (pure), `store` holds the statements.
"""
