"""A closed buffer becomes replies: a worker, routes, and handlers that never send."""
