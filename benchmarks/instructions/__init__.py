"""How many instructions the hot calls take: what can be watched where time cannot."""
