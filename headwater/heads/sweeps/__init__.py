"""Sweeps: which settings are tried, on which folds they are judged, what is kept, what each rule picks."""
