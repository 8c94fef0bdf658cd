"""The command line: what it prints, what it writes, and that every expected error is one line with the right code."""

import io
import json
import os
import re
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch
from checkout import REFERENCE_FILES
from hub_server import HubServer
from safetensors import SafetensorError

import sase_attn
from sase_attn import Genotype, genotypes, register_op, share
from sase_attn.commands import list_contents, main
from sase_attn.commands.failures import warnings_in_one_line
from sase_attn.describe import describe, operations_table
from sase_attn.ops import OP_SETS, RELEASE_OPS, Op, create_op

KEYS = json.loads((REFERENCE_FILES / "authors_resnet50_keys.json").read_text())
ENV = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
ENV |= {"PYTHONPATH": os.pathsep.join(sys.path)}


@pytest.fixture
def run(capsys):
    """Run the command and return what it printed; expects no error."""

    def succeed(*argv):
        code = main.main([str(arg) for arg in argv])
        out, err = capsys.readouterr()
        assert (code, err) == (0, "")
        return out

    return succeed


@pytest.fixture
def fail(capsys):
    """Run the command and return (exit code, the message of the one line that it printed)."""

    def failing(*argv):
        code = main.main([str(arg) for arg in argv])
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("sase-attn: error: ") and err.endswith("\n") and err.count("\n") == 1, err
        return code, err.removeprefix("sase-attn: error: ").rstrip()

    return failing


# ---- list


def test_list_json_describes_every_operation_genotype_and_model(run):
    listed = json.loads(run("list", "--json"))
    ops = listed["ops"]
    assert [(op["set"], op["name"]) for op in ops] == [(s, name) for s, names in OP_SETS.items() for name in names]
    for op in ops:
        parameters = create_op(op["set"], op["name"], 256).parameters()
        assert op["parameters"] == sum(parameter.numel() for parameter in parameters)
        assert op["source"] == ("release" if op["name"] in RELEASE_OPS[op["set"]] else "reading")
        assert op["definition"]
    assert {g["name"]: Genotype.parse(g["genotype"]) for g in listed["genotypes"]} == genotypes
    counts = {model["name"]: model["parameters"] for model in listed["models"]}
    assert counts["sase_resnet50"] == 25_557_032 + 2_514_944 + 30_208 + 384
    assert counts["sase_resnet101"] == 49_358_144
    assert {"sase_resnet20", "resnet20_cifar", "attached"} <= counts.keys()
    assert not any(name in counts for name in ("resnet50", "seresnet50"))


def test_list_of_one_kind_is_a_part_of_the_whole(run):
    everything, sections = json.loads(run("list", "--json")), run("list").rstrip("\n").split("\n\n")
    for kind, section in zip(("ops", "attentions", "genotypes", "models"), sections, strict=True):
        assert json.loads(run("list", kind, "--json")) == {kind: everything[kind]}
        assert run("list", kind).rstrip("\n") == section
    assert "spatial_sase has no starting gain: it takes the place of a convolution, and the norm behind" in sections[1]
    words = run("list").split()
    assert words.count("release") == 28
    assert {*map(str, genotypes.values()), "l2norm_channel", "28,102,568", "sase_resnet50"} <= set(words)


def test_list_markdown_is_a_stable_table(run):
    table = run("list", "--markdown")
    assert table == run("list", "ops", "--markdown") == operations_table() + "\n"
    head, rule, *rows = (line.strip("|").split(" | ") for line in table.splitlines())
    assert [cell.strip() for cell in head] == ["set", "operation", "definition", "parameters at C = 256", "source"]
    assert len(rule) == 5 and len(rows) == sum(map(len, OP_SETS.values()))
    assert all(len(row) == 5 for row in rows)
    assert "| channel_excite | `fc` |" in table and "| 8,192 | release |" in table
    definition = OP_SETS["spatial_squeeze"]["l4_mean"].__doc__.splitlines()[0]
    assert f"| spatial_squeeze | `l4_mean` | {definition} | 0 | reading |\n" in table


