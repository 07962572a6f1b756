"""Scripts that measure: ``python -m benchmarks.NAME`` from the root of the checkout.

As modules they measure the package of the checkout they are started in, whichever is installed.
"""
