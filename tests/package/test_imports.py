"""Imports inside the package only point down, and importing it imports no extra."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from checkout import ROOT

import sase_attn

PACKAGE = Path(sase_attn.__file__).parent

# From the bottom up. A module imports those of lower lines only; modules of one line do not import each other. A dotted
# name takes a module, or a room in a room, out of its room to another line.
LAYERS = [
    {"errors", "quoting", "system_lock"},
    {"files", "lock", "imports", "release_notation"},
    {"records"},
    {"settings", "modules", "scaled", "placed", "channel_axes"},
    {"statistics"},
    {"kernels"},
    {"ops"},
    {"genotype"},
    {"plot", "block", "attention"},
    {"spatially_adaptive"},
    {"attentions"},
    {"insert", "describe", "pruning"},
    {"fusion", "tiling", "complexity"},
    {"weights"},
    {"models"},
    {"share"},
    {"training"},
    {"comparison"},
    {"search", "spatially_adaptive.synthesis", "detection"},
    {"commands"},
    {"__main__"},
]
OPS_LAYERS = [
    {"arguments"},
    {"op", "functional", "start"},
    {"layers"},
    {"reductions", "gsop"},
    {"channel_squeeze", "channel_excite", "spatial_squeeze", "spatial_excite"},
    {"registry"},
]
KERNELS_LAYERS = [
    {"spec", "layout", "schemas", "batch_norm", "private"},
    {"cpu", "triton"},
    {"dispatch"},
    {"autograd"},
    {"reader"},
]
CPU_LAYERS = [{"chunks"}, {"piece_statistics", "gate_backward"}, {"backward"}, {"norm_backward"}, {"operators"}]
TRITON_LAYERS = [{"affine"}, {"reduce", "gate"}, {"backward"}, {"launches"}, {"operators"}]
INSERT_LAYERS = [
    {"squeeze_excite", "meta_forward", "attached", "nearby"},
    {"gain", "kinds", "start"},
    {"channels", "keep_weights"},
    {"attach", "replace"},
]
TILING_LAYERS = [{"tiles", "dataflow"}, {"block", "report"}, {"convert"}, {"measure"}]
FUSION_LAYERS = [{"folding", "tails"}, {"fused", "training"}, {"fuse"}]
SEARCH_LAYERS = [
    {"supernet"},
    {"space", "trained"},
    {"config", "balanced", "additive_model"},
    {"shared_weights", "signal", "methods"},
    {"compare", "replay"},
    {"result", "trainings"},
    {"agreement", "verdict", "helpers", "begun", "look"},
    {"chosen", "finish", "report", "study"},
    {"by_trainings", "by_shared_weights"},
    {"run"},
    {"seeds"},
]
SIGNAL_LAYERS = [
    {"distributions"},
    {"variation", "effects"},
    {"answers", "gains"},
    {"plan", "advice", "words"},
    {"result"},
]
METHODS_LAYERS = [{"method"}, {"race", "additive", "tpe", "random"}]
REPLAY_LAYERS = [{"world"}, {"replay", "table"}]
SUPERNET_LAYERS = [{"architecture", "excitations", "standardised_sums"}, {"squeezes"}, {"block"}, {"centred"}]
SHARED_WEIGHTS_LAYERS = [
    {"restore", "virtual_step", "optimizers", "penalty"},
    {"hvp"},
    {"bilevel"},
    {"checkpoint", "network", "halves", "curvature", "op_scales", "diagnose"},
    {"loop", "scorer"},
    {"choose", "single_path"},
]
TRAININGS_LAYERS = [
    {"journal_lock", "folders", "recipe"},
    {"storage"},
    {"ledger"},
    {"worker"},
    {"desk"},
    {"run"},
]
TRAINING_LAYERS = [
    {"class_weights", "data"},
    {"recipes", "distributed", "interrupt", "log", "pace", "provenance", "precision"},
    {"checkpoint", "optimizer", "evaluate", "predict", "confusion", "imagenet_names", "run_folder", "data_config"},
    {"class_names", "balance"},
    {"initial_weights", "optimizer_step"},
    {"network", "step", "saved_model", "result", "resumable"},
    {"loading", "loop"},
    {"run"},
    {"jobs"},
]
DATA_LAYERS = [
    {"sampling", "sets", "identity", "paths", "walk", "image_file", "crop", "color_jitter", "view"},
    {"config", "order", "workers"},
    {"loader", "folder", "reading"},
    {"augment", "normalise", "file_dataset"},
    {"in_memory", "on_disk"},
    {"open_folder"},
    {"open"},
    {"evaluation_images"},
]
SYNTHESIS_LAYERS = [
    {"layers", "augment", "losses", "reconstruction", "extractors", "file_record"},
    {"generator"},
    {"discriminator", "average", "config", "saved_generator", "sheets", "scores"},
    {"images", "trainer", "checkpoint", "result"},
    {"judge", "estimate"},
    {"loop"},
    {"run", "evaluate"},
    {"one_shot"},
]
ONE_SHOT_LAYERS = [
    {"networks", "pyramid", "losses", "config"},
    {"model", "checkpoint"},
    {"measures", "saved_model", "sheet", "features", "trainer"},
    {"result", "sifid", "estimate"},
    {"loop"},
    {"run"},
]
DETECTION_LAYERS = [
    {"config"},
    {"network", "data"},
    {"saved", "evaluation"},
    {"drawing", "predict", "training", "authors", "export"},
]
DETECTION_TRAINING_LAYERS = [{"schedule", "checkpoint", "result", "curves"}, {"trainer"}, {"loop"}, {"run"}]
DETECTION_NETWORK_LAYERS = [
    {"backbone", "body", "transform", "precision"},
    {"freezing", "mmdetection_transform"},
    {"mmdetection"},
    {"detector"},
    {"paper_sizes"},
]
DETECTION_AUTHORS_LAYERS = [{"config_text", "keys"}, {"checkpoint_meta"}, {"load"}]
DETECTION_DATA_LAYERS = [
    {"finite", "coco_sizes"},
    {"report", "masks", "boxes", "formats", "splits", "image_files"},
    {"objects", "parse", "written_coco"},
    {"coco_set", "read_objects", "yolo_layout", "voc_layout"},
    {"read_coco", "convert_yolo", "convert_voc"},
    {"images", "check"},
    {"loader"},
    {"open"},
]
DETECTION_EVALUATION_LAYERS = [
    {"coco_numbers", "detections", "truth"},
    {"results", "confusion", "class_names"},
    {"metrics"},
]
COMMANDS_LAYERS = [
    {"arguments", "failures", "progress", "networks", "detect_arguments"},
    {"flags"},
    {
        "search_flags",
        "comparison",
        "trained_source",
        "prediction_output",
        "tile_arguments",
        "tile_source",
        "tile_output",
        "synthesize_one_shot",
    },
    {"detect_source"},
    {"detect_evaluate", "detect_predict", "detect_data", "detect_train", "detect_export", "detect_import"},
    {
        "list_contents",
        "show",
        "import_weights",
        "push",
        "run_script",
        "train",
        "evaluate",
        "predict",
        "compare",
        "signal",
        "search",
        "tile",
        "synthesize",
        "detect",
    },
    {"main"},
]
MODELS_LAYERS = [
    {"feature_maps", "names", "placement", "parameter_counts", "pretrained_files", "sase_resnet"},
    {"sase_resnet_cifar"},
    {"attached", "compared_resnet"},
    {"paper_table", "registered"},
]
# Inside rooms, which are named by their path; a room that is not here has no order of its own.
INNER_LAYERS = {
    "kernels": KERNELS_LAYERS,
    "kernels.cpu": CPU_LAYERS,
    "kernels.triton": TRITON_LAYERS,
    "ops": OPS_LAYERS,
    "insert": INSERT_LAYERS,
    "tiling": TILING_LAYERS,
    "fusion": FUSION_LAYERS,
    "training": TRAINING_LAYERS,
    "training.data": DATA_LAYERS,
    "spatially_adaptive": [{"layers"}, {"spectral_norm", "same_layer", "literal"}, {"skip"}],
    "plot": [
        {"characters", "grad_cam"},
        {"figure"},
        {"genotype", "saliency_columns", "confusion", "predictions"},
        {"saliency_grid"},
    ],
    "weights": [
        {"file_kinds", "wrappers", "authors_keys"},
        {"files"},
        {"genotypes"},
        {"fitting", "gains"},
        {"state_dicts"},
        {"warm_start", "authors"},
    ],
    "models": MODELS_LAYERS,
    "share": [{"errors"}, {"publishable"}, {"card", "verify"}, {"folder"}, {"push"}],
    "commands": COMMANDS_LAYERS,
    "comparison": [{"paired", "networks", "kendall", "folders", "built"}, {"result"}, {"run"}],
    "search": SEARCH_LAYERS,
    "search.signal": SIGNAL_LAYERS,
    "search.methods": METHODS_LAYERS,
    "search.replay": REPLAY_LAYERS,
    "search.supernet": SUPERNET_LAYERS,
    "search.shared_weights": SHARED_WEIGHTS_LAYERS,
    "search.trainings": TRAININGS_LAYERS,
    "spatially_adaptive.synthesis": SYNTHESIS_LAYERS,
    "spatially_adaptive.synthesis.one_shot": ONE_SHOT_LAYERS,
    "detection": DETECTION_LAYERS,
    "detection.authors": DETECTION_AUTHORS_LAYERS,
    "detection.data": DETECTION_DATA_LAYERS,
    "detection.network": DETECTION_NETWORK_LAYERS,
    "detection.training": DETECTION_TRAINING_LAYERS,
    "detection.evaluation": DETECTION_EVALUATION_LAYERS,
    "detection.drawing": [{"labels"}, {"picture"}, {"sheet"}],
    "search.report": [{"log_rows", "figure"}, {"tables", "charts"}, {"trainings"}, {"page"}],
}
ROOMS = {"": LAYERS, **INNER_LAYERS}


def dotted(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {dotted(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imported(module: str, source: str) -> Iterator[str]:
    """Every `sase_attn…` that a source imports, wherever it does so; what is no module keeps its name at the end."""
    package = module if module in FILES and FILES[module].name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            names = [f"{base}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            names = [value.value for value in node.args if isinstance(value, ast.Constant)]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] == "sase_attn")


def entry(parts: list[str], layers: list[set[str]]) -> str:
    """The longest name in the layers that `parts` begin with, or nothing."""
    heads = [".".join(parts[:length]) for length in range(len(parts), 0, -1)]
    return next((head for head in heads if any(head in layer for layer in layers)), "")


def level(name: str, layers: list[set[str]]) -> int:
    return next(index for index, layer in enumerate(layers) if name in layer)


def problems(module: str, source: str) -> list[str]:
    """What is wrong with the imports of a module."""
    own = module.split(".")[1:]
    found = []
    for name in imported(module, source):
        target = name.split(".")[1:]
        at = 0  # the room, own[:at], in which both are
        while at < len(own) and target != ["__version__"]:  # a room itself may import all that is in it
            room = ".".join(own[:at])
            layers = ROOMS.get(room, [{own[at]}])
            mine, theirs = entry(own[at:], layers), entry(target[at:], layers)
            if mine and mine == theirs:
                at += mine.count(".") + 1
                continue
            if room in ROOMS and not theirs:
                found.append(f"{module} imports {name}: name the module inside {room or 'sase_attn'} that defines it")
            elif room in ROOMS and mine and level(theirs, layers) >= level(mine, layers):
                found.append(f"{module} imports {name}, which is not below it")
            break
    return found


def test_imports_point_down():
    found = [problem for module, path in FILES.items() for problem in problems(module, path.read_text())]
    assert not found, "\n".join(found)


def test_every_module_has_its_place():
    new = []
    for module in FILES:
        own = module.split(".")[1:]
        at = 0
        while at < len(own):
            room = ".".join(own[:at])
            place = entry(own[at:], ROOMS[room]) if room in ROOMS else own[at]
            if not place:
                new.append(f"{module} is new: place {own[at]!r} in the layers of {room or 'the package'}")
            at += place.count(".") + 1
    assert not new, "\n".join(new)


def test_layers_name_what_exists():
    """What is planned may stand in the layers of the package."""
    names = {tuple(module.split(".")[1:]) for module in FILES}
    gone = [
        f"{room}: {name}"
        for room, layers in INNER_LAYERS.items()
        for layer in layers
        for name in layer
        if (*room.split("."), name) not in names
    ]
    assert not gone
    assert [room for room in INNER_LAYERS if not any((*room.split("."),) == name[:-1] for name in names)] == []


@pytest.mark.parametrize(
    "module, source, wrong",
    [
        ("sase_attn.genotype", "from sase_attn.ops import get_op", False),
        ("sase_attn.genotype", "from sase_attn.errors import unknown_name", False),
        ("sase_attn.ops.layers", "from sase_attn import statistics", False),
        ("sase_attn.ops.layers", "from sase_attn.ops import functional", False),
        ("sase_attn.attentions.a", "from sase_attn.attentions.b import c", False),
        ("sase_attn.commands.main", "from sase_attn import __version__, models", False),
        ("sase_attn", "from sase_attn.commands.main import main", False),
        ("sase_attn.statistics", "def f():\n    from sase_attn.ops import create_op", True),
        ("sase_attn.statistics", "if True:\n    import sase_attn.ops.layers as layers", True),
        ("sase_attn.genotype", "from sase_attn import block", True),
        ("sase_attn.genotype", "from . import block", True),
        ("sase_attn.ops.layers", "from ..genotype import Genotype", True),
        ("sase_attn.block", "from sase_attn.plot import draw_genotype", True),
        ("sase_attn.block", "import sase_attn", True),
        ("sase_attn.block", "from sase_attn import create_op", True),
        ("sase_attn.block", "from importlib import import_module\nimport_module('sase_attn.share')", True),
        ("sase_attn.ops.op", "from sase_attn.ops import functional", True),
        ("sase_attn.ops.layers", "from sase_attn.ops.registry import create_op", True),
        ("sase_attn.ops.gsop", "from sase_attn.ops.reductions import GAP", True),
        ("sase_attn.ops.gsop", "from .reductions import GAP", True),
        ("sase_attn.ops.gsop", "from sase_attn.ops import Op", True),
        ("sase_attn.insert.attach", "from sase_attn.insert.replace import replace", True),
        ("sase_attn.insert.replace", "from sase_attn.insert.squeeze_excite import describe_se", False),
        ("sase_attn.errors", "from sase_attn import statistics", True),
        ("sase_attn.search.supernet.block", "from sase_attn.search.supernet.squeezes import MixedSqueezes", False),
        ("sase_attn.search.supernet.squeezes", "from sase_attn.search.supernet.block import SearchBlock", True),
        ("sase_attn.search.supernet.block", "from sase_attn.search.space import SearchSpace", True),
        ("sase_attn.search.supernet.block", "from sase_attn.search.supernet import Squeezes", True),
        ("sase_attn.search.space", "from sase_attn.search.supernet.block import SearchBlock", False),
        ("sase_attn.spatially_adaptive.synthesis", "from sase_attn.spatially_adaptive.same_layer import b", False),
        ("sase_attn.spatially_adaptive.skip", "from sase_attn.insert import Attached", True),
        ("sase_attn.spatially_adaptive.skip", "from sase_attn.spatially_adaptive.synthesis import a", True),
        ("sase_attn.spatially_adaptive", "from sase_attn.spatially_adaptive import synthesis", True),
        ("sase_attn.spatially_adaptive", "from sase_attn.spatially_adaptive.skip import a", False),
        ("sase_attn.spatially_adaptive.synthesis.a", "from sase_attn.training import b", False),
        ("sase_attn.training.a", "from sase_attn.spatially_adaptive.synthesis import b", True),
        ("sase_attn.attentions.a", "from sase_attn.spatially_adaptive.same_layer import b", False),
    ],
)
def test_the_rule_itself(module, source, wrong):
    assert bool(problems(module, source)) == wrong


def test_kernels_do_not_compute_by_the_definition():
    """What is held against the definition does not import it."""
    for room in ("cpu", "triton"):
        for module in FILES:
            if module.startswith(f"sase_attn.kernels.{room}"):
                assert not [n for n in imported(module, FILES[module].read_text()) if "sase_attn.statistics" in n]


def test_importing_the_package_imports_no_extra():
    text = (ROOT / "pyproject.toml").read_text()
    requirements = {
        re.split(r"[^\w.-]", requirement)[0].replace("-", "_")
        for group in tomllib.loads(text)["project"]["optional-dependencies"].values()
        for requirement in group
    } - {"sase_attn"}
    assert {"matplotlib", "onnx", "pytest"} <= requirements
    code = (
        "import json, sys, torch, timm, huggingface_hub, safetensors.torch\n"
        "before = set(sys.modules)\n"
        "import sase_attn\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in set(sys.modules) - before})))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True, check=True
    )
    loaded = set(json.loads(result.stdout))
    assert "sase_attn" in loaded
    assert not loaded & requirements
