"""Rows of features on their way to a solver: read in blocks, standardised."""
