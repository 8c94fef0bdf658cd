"""Searches with a super-network, whose weights all genotypes share: its training, and the choice from it."""
