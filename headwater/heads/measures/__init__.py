"""Measures of heads: accuracies by group, scores, worst groups, intervals; no training and no files."""
