"""The thresholded step against torch's operations."""
