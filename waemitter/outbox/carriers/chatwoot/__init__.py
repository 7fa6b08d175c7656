"""Messages into conversations of Chatwoot."""
