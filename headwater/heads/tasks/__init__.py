"""Labels, groups and splits as codes, checked before any work."""
