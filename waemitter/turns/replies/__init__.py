"""What a handler says later than its turn."""
