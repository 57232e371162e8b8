"""Reconciles Vonage SMS records with captured delivery receipts."""

__version__ = "0.1.0"
