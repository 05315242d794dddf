"""Scenario files (one per id) and lab worlds: data only."""
