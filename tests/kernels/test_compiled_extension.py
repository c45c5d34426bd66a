# SPDX-License-Identifier: Apache-2.0
"""The extension itself: every instruction set, arrays of the wrong kind, errors, its pool of threads."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from every_kernel import calls, results
from hang_limit import HANG_SECONDS

_C = pytest.importorskip("img3d_kernels._C", reason="the compiled kernels are not built")

HERE = Path(__file__).parent
CSRC = HERE.parents[1] / "img3d_kernels" / "csrc"
TOOLS = HERE.parents[1] / "tools"
ARM = HERE.parents[1] / "build" / "aarch64"
NOT_DOWNLOADED = 3
"""aarch64.sh's exit status."""
TOLERANCE = 1e-4
"""Between instruction sets, relative to an array's largest value. They differ in fused products and in the order of
sums: single precision (6e-8) times some hundred splats in a pixel or pixels of a splat. A lane that is computed wrongly
gives 1e-2 and more."""
OUTLIERS = 0.003
"""Share of values that may differ by more: alpha = 1/255 and the transmittance's minimum are jumps."""
CHOICES = 0.05
"""Share of pixels that may have another plane: one that costs as much but for rounding."""
CALLED = calls(_C)


def has(isa: str) -> bool:
    """Whether this processor has an instruction set that the extension is built for besides the baseline."""
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    needed = {
        "baseline": (),
        "avx2": ("avx2", "fma", "bmi2"),
        "avx512": ("avx512f", "avx512vl", "avx512bw", "avx512dq"),
    }
    return all(f" {flag} " in flags.replace("\n", " ") for flag in needed[isa])


def assert_same_results(file: Path, isa: str, bfloat16: bool = False) -> None:
    """What every_kernel.py wrote with an instruction set is what this process gets with the set of all other tests."""
    with np.load(file) as arrays:
        assert arrays["isa"] == isa
        actual = {name: arrays[name] for name in arrays.files if name != "isa"}
    expected = results(_C, bfloat16)
    assert actual.keys() == expected.keys()
    for name, array in expected.items():
        assert np.isfinite(array).all() and np.abs(array).max() > 0, name
        off = np.abs(actual[name] - array) > TOLERANCE * np.abs(array).max()
        allowed = CHOICES if name.startswith("patch_match") else OUTLIERS
        assert off.mean() <= allowed, f"{name}: {off.mean():.2%} differ"


class TestInstructionSets:
    @pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512"])
    def test_every_kernel(self, isa: str, tmp_path: Path) -> None:
        if not has(isa):
            pytest.skip(f"this processor has no {isa}")
        command = [sys.executable, str(HERE / "every_kernel.py"), _C.__file__, str(tmp_path / "results.npz")]
        subprocess.run(command, check=True, env={**os.environ, "IMG3D_ISA": isa}, timeout=HANG_SECONDS)
        assert_same_results(tmp_path / "results.npz", isa)

    @pytest.mark.skipif(not _C.has_bfloat16_fields(), reason="this processor has no products of bfloat16")
    def test_bfloat16_without_amx(self, tmp_path: Path) -> None:
        """With AVX-512's products of bfloat16, where others have those of AMX."""
        command = [
            sys.executable,
            str(HERE / "every_kernel.py"),
            _C.__file__,
            str(tmp_path / "results.npz"),
            "bfloat16",
        ]
        subprocess.run(command, check=True, env={**os.environ, "IMG3D_ISA": "avx512"}, timeout=HANG_SECONDS)
        assert_same_results(tmp_path / "results.npz", "avx512", bfloat16=True)

    @pytest.mark.long
    def test_every_kernel_on_arm(self, tmp_path: Path) -> None:
        """Cross-compiled for 64-bit Arm, and run by qemu-aarch64."""
        for tool in ("aarch64-linux-gnu-g++", "qemu-aarch64", "apt-get", "dpkg-deb"):
            if shutil.which(tool) is None:
                pytest.skip(f"no {tool}: apt-get install g++-aarch64-linux-gnu qemu-user")
        build = subprocess.run(
            [TOOLS / "aarch64.sh", ARM, sys.executable],
            capture_output=True,
            text=True,
            timeout=HANG_SECONDS,
            check=False,
        )
        if build.returncode == NOT_DOWNLOADED:
            pytest.skip(f"Debian's packages for arm64 cannot be downloaded: {build.stderr.strip().splitlines()[-1:]}")
        assert build.returncode == 0, build.stdout + build.stderr
        (extension,) = (ARM / "build").glob("_C.*.so")
        root = ARM / "root"
        # Debian's numpy finds its BLAS through links that installing would make.
        libraries = ":".join(str(root / "usr/lib/aarch64-linux-gnu" / name) for name in ("blas", "lapack"))
        (python,) = root.glob("usr/bin/python3.[0-9]*")
        emulated = ["qemu-aarch64", "-L", root, "-E", f"LD_LIBRARY_PATH={libraries}", python]
        command = [*emulated, HERE / "every_kernel.py", extension, tmp_path / "results.npz"]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        subprocess.run(command, check=True, env=environment, timeout=HANG_SECONDS)
        assert_same_results(tmp_path / "results.npz", "baseline")

    def test_none_is_left_out(self) -> None:
        functions = {name for name in dir(_C) if callable(getattr(_C, name)) and not name.startswith("_")}
        others = {"RasterState", "FieldArrays", "isa", "num_threads", "set_num_threads"}
        others |= {"has_attention_bfloat16", "has_bfloat16_fields"}
        only_on_some = {"attention_bfloat16"}  # test_attention.py
        assert functions - others - only_on_some == CALLED.keys()


