"""How well malignancy is told."""
