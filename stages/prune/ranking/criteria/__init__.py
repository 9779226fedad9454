"""Hold the criteria that come with secateur; entry points name them. Each docstring says when to choose it."""