def test_a_registered_operation_is_listed(run, monkeypatch):
    monkeypatch.setitem(OP_SETS, "channel_squeeze", dict(OP_SETS["channel_squeeze"]))
    register_op("channel_squeeze", "mine", type("Mine", (Op,), {"__module__": "elsewhere", "__doc__": "A | b.\n\nC."}))
    listed = {op["name"]: op for op in json.loads(run("list", "ops", "--json"))["ops"]}
    assert (listed["mine"]["source"], listed["mine"]["definition"]) == ("registered", "A | b.")
    assert "| `mine` | A \\| b. | 0 | registered |" in run("list", "--markdown")


# ---- show


def test_show_counts_agree_with_hand_arithmetic(run):
    shown = json.loads(run("show", "sase", "--json"))
    assert shown["genotype"] == str(genotypes["sase"])
    parameters = {edge["edge"]: edge["parameters"] for edge in shown["edges"]}
    macs = {edge["edge"]: edge["macs"] for edge in shown["edges"]}
    assert shown["parameters"] == sum(parameters.values()) == 256**2 // 8 + 2 * 256 + 24 == 8728
    assert parameters == {
        "channel_squeeze": 2,
        "channel_excite": 2 * 256 * 16,
        "channel_gate": 2 * 256,
        "spatial_squeeze_input": 0,
        "spatial_squeeze_gated": 0,
        "spatial_excite": 2 * 9,
        "mix": 2 + 2,
    }
    assert shown["macs"] == sum(macs.values())
    assert {edge: count for edge, count in macs.items() if count} == {
        "channel_excite": 2 * 256 * 16,
        "spatial_excite": 2 * 9 * 56 * 56,
    }


def test_show_follows_channels_and_size(run):
    genotype = str(genotypes["sase"]).replace("gap_gmp", "gsop").replace("conv2d_k3_x2", "sep_k5")
    shown = json.loads(run("show", genotype, "--channels", 64, "--size", 14, "--json"))
    macs = {edge["edge"]: edge["macs"] for edge in shown["edges"]}
    assert (shown["channels"], shown["size"]) == (64, 14)
    # averaging 64 channels to 16 rows of 196, their covariance, the final layer; the row weights are element-wise
    assert macs["channel_squeeze"] == 16 * 64 * 196 + 16 * 16 * 196 + 16 * 64
    assert macs["channel_excite"] == 2 * 64 * 4
    assert macs["spatial_excite"] == 2 * 5 * 14 * 14


def test_show_text(run):
    lines = run("show", "sase_paper").splitlines()
    assert lines[0] == str(genotypes["sase_paper"])
    assert lines[-1].split() == ["block", "8,728", "64,640"]
    gate = next(line for line in lines if line.startswith("channel_gate"))
    assert gate.split()[:4] == ["channel_gate", "affine", "512", "0"]
    assert gate.endswith(OP_SETS["channel_excite"]["affine"].__doc__.splitlines()[0])


def test_show_takes_files_and_draws(run, tmp_path):
    genotype = Genotype.random(7)
    genotype.save(tmp_path / "found.json")
    (tmp_path / "block.png").write_bytes(b"old")
    printed = run("show", tmp_path / "found.json", "-o", tmp_path / "block.png")
    assert printed == run("show", genotype)
    assert (tmp_path / "block.png").read_bytes().startswith(b"\x89PNG")


def test_describing_leaves_the_random_stream(run):
    state = torch.get_rng_state()
    describe(genotypes["sase"])
    assert torch.equal(state, torch.get_rng_state())


def test_an_encoding_without_our_symbols_gets_question_marks(monkeypatch):
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stdout)
    assert main.main(["show", "sase"]) == 0
    assert b"56?56" in stdout.buffer.getvalue()


# ---- import and push


@pytest.fixture(scope="module")
def authors(tmp_path_factory):
    """A checkpoint of the authors' ResNet-50 with random weights."""
    path = tmp_path_factory.mktemp("authors") / "pnorm_imgnet_r50.pth"
    generator = torch.Generator().manual_seed(0)
    weights = {
        key: torch.rand(shape, generator=generator) if kind == "float32" else torch.tensor(5)
        for key, (shape, kind) in KEYS.items()
    }
    torch.save({"state_dict": {f"module.{key}": value for key, value in weights.items()}}, path)
    return path, weights


