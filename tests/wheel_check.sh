#!/usr/bin/env bash
# Install the wheel and the source distribution, each into an environment of its own, and use them outside the checkout.
#   tests/wheel_check.sh PYTHON [DIST]   PYTHON: one that has the dependencies and `build`
#                                        DIST: a folder with both; without it they are built
set -euo pipefail
python=$(realpath -s "$1")
checkout=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

dist=$work/dist
if [ $# -gt 1 ]; then dist=$(realpath "$2"); else "$python" -m build --outdir "$dist" "$checkout"; fi
wheel=$(ls "$dist"/*.whl)
sdist=$(ls "$dist"/*.tar.gz)
size=$(stat -c %s "$wheel")
[ "$size" -lt 8000000 ] || { echo "wheel of $size bytes is over 8 MB"; exit 1; }

for built in "$wheel" "$sdist"; do
    here=$work/$(basename "$built")-installed
    "$python" -m venv "$here/venv"
    "$here/venv/bin/pip" install --quiet --no-deps "$built"
    # The dependencies (several GB) are borrowed; this package, of which PYTHON has only an editable install, is not.
    "$python" -c "import sysconfig; print(sysconfig.get_path('purelib'))" \
        > "$("$here/venv/bin/python" -c "import sysconfig; print(sysconfig.get_path('purelib'))")/dependencies.pth"
    cd "$here"
    venv/bin/python "$checkout/tests/first_steps.py" "$checkout"
    venv/bin/sase-attn search --help > /dev/null
    venv/bin/sase-attn --version
    echo "$(basename "$built") of $(stat -c %s "$built") bytes installs and works outside the checkout"
done
