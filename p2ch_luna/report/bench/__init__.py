"""How fast a diagnosis is."""
