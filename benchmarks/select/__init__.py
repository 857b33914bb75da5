"""Selection by magnitude against torch's."""