ARRAYS = [
    (kernel, name)
    for kernel, (inputs, outputs) in CALLED.items()
    for name, value in {**inputs, **outputs}.items()
    if isinstance(value, np.ndarray) and name != "loss"
]


def call_with(kernel: str, **changed: Any) -> None:
    inputs, outputs = CALLED[kernel]
    outputs = {name: array for name, array in outputs.items() if name != "loss"}
    getattr(_C, kernel)(**{**inputs, **outputs, **changed})


class TestArraysOfTheWrongKind:
    """Converted silently, a result would go into a copy."""

    @pytest.mark.parametrize(("kernel", "name"), ARRAYS)
    def test_refused(self, kernel: str, name: str) -> None:
        array = {**CALLED[kernel][0], **CALLED[kernel][1]}[name]
        wrong = {"another type": array.astype(np.float64), "with gaps": np.repeat(array, 2, axis=-1)[..., ::2]}
        if array.ndim > 1:
            wrong["columns first"] = np.asfortranarray(array)
        for what, other in wrong.items():
            if what == "another type" or not other.flags.c_contiguous:
                with pytest.raises(TypeError):
                    call_with(kernel, **{name: other})
                    pytest.fail(f"{what} was taken")

    @pytest.mark.parametrize(("kernel", "name"), [pair for pair in ARRAYS if pair[1] in CALLED[pair[0]][1]])
    def test_results_into_an_array_that_may_not_be_written(self, kernel: str, name: str) -> None:
        array = CALLED[kernel][1][name].copy()
        array.flags.writeable = False
        with pytest.raises(TypeError):
            call_with(kernel, **{name: array})

    @pytest.mark.parametrize(("kernel", "name"), ARRAYS)
    def test_too_small(self, kernel: str, name: str) -> None:
        array = {**CALLED[kernel][0], **CALLED[kernel][1]}[name]
        with pytest.raises(ValueError, match=r"elements|shape|together|high|levels"):
            call_with(kernel, **{name: np.ascontiguousarray(array[:-1])})


def test_a_backward_pass_needs_a_forward_pass_that_kept_what_it_takes() -> None:
    inputs, outputs = CALLED["rasterize_forward"]
    state = _C.rasterize_forward(**{**inputs, "for_backward": False}, **outputs)
    with pytest.raises(ValueError, match="needs a forward pass with for_backward"):
        call_with("rasterize_backward", state=state)


WITHOUT_MEMORY = """
import sys, resource
sys.path.insert(0, {here!r})
import numpy as np
from importlib.util import module_from_spec, spec_from_file_location
spec = spec_from_file_location("img3d_kernels._C", {extension!r})
_C = module_from_spec(spec)
spec.loader.exec_module(_C)
_C.set_num_threads(4)
side, n = 4096, 2000
everywhere = [np.full((n, 2), side / 2, np.float32), np.tile(np.array([1e-8, 0, 1e-8], np.float32), (n, 1))]
seen = [np.ones((n, 1), np.float32), np.full(n, 0.5, np.float32), np.full(n, 3 * side, np.int32)]
outputs = [np.zeros((side, side, 1), np.float32), np.zeros((side, side), np.float32)]

def blend(n, side):
    arrays = [np.ascontiguousarray(array[:n]) for array in (*everywhere, *seen, np.ones(2000, np.float32))]
    return _C.rasterize_forward(*arrays, None, side, side, True, *[array[:side, :side].copy() for array in outputs])

blend(10, 64)  # its threads are there
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 400_000_000, -1))
for attempt in range(2):
    try:
        blend(n, side)
    except MemoryError:
        print("MemoryError")
print(blend(10, 64).n_visible)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads its size from /proc")
def test_want_of_memory_in_a_thread_of_the_pool_is_a_memory_error() -> None:
    """2,000 Gaussians over 65,536 tiles: the lists of tiles alone, which the pool's threads write, take 500 MB."""
    script = WITHOUT_MEMORY.format(here=str(HERE), extension=_C.__file__)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=HANG_SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["MemoryError", "MemoryError", "10"]


def test_the_pool_of_threads(tmp_path: Path) -> None:
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    if compiler is None:
        pytest.skip("no C++ compiler")
    sources = [str(HERE / "thread_pool_test.cpp"), str(CSRC / "common" / "thread_pool.cpp")]
    flags = ["-std=c++17", "-O1", "-g", "-pthread", f"-I{CSRC}", *os.environ.get("CXXFLAGS", "").split()]
    command = [compiler, *flags, *sources, "-o", str(tmp_path / "test")]
    subprocess.run(command, check=True, timeout=HANG_SECONDS)
    done = subprocess.run([tmp_path / "test"], capture_output=True, text=True, timeout=HANG_SECONDS, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
