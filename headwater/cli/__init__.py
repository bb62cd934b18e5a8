"""The command line: one file per sub-command; nothing here computes anything."""
