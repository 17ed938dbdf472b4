"""Exported tasks, run from Python: one file for each kind of verb."""
