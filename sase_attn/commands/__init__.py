"""The command `sase-attn`: one file a command; `main.py` parses, calls and turns errors into one line."""
