"""The bank: from a list of head specs to trained heads, sharing rows, statistics and stacks."""
