"""The super-network of a search: every edge of a block a weighted sum of its operations."""
