"""Where events go. Each target is a module that is imported when a subscription names it; NATS and Kafka are extras."""
