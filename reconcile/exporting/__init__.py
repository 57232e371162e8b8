"""Published tables as files for others: Excel and CSV."""
