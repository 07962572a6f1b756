"""Does it help on tables? Test errors beside those of other models and of other defaults."""
