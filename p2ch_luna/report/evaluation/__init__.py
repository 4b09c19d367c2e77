"""The score of submissions."""
