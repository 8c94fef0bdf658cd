"""Three thousand steps use no more memory, files and threads than the first few hundred."""

import json
from pathlib import Path

import pytest
import steady
import warm

STEPS = 3000


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["train", "search"])
def test_three_thousand_steps_grow_by_nothing(kind, tmp_path):
    done = warm.run(steady.__file__, kind, tmp_path / "run", STEPS, timeout=1500)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    settled, last = rows[len(rows) // 5], rows[-1]
    assert last["step"] == STEPS and settled["step"] <= STEPS // 4
    assert last["files"] == settled["files"] and last["threads"] == settled["threads"]
    assert last["tensors"] <= settled["tensors"]
    assert last["megabytes"] < settled["megabytes"] + 20
    assert {path.name for path in Path(tmp_path, "run").iterdir() if "tmp" in path.name} == set()
