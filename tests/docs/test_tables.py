"""Tables are those of the code and of the rows, and sentences that quote rows agree with them."""

import re
import sys

import timm
from checkout import BENCHMARKS, ROOT
from pages import PAGES, README, blocks

sys.path.insert(0, str(BENCHMARKS))
import rows  # noqa: E402
import tables  # noqa: E402
from space import lengths  # noqa: E402

from sase_attn.attentions import ATTENTIONS  # noqa: E402
from sase_attn.commands.main import main  # noqa: E402
from sase_attn.ops import OP_SETS  # noqa: E402


def page(name):
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def test_operations_table_is_current(capsys):
    assert main(["list", "ops", "--markdown"]) == 0
    table = re.search(r"<!-- operations -->\n(.*?)<!-- /operations -->", page("operations.md"), flags=re.DOTALL)[1]
    assert table.strip() == capsys.readouterr().out.strip()
    assert table.count("\n") == 2 + sum(len(ops) for ops in OP_SETS.values())


def test_attentions_table_is_current(capsys):
    assert main(["list", "attentions", "--markdown"]) == 0
    table = re.search(r"<!-- attentions -->\n(.*?)<!-- /attentions -->", page("attentions.md"), flags=re.DOTALL)[1]
    assert table.strip() == capsys.readouterr().out.strip()
    assert table.count("\n") == 2 + len(ATTENTIONS)


def test_model_table_is_current():
    rows = re.findall(r"^\| `(\w+)`[^|]*\| ([\d,]+) \| (\d+) \|$", page("block.md"), flags=re.MULTILINE)
    registered = {n for m in ("sase_resnet", "sase_resnet_cifar") for n in timm.list_models(module=m)}
    assert {name for name, _, _ in rows} == registered
    for name, count, size in rows:
        model = timm.create_model(name, device="meta")
        assert sum(p.numel() for p in model.parameters()) == int(count.replace(",", ""))
        assert model.pretrained_cfg["input_size"][-1] == int(size)


def test_tables_of_results_are_those_of_the_rows():
    shown = set()
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        assert tables.filled(text) == text, "run python benchmarks/tables.py --write"
        shown |= {found[3] for found in tables.MARKED.finditer(text) if found[2] == "results"}
    assert "starting_factor" in shown  # a correlation over the rows of others
    read = {tables.ROWS.get(name, name) for name in shown - {"starting_factor"}}
    for table, more in {"earlier_accuracies": "compare_cifar", "search_signal": "search_signal_trained"}.items():
        if table in shown:
            read.add(more)  # more columns of the same table
    if "space" in shown:  # a line a length
        read = (read - {"space"}) | {path.stem for path in rows.RESULTS.glob("space_*.jsonl")}
    assert read == {path.stem for path in rows.RESULTS.glob("*.jsonl")}


def test_the_front_page_quotes_the_rows_of_speed():
    found = [row for row in rows.read_rows("speed") if (row["layout"], row["mode"]) == ("NCHW", "forward+backward")]
    block, network = (
        {row["variant"]: row["ms"] for row in found if row["level"] == level and row["shape"] == shape}
        for level, shape in (("block", [16, 256, 56, 56]), ("model", [8, 3, 224, 224]))
    )
    text = " ".join(README.read_text(encoding="utf-8").split())
    assert "256×56×56, a block takes as long as SE, and a fifth of the time of the authors' own formula." in text
    assert abs(block["SASE"] / block["SE"] - 1) < 0.05
    assert abs(block["SASE"] / block["SASE, release's formula"] - 1 / 5) < 0.02
    more = {name: f"{100 * network[name] / network['plain'] - 100:.0f} %" for name in ("SASE", "SE")}
    assert f"takes {more['SASE']} longer with SASE than without attention, and {more['SE']} longer with SE." in text
    compiled = [100 * network[f"{name}, compiled"] / network["plain, compiled"] - 100 for name in ("SASE", "SE")]
    assert f"Compiled, it is {compiled[0]:.0f} % and {compiled[1]:.0f} %." in text


def test_what_searches_find_quotes_the_rows_of_the_space():
    found, text = lengths.variations(lengths.all_rows()), " ".join(page("search-methods.md").split())
    assert found[960].high < 1 / 7 and "at most a seventh of the variance comes from the genotype" in text
    assert found[3840].high < 0.38 and "show that the genotype's share is below 0.38" in text


def test_the_order_of_imports_is_that_of_its_test():
    test = (ROOT / "tests" / "package" / "test_imports.py").read_text()
    layers = re.search(r"^LAYERS = (\[.*?^\])", test, flags=re.DOTALL | re.MULTILINE)[1]
    package = ROOT / "sase_attn"
    exist = [{name for name in layer if any(package.glob(name.replace(".", "/") + "*"))} for layer in eval(layers)]
    there = [sorted(layer) for layer in exist]
    shown = blocks(ROOT / "docs" / "how-it-works.md", "text")[-1].splitlines()
    assert [sorted(line.strip().split(", ")) for line in reversed(shown)] == [layer for layer in there if layer]
