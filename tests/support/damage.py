"""Damaged files and nonsense values, drawn by a seed, for commands that must report each in one line."""

import io
import json
import random
from pathlib import Path
from typing import Any

import torch

from sase_attn.commands.main import main

WRONG: list[Any] = [
    None, True, -1, 0, 1e308, -1e308, 10**30, 10**400, float("nan"), float("inf"), "", "x", "é\u0000", [], [[]], {},
    {"a": 1}, [None], ["x"] * 3, "sase", 0.5,
]  # fmt: skip
WORDS = [
    "", " ", "0", "-1", "nan", "inf", "-inf", "1e308", "1e-320", "99999999999999999999", "9" * 5000, "1.5", "none",
    "[]", "{}", "[" * 300, "x", "a=b", "a=[]", "=", "--", "\udcff", "é", "nowhere/at/all", ".", "..", "\n", "a" * 5000,
    "layers=[]", "layers=[1,1]", "layers=1", "layers=[0,0,0]", "layers=[1,1,'a']", "layers=" + "[" * 150 + "]" * 150,
    "drop_rate=2", "drop_rate=nan", "num_classes=0", "num_classes=-3", "in_chans=2", "genotype=5", "genotype=[]",
    "pretrained=True", "cuda:99", "meta", "cpu:7", "mps", "true", "1,2", "0,0", "99999,99999", "x.json", "x.py", "sase",
]  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of keys to every value inside a nested value."""
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += places(inner, (*path, key))
    return found


def changed(value: Any, rng: random.Random) -> Any:
    """A copy of a nested value in which one inner value is wrong, missing, or of another version."""
    found = places(value)
    if not found or rng.random() < 0.1:
        return rng.choice(WRONG)
    *way, last = rng.choice(found if rng.random() < 0.5 else [place for place in found if len(place) == 1] or found)
    owner = value
    for key in way:
        owner = owner[key]
    kind = rng.random()
    if kind < 0.2:
        del owner[last]
    elif kind < 0.3 and isinstance(owner, dict):
        owner[f"{last}_2"] = owner.pop(last)
    elif kind < 0.4:
        owner[last] = [owner[last]]
    else:
        owner[last] = rng.choice(WRONG)
    return value


def damaged_bytes(content: bytes, rng: random.Random) -> bytes:
    """The content truncated, emptied, with some bytes changed, or replaced by something else."""
    kind = rng.randrange(6)
    if kind == 0:
        return content[: rng.randrange(max(1, len(content)))]
    if kind == 1:
        flipped = bytearray(content)
        for _ in range(rng.randrange(1, 20)):
            if flipped:
                flipped[rng.randrange(len(flipped))] = rng.randrange(256)
        return bytes(flipped)
    others = [
        b"",
        b"\x00\xff" * 50,
        b"[" * 100_000,
        b"PK\x03\x04",
        b"{}",
        b"[]",
        b"null",
        b"NaN",
        b"\x80\x02.",
        b"1" * 9000,
    ]
    return rng.choice(others)


def damage(path: Path, rng: random.Random) -> None:
    """Damage a file, in its bytes or in its values."""
    content = path.read_bytes()
    said: bytes | None = None
    if rng.random() < 0.7:
        if path.suffix == ".json":
            said = json.dumps(changed(json.loads(content), rng)).encode()
        elif path.suffix == ".jsonl":
            lines = content.splitlines(keepends=True)
            place = rng.randrange(len(lines))
            lines[place] = json.dumps(changed(json.loads(lines[place]), rng)).encode() + b"\n"
            said = b"".join(lines)
        elif path.suffix == ".pt":
            buffer = io.BytesIO()
            torch.save(changed(torch.load(path, weights_only=True), rng), buffer)
            said = buffer.getvalue()
    path.write_bytes(damaged_bytes(content, rng) if said is None else said)


def check(argv: list[Any], capsys: Any, about: str) -> None:
    """Check that a command ends without a traceback, and reports any error in one line."""
    try:
        code = main([str(word) for word in argv])
    except BaseException as error:
        raise AssertionError(f"{about}: {argv} raised {error!r}") from error
    err = capsys.readouterr().err
    errors = [line for line in err.splitlines() if line.startswith("sase-attn: error:")]
    assert code in (0, 1, 2) and "Traceback" not in err, (about, argv, code, err)
    assert len(errors) == (code != 0), (about, argv, code, err)
