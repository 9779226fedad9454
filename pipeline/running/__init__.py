"""Running the actions of a plan, and judging the gates at the end."""
