"""A Spark cluster as judging's second engine: the same expressions, by many machines."""
