"""The super-network of a search: every edge of a block is a weighted sum of its operations."""