def test_import_writes_what_its_python_line_loads(run, fail, authors, tmp_path):
    source, weights = authors
    output = tmp_path / "weights.safetensors"
    printed = run("import", source, "--model", "sase_resnet50", "-o", output)
    assert printed.startswith(f"wrote {len(KEYS)} tensors to {output}; ")
    line = printed.splitlines()[1]
    assert line.endswith(f'timm.create_model("sase_resnet50", checkpoint_path="{output}")')
    names = {}
    exec(line, names)
    loaded = names["model"].state_dict()
    assert torch.equal(loaded["layer3.2.conv2.weight"], weights["layer3.2.conv2.weight"])
    assert torch.equal(loaded["layer3.2.se.channel_excite.fc2.weight"], weights["layer3.2.attention._ops.1.2.weight"])

    code, message = fail("import", source, "--model", "sase_resnet50", "-o", output)
    assert (code, message) == (1, f"{output} exists; --force replaces it")
    output.write_bytes(b"old")
    run("import", source, "--model", "sase_resnet50", "-o", output, "--force")
    assert safetensors.torch.load_file(output).keys() == loaded.keys()


def test_import_of_another_network_is_refused(fail, authors, tmp_path):
    code, message = fail("import", authors[0], "--model", "sase_resnet18", "-o", tmp_path / "a.safetensors")
    assert code == 1 and "does not fit" in message and "layer1.0.conv3.weight" in message
    assert not list(tmp_path.iterdir())


