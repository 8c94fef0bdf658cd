"""The command `sase-attn`, with one file for each subcommand; `main.py` parses, runs one, and reports errors."""
