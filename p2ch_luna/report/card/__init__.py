"""A model's card for people."""
