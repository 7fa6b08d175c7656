"""One message to many: recipients read and checked, written into the outbox in bulk, and counted to the end."""
