"""The harness: several ways of doing the same work, timed side by side in one process."""
