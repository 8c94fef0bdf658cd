"""The table that searches are tried on: genotypes of balanced blocks, trained with paired seeds at three lengths."""
