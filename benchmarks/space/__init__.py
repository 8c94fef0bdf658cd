"""The table for testing search methods: balanced genotypes, trained with paired seeds at three lengths."""
