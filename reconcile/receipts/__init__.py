"""Captured delivery receipts: read as they are, once, with nothing lost and nothing guessed."""
