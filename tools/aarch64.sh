#!/usr/bin/env bash
# Builds the kernels for 64-bit Arm on another Debian machine, with a Python and a numpy that qemu-aarch64 runs there:
# tests/kernels/test_compiled_extension.py compares their results with this machine's. Needs
#
#     apt-get install g++-aarch64-linux-gnu qemu-user
#     tools/aarch64.sh FOLDER [.venv/bin/python]
#
# FOLDER/root gets Debian's packages for arm64, FOLDER/build the extension. Exit status 3: they could not be downloaded.
set -euo pipefail
folder=$(mkdir -p "$1" && cd "$1" && pwd)
python=$(cd "$(dirname "${2:-.venv/bin/python}")" && pwd)/$(basename "${2:-.venv/bin/python}")
checkout=$(cd "$(dirname "$0")/.." && pwd)
root=$folder/root

if [ ! -e "$root/.unpacked" ]; then
  # A package database of its own: this machine's stays as it is, and nothing is installed here.
  apt=$folder/apt
  mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$root"
  touch "$apt/status"
  options=(-qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o "Dir::State::lists=$apt/lists"
    -o "Dir::State::status=$apt/status" -o "Dir::Cache=$apt/cache" -o Debug::NoLocking=1)
  apt-get "${options[@]}" update || exit 3
  apt-get "${options[@]}" install --yes --download-only --no-install-recommends \
    libpython3-dev libstdc++6 python3-minimal python3-numpy || exit 3
  for package in "$apt"/cache/archives/*.deb; do dpkg-deb --extract "$package" "$root"; done
  touch "$root/.unpacked"
fi

headers=("$root"/usr/include/python3.*)
"$python" -m cmake -S "$checkout" -B "$folder/build" -G Ninja -DCMAKE_BUILD_TYPE=Release \
  -DCMAKE_TOOLCHAIN_FILE="$checkout/tools/aarch64.cmake" -DCMAKE_CXX_FLAGS="-I$root/usr/include" \
  -DCMAKE_MAKE_PROGRAM="$(dirname "$python")/ninja" -DPython_EXECUTABLE="$python" -DPython_INCLUDE_DIR="${headers[0]}" \
  -DIMG3D_KERNELS_ONLY=ON
"$python" -m cmake --build "$folder/build"
