"""What messages leave by: a number's Graph API, or a Chatwoot inbox."""
