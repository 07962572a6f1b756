"""Do the paper's claims hold? Nets trained, tested and attacked with several seeds."""
