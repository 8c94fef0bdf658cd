"""The oldest dependencies: what the package asks for is what `tests/floors.sh` tries."""

import re
import tomllib

from checkout import ROOT


def test_floors_are_those_that_are_tried():
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    floors = dict(requirement.split(">=") for requirement in wanted if ">=" in requirement)
    assert floors.keys() == {"torch", "timm"}
    script = (ROOT / "tests" / "floors.sh").read_text()
    tried = dict(re.findall(r'"(torch|timm)==([\d.]+?)(?:\.\*)?"', script))
    assert tried == floors
    assert f"torch {floors['torch']} and timm {floors['timm']}" in script  # what it says that it does
    minor = int(floors["torch"].split(".")[1])
    assert f'"torchvision==0.{minor + 15}.*"' in script  # the release that goes with it
