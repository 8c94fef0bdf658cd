#!/usr/bin/env bash
# Build a wheel, install it into an environment of its own and use it outside the checkout.
#   tests/wheel_check.sh PYTHON        PYTHON: one that has the dependencies and `build`
set -euo pipefail
python=$(realpath -s "$1")
checkout=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$python" -m build --wheel --outdir "$work/dist" "$checkout"
wheel=$(ls "$work"/dist/*.whl)
size=$(stat -c %s "$wheel")
[ "$size" -lt 10000000 ] || { echo "wheel of $size bytes is over 10 MB"; exit 1; }

"$python" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-deps "$wheel"
# The dependencies (several GB) are borrowed; this package, of which PYTHON has only an editable install, is not.
"$python" -c "import sysconfig; print(sysconfig.get_path('purelib'))" \
    > "$("$work/venv/bin/python" -c "import sysconfig; print(sysconfig.get_path('purelib'))")/dependencies.pth"

cd "$work"
venv/bin/python - "$checkout" <<'EOF'
import sys
import timm, torch
import sase_attn
assert not sase_attn.__file__.startswith(sys.argv[1] + "/"), sase_attn.__file__
model = timm.create_model("sase_resnet20").eval()
assert model(torch.randn(1, 3, 32, 32)).shape == (1, 10)
from sase_attn.training.data.open import DataConfig, open_data
assert open_data(DataConfig(), seed=0)[2].train_count == 6000
EOF
venv/bin/sase-attn list genotypes
venv/bin/sase-attn --version
echo "wheel of $size bytes installs and works outside the checkout"
