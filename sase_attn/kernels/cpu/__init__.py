"""The operators of `schemas.py` for the CPU: plain torch on pieces of a map that fit into the cache."""
