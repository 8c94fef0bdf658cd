"""`python -m sase_attn` is `sase-attn`."""

from sase_attn.commands.main import main

if __name__ == "__main__":
    raise SystemExit(main())
