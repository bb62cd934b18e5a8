"""Bounds that every part of this package keeps to alike; those that one part alone has are its own."""

FEWEST = 5
"""Rows: what fewer of them have in common may be chance."""
WORSE = 0.05
"""How much more often than the best a reading may err on labeled rows."""
