"""The ways to answer a turn; each is a `Handler`, and none of them sends."""
