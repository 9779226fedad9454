"""From a recipe to the actions that it takes, each with its key and the reason why it runs."""
