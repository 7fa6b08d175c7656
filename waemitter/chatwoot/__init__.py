"""Chatwoot's language: what its webhooks say, how they are signed, and its API.

Facts are from Chatwoot's source and documentation: https://developers.chatwoot.com, app/builders/messages/message_builder.rb,
app/finders/message_finder.rb, app/models/message.rb.
"""

from typing import Final

FROM_CUSTOMER: Final = "from_customer"
"""The key of a row's payload that is ours: a customer wrote it elsewhere, and it comes into Chatwoot as his."""

TRANSCRIPT: Final = "transcript"
"""The type of a row that is a private note: what was said before people got the conversation."""
