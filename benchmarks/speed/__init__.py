"""What does it cost? Times and memory, as ratios to others who do the same work."""
