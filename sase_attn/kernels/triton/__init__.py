"""The operators of `schemas.py` for CUDA, written in Triton."""
