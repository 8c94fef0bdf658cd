"""The operators of a map for the CPU: plain torch on pieces of the map that stay in its cache."""
