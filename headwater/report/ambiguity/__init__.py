"""What was noticed of ambiguous labels, asked and settled, as one page that a person can read."""
