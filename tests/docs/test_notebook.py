r"""The notebook runs from top to bottom, and the outputs that it shows are those of its cells.

    PYTHONWARNINGS=ignore jupyter nbconvert --to notebook --execute --inplace \
        --ExecutePreprocessor.record_timing=False examples/tour.ipynb

writes them again.
"""

import json
import re

import pytest
import warm
from checkout import EXAMPLES

TOUR = EXAMPLES / "tour.ipynb"
CELLS = json.loads(TOUR.read_text(encoding="utf-8"))["cells"]
CODE = [cell for cell in CELLS if cell["cell_type"] == "code"]
END = "---- end of a cell"


def printed(cell):
    return "".join("".join(output["text"]) for output in cell["outputs"] if output["output_type"] == "stream")


def words(text):
    """What does not depend on the machine: all but the numbers."""
    return re.sub(r"[\d.,]+", "#", text).split()


def test_it_runs_and_prints_what_it_shows(tmp_path):
    script = tmp_path / "tour.py"
    parts = ["".join(cell["source"]) for cell in CODE]
    script.write_text(f"\nprint({END!r})\n".join(["import matplotlib\n\nmatplotlib.use('agg')", *parts, ""]))
    done = warm.run(script, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    start, *texts, rest = re.split(rf"^{END}\n", done.stdout, flags=re.MULTILINE)
    assert (start, rest) == ("", "") and len(texts) == len(CODE)
    for cell, text in zip(CODE, texts, strict=True):
        assert words(text) == words(printed(cell)), "".join(cell["source"])


def test_outputs_are_there_and_small():
    assert [cell["execution_count"] for cell in CODE] == list(range(1, len(CODE) + 1))
    for cell in CODE:
        kinds = [output["output_type"] for output in cell["outputs"]]
        assert ("display_data" in kinds) == ("subplots(" in "".join(cell["source"]))
        assert "error" not in kinds
    assert TOUR.stat().st_size < 300_000
    assert "/site-packages/" not in TOUR.read_text(encoding="utf-8")  # of no machine


@pytest.mark.parametrize("cell", [cell for cell in CELLS if cell["cell_type"] == "markdown"])
def test_links(cell):
    for target in re.findall(r"\]\(([^)#:]+)[^)]*\)", "".join(cell["source"])):
        assert (EXAMPLES / target).is_file(), target
