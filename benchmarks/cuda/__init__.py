"""All of these on a GPU, against torch's and apex's."""
