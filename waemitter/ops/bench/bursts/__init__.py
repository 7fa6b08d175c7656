"""Customers who write in bursts, and a service that answers each burst once."""
