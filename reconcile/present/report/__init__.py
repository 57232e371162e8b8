"""The report: one HTML file that needs no network, made from the small tables alone."""
