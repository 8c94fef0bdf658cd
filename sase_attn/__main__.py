"""`python -m sase_attn` is `sase-attn`."""

from sase_attn.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
