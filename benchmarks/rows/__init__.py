"""The step on the rows that a gradient names, against torch's."""
