"""What `make cuda-report` is made of.

Nothing here needs a GPU: `occupancy` is arithmetic, `objects` reads what nvcc has built, `launches`
has the work that is counted, by `count` in the PTX interpreter, and `page` writes it all down.
"""
