"""How far probabilities and error bars can be trusted, of one net and of several."""
