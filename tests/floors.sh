#!/usr/bin/env bash
# Try the oldest supported dependencies: the test suite with torch 2.13 and timm 1.0.31, in a temporary environment.
#   tests/floors.sh [PYTEST_ARGUMENTS …]        about 6 GB of downloads
set -euo pipefail
checkout=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet "torch==2.13.*" "torchvision==0.28.*" "timm==1.0.31" -e "$checkout[test]"
"$work/venv/bin/python" -c "import timm, torch; print('torch', torch.__version__, 'timm', timm.__version__)"
cd "$checkout"
"$work/venv/bin/python" -m pytest -p no:cacheprovider "$@"
