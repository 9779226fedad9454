"""Export files: a folder for each format, and what all of them share."""
