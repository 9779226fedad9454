"""What `compare` compares, on which numbers, and in which forms the answer comes."""
