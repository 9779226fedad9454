"""Run the actions of a plan, and decide the gates at the end."""
