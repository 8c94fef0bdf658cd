"""Run timm's own model tests, unmodified, on the models that this package registers.

Of the networks to compare with it takes each attention's ResNet-20, and the ResNet-50 whose stages are changed.

    python tests/timm_suite.py [PYTEST_ARGUMENTS …]

Fetches the sdist of the installed timm by pip into a temporary folder, because the wheel carries no tests. The tests
read timm's registry when they are collected, so `-p sase_attn` is all that puts our models into them; this file, itself
loaded as a plugin, adds them to the module "resnet", by which timm selects its tests of intermediates and pruning.
"""

import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

MODULES = ("sase_resnet", "sase_resnet_cifar", "attached", "compared_resnet")


def pytest_configure() -> None:
    from timm.models import _registry

    for module in MODULES:
        _registry._module_to_models["resnet"] |= _registry._module_to_models[module]


def our_models() -> list[str]:
    import timm

    import sase_attn  # noqa: F401

    names = [name for module in MODULES for name in timm.list_models(module=module)]
    compared = [name for name in timm.list_models(module="compared_resnet") if not name.endswith("_resnet20")]
    return [name for name in names if name not in compared or name == "gsop_resnet50"]


def main(arguments: list[str]) -> int:
    import timm

    with tempfile.TemporaryDirectory() as folder:
        download = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", "timm"]
        subprocess.run([*download, "-d", folder, f"timm=={timm.__version__}"], check=True)
        with tarfile.open(next(Path(folder).glob("*.tar.gz"))) as archive:
            archive.extractall(folder, filter="data")
        root = next(path for path in Path(folder).iterdir() if path.is_dir())
        (root / "timm").rename(root / "timm_sources")  # the installed timm is what is tested
        (root / Path(__file__).name).write_text(Path(__file__).read_text())
        # "pretrained" needs the network; the Hub's paths have tests of their own against a local server.
        names = " or ".join(f"-{name}]" for name in our_models())
        pytest = [sys.executable, "-m", "pytest", "-q", "-p", "sase_attn", "-p", "timm_suite"]
        quiet = ["-W", "ignore::pytest.PytestUnknownMarkWarning"]
        select = ["tests/test_models.py", "-k", f"({names}) and not pretrained"]
        return subprocess.run([*pytest, *quiet, *select, *arguments], cwd=root).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