@pytest.fixture
def trained(tmp_path):
    """(file, state dict) of a small network, one of whose arguments is a genotype and one a number."""
    model = timm.create_model("sase_resnet20", genotype="sase_paper", num_classes=7)
    weights = {key: torch.rand_like(value) if value.ndim else value for key, value in model.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": weights}, tmp_path / "last.pth")
    return tmp_path / "last.pth", weights


ARGUMENTS = ("--model", "sase_resnet20", "--model-kwargs", "genotype=sase_paper", "num_classes=7")


def test_push_saves_a_folder_that_loads(run, fail, trained, tmp_path):
    file, weights = trained
    folder = tmp_path / "published"
    metrics = ("--metric", "CIFAR-10 top-1 (%)=93.25", "a=b=-1e-3")
    printed = run("push", file, *ARGUMENTS, "--save-to", folder, "--license", "mit", "--description", "Mine.", *metrics)
    names = {}
    exec(printed.splitlines()[1], names)
    loaded = names["model"].state_dict()
    assert loaded.keys() == weights.keys() and all(torch.equal(loaded[key], weights[key]) for key in weights)
    assert json.loads((folder / "config.json").read_text())["model_args"]["genotype"] == "sase_paper"
    card = (folder / "README.md").read_text()
    assert "license: mit" in card and "Mine." in card and "93.25" in card and "-0.001" in card

    code, message = fail("push", file, *ARGUMENTS, "--save-to", folder)
    assert code == 1 and "cannot save to" in message


def test_push_publishes(trained, tmp_path):
    file, weights = trained
    with HubServer() as server:
        env = ENV | {"HF_ENDPOINT": server.url, "HF_TOKEN": server.token, "HF_HOME": str(tmp_path / "home")}
        env |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1"}
        command = [sys.executable, "-m", "sase_attn", "push", str(file), *ARGUMENTS, "--repo", "org/mine", "--private"]
        done = subprocess.run(
            [*command, "--message", "Third epoch"], env=env, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        page, line = done.stdout.splitlines()
        assert page == f"pushed to {server.url}/org/mine; load it with"
        assert line == 'import sase_attn, timm; model = timm.create_model("hf-hub:org/mine", pretrained=True)'
        published = safetensors.torch.load(server.repos["org/mine"]["main"]["model.safetensors"])
        assert all(torch.equal(published[key], weights[key]) for key in weights)
        created = next(body for _, path, body in server.requests if path == "/api/repos/create")
        assert created.get("visibility") == "private" or created.get("private") is True


def test_push_passes_its_options_and_reports_hub_errors(run, fail, trained, monkeypatch):
    calls = []

    def push(model, repo_id, **options):
        calls.append((model.num_classes, repo_id, options))
        if options["private"]:
            raise share.HubError("cannot push:\nwanted a token")
        return "https://hub/org/mine/tree/dev"

    monkeypatch.setattr(share, "push", push)
    options = ("--revision", "dev", "--message", "Hello", "--license", "mit", "--description", "D", "--metric", "m=1")
    printed = run("push", trained[0], *ARGUMENTS, "--repo", "org/mine", *options)
    assert "https://hub/org/mine/tree/dev" in printed and '"hf-hub:org/mine@dev"' in printed
    card = {"license": "mit", "description": "D", "metrics": {"m": 1.0}}
    expected = {"private": False, "revision": "dev", "commit_message": "Hello", **card}
    assert calls == [(7, "org/mine", expected)]
    assert fail("push", trained[0], *ARGUMENTS, "--repo", "a/b", "--private") == (1, "cannot push: wanted a token")


@pytest.mark.parametrize(
    "arguments, problem",
    [
        (("sase_resnet20", "--model-kwargs", "genotype=sase_paper"), "fc.weight has shape (7, 64), expected (10, 64)"),
        (("sase_resnet18",), "does not fit the model"),
        (("sase_resnet20", "--model-kwargs", "bogus=1"), "unexpected keyword argument 'bogus'"),
        (("sase_resnet20", "--model-kwargs", "output_stride=5"), "cannot make sase_resnet20 with these arguments"),
    ],
)
def test_push_refuses_weights_and_arguments_that_do_not_fit(fail, trained, arguments, problem):
    code, message = fail("push", trained[0], "--model", *arguments, "--repo", "org/mine")
    assert code == 1 and problem in message


# ---- errors


@pytest.mark.parametrize(
    "argv, hint",
    [
        ((), "COMMAND"),
        (("shwo", "sase"), "did you mean show"),
        (("list", "modles"), "did you mean models"),
        (("list", "models", "--markdown"), "not of models"),
        (("list", "models", "--compare"), "--compare prints the table"),
        (("list", "--json", "--markdown"), "not allowed with"),
        (("list", "--jso"), "--jso"),
        (("show", "sasse"), "did you mean sase"),
        (("show", str(genotypes["sase"]).replace("conv2d_k3_x2", "conv2d_k3x2")), "did you mean conv2d_k3_x2"),
        (("show", str(genotypes["sase"]).replace("channel_gate", "chanel_gate")), "did you mean channel_gate"),
        (("show", "sase", "--channels", "many"), "--channels"),
        (("import", "x.pth", "--model", "sase_resnt50", "-o", "y"), "did you mean sase_resnet50"),
        (("push", "x.pth", "--model", "sase_resnt20", "--repo", "a/b"), "did you mean sase_resnet20"),
        (("push", "x.pth", "--model", "sase_resnet20"), "--repo, or --save-to"),
        (("push", "x.pth", "--model", "sase_resnet20", "--metric", "top1"), "name=number"),
        (("push", "x.pth", "--model", "sase_resnet20", "--metric", "=1"), "name=number"),
        (("push", "x.pth", "--model", "sase_resnet20", "--model-kwargs", "a b=1"), "key=value"),
    ],
)
def test_usage_errors_and_unknown_names_exit_2(fail, argv, hint):
    code, message = fail(*argv)
    assert code == 2 and hint in message


def test_other_errors_exit_1(fail, tmp_path):
    (tmp_path / "not.json").write_text("{")
    (tmp_path / "typed.json").write_text(json.dumps({**json.loads(genotypes["sase"].to_json()), "residual": "yes"}))
    (tmp_path / "damaged.pth").write_bytes(b"PK\x03\x04 and nothing more")
    (tmp_path / "empty.safetensors").touch()
    name = ("--model", "sase_resnet50", "-o", tmp_path / "out.safetensors")
    for argv, hint in (
        (("show", tmp_path / "none.json"), "none.json: No such file"),
        (("show", tmp_path / "not.json"), "not.json: "),
        (("show", tmp_path / "typed.json"), "typed.json: residual must be True or False"),
        (("show", "sase", "--size", 0), "size must be at least 1, got 0"),
        (("show", "sase", "--channels", -1), "channels must be at least 1, got -1"),
        (("show", "sase", "-o", tmp_path / "a.gif"), ".png, .svg, .pdf"),
        (("import", tmp_path / "none.pth", *name), "none.pth"),
        (("import", tmp_path / "damaged.pth", *name), "damaged.pth"),
        (("import", tmp_path / "empty.safetensors", *name), "empty.safetensors"),
        (("push", tmp_path / "none.pth", *name[:2], "--repo", "a/b"), "none.pth"),
    ):
        code, message = fail(*argv)
        assert code == 1 and hint in message
    assert not (tmp_path / "out.safetensors").exists()


def test_missing_matplotlib_exits_1(fail, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, message = fail("show", "sase", "-o", tmp_path / "a.png")
    assert (code, message) == (1, 'drawing needs matplotlib: pip install "sase-attn[plot]"')


def test_interrupt_exits_130(capsys, monkeypatch):
    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(list_contents, "run", interrupt)
    assert main.main(["list"]) == 130
    assert capsys.readouterr() == ("", "")


def test_a_bug_is_one_line_and_its_trace_a_file(fail, monkeypatch, tmp_path):
    monkeypatch.setattr(list_contents, "run", lambda _: 1 / 0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    code, message = fail("list")
    wanted = r"internal error: ZeroDivisionError: division by zero; the trace is in (.*)"
    (path,) = re.fullmatch(wanted, message).groups()
    assert code == 1 and "in <lambda>" in Path(path).read_text() and list(tmp_path.iterdir()) == [Path(path)]
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    assert "could not be written (No such file or directory)" in fail("list")[1]


def test_a_bug_is_not_hidden_from_who_wants_to_see_it(monkeypatch):
    monkeypatch.setattr(list_contents, "run", lambda _: 1 / 0)
    monkeypatch.setenv("SASE_ATTN_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        main.main(["list"])


@pytest.mark.parametrize(
    "error, said",
    [
        (MemoryError(), "out of memory: MemoryError; try a smaller --batch-size, or smaller images"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't\nallocate"), "out of memory: [enforce fail] Default"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried"), "out of memory: CUDA out of memory. Tried; try"),
        (OSError(28, "No space left on device", "run/log.jsonl"), "run/log.jsonl: No space left on device"),
        (SafetensorError("header too large"), "header too large"),
        (
            ValueError("Caught ValueError in worker.\nOriginal Traceback (most):\n  x\nValueError: no image"),
            "ValueError: no",
        ),
    ],
)
def test_errors_of_the_machine_are_one_line(fail, monkeypatch, error, said):
    def stop(_):
        raise error

    monkeypatch.setattr(list_contents, "run", stop)
    code, message = fail("list")
    assert code == 1 and message.startswith(said)


def test_help_and_version(run):
    assert run("--version") == f"sase-attn {sase_attn.__version__}\n"
    assert {"list", "show", "import", "push"} <= set(run("--help").split())
    for command in ("list", "show", "import", "push"):
        assert run(command, "--help").startswith(f"usage: sase-attn {command} ")


# ---- as a process


def test_a_reader_that_closes_early_sees_no_traceback():
    command = [sys.executable, "-m", "sase_attn", "show", "sase"]
    env = {key: value for key, value in ENV.items() if key != "PYTHONUNBUFFERED"}  # it would leave nothing to flush
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(60) == 141


def test_warnings_of_the_package_are_one_line_and_others_are_left():
    with warnings_in_one_line():
        ours = warnings.formatwarning(UserWarning("skipped:\n3 files"), UserWarning, main.__file__, 1)
        others = warnings.formatwarning(UserWarning("of torch"), UserWarning, torch.__file__, 1)
    assert ours == "sase-attn: warning: skipped: 3 files\n"
    assert others.startswith(torch.__file__) and "UserWarning" in warnings.formatwarning("x", UserWarning, "y", 1)
