"""Where memory lies and who has the cores: the same work under other circumstances."""
