#!/usr/bin/env bash
# Builds a wheel of img3d from its sdist, without npm, installs it into an empty environment, and trains and exports from
# there, outside the checkout.
#
#     tools/try_wheel.sh [python3.11]
set -euo pipefail
python=${1:-python3}
checkout=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

echo "== An sdist of img3d, with the viewer page"
if command -v npm > /dev/null; then make -C "$checkout" --no-print-directory viewer-page; fi
"$python" -m venv "$work/tools"
"$work/tools/bin/pip" install --quiet scikit-build-core
(cd "$checkout" && "$work/tools/bin/python" -c "from scikit_build_core.build import build_sdist; build_sdist('$work/dist')")

echo "== A wheel from it, where no npm is"
mkdir "$work/programs"
IFS=: read -ra folders <<< "$PATH"
for folder in "${folders[@]}"; do ln -s "$folder"/* "$work/programs/" 2> /dev/null || true; done
rm -f "$work"/programs/{node,nodejs,npm,npx}
"$python" -m venv "$work/env"
env=$work/env/bin
PATH=$work/programs "$env/pip" wheel --no-deps --config-settings="build-dir=$work/build" --wheel-dir "$work/dist" \
  "$work"/dist/img3d-*.tar.gz

echo "== Installed into an empty environment, with the published constraints"
# Only what is imported is compiled, and kept: compiling all of it takes as long as unpacking it.
export PYTHONDONTWRITEBYTECODE=
"$env/pip" install --quiet --no-compile -c "$checkout/constraints.txt" "$work"/dist/img3d-*.whl
"$env/pip" check

echo "== The library alone, without Nerfstudio"
cd "$work"
"$env/python" - <<'END'
import importlib.util
from pathlib import Path

from PIL import Image, ImageDraw

from img3d_assets.splat_files import read_splats
from img3d_generators import generate

assert importlib.util.find_spec("nerfstudio") is None
picture = Image.new("RGBA", (128, 128))
ImageDraw.Draw(picture).ellipse((20, 20, 108, 108), fill=(200, 30, 30, 255))
picture.save("ball.png")
generate("img3d-small", "ball.png").save("ball.spz")
print(len(read_splats(Path("ball.spz"))[0]), "Gaussians of one image")
END
"$env/img3d-export" splat --input ball.spz --output ball.sog
"$env/img3d-export" mesh --input ball.spz --output ball.glb && exit 1 || test $? = 1  # says which extra it needs

echo "== With Nerfstudio"
"$env/pip" install --quiet --no-compile -c "$checkout/constraints.txt" "$(echo "$work"/dist/img3d-*.whl)[nerfstudio,remote]"
"$env/pip" check

cp -r "$checkout/sample/still_life" "$work/photos"
cd "$work"
export PYTHONWARNINGS=ignore::FutureWarning,ignore::DeprecationWarning

echo "== Its commands"
"$env/ns-train" --help > train_help.txt
grep -q img3d-splat train_help.txt
"$env/img3d-export" --help > export_help.txt
"$env/img3d-photos" --help > photos_help.txt
"$env/img3d-weights" list

echo "== 50 steps and an export"
"$env/ns-train" img3d-splat --data photos --output-dir outputs --timestamp wheel --vis tensorboard --max-num-iterations 50 \
  img3d-photos --triangulate-points False
run=$(dirname outputs/*/img3d-splat/wheel/config.yml)
"$env/img3d-export" splat --load-config "$run/config.yml" --output scene.spz
"$env/img3d-export" viewer --input scene.spz --output-dir page
ls -l scene.spz page
echo "== The wheel works"
