"""Labels that do not say which feature is meant: noticing it, the few questions that settle it, and settling.

Works on arrays alone; reading data sets, extraction and submissions are `headwater.ambiguity`'s business.
"""
