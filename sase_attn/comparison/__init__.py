"""Networks compared fairly: paired seeds, one start, and what could have been seen."""
