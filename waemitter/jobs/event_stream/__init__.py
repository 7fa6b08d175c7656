"""What happened here, told to systems elsewhere as CloudEvents 1.0.

    event       an event and its JSON (pure)
    delivery    what became of a delivery, and when to try again (pure)
    store       the subscriptions, and the rows that wait for them
    deliverer   one subscription's rows, drained by the loop that drains all tables
    targets     webhooks, NATS and Kafka

The rows are written by triggers of schema.sql, in the transaction of the change.
"""
