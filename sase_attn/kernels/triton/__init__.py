"""The operators of a map for CUDA, written in Triton."""
