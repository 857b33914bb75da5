"""Training on several processes behind a slow network: the time of an iteration, and its worth.

The ranks are processes of one machine. As root each is put into a network namespace of its own, and
the link between each and the bridge that joins them is limited in both directions.
"""
