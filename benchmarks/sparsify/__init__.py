"""Making weights zero, against torch's idioms."""
