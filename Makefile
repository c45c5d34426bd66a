# `make demo` and `make test` are all that a fresh machine needs. Both create the environment first, where it is missing,
# unfinished or out of date.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEPENDENCIES := $(VENV)/.dependencies
INSTALLED := $(VENV)/.installed

SAMPLE := sample/still_life
DEMO := outputs/still_life/img3d-splat/demo
DEMO_STEPS ?= 3000

export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Nerfstudio 1.1.5 calls what torch has deprecated; nothing that a user could act on.
export PYTHONWARNINGS := ignore::FutureWarning,ignore::DeprecationWarning

.PHONY: demo test test-long lint docs env try-wheel wheel sdist docker viewer-page clean
.DELETE_ON_ERROR:

demo: $(DEMO)/turntable.png $(DEMO)/splat.ply $(DEMO)/eval.json
	@echo
	@echo "The run:        $(DEMO)"
	@echo "Held-out photos: $$($(BIN)/python -c 'import json, sys; \
		r = json.load(open(sys.argv[1]))["results"]; print("PSNR %.2f dB, SSIM %.3f" % (r["psnr"], r["ssim"]))' $(DEMO)/eval.json)"
	@echo "Splats:         $(DEMO)/splat.ply   (opens in any Gaussian splat viewer)"
	@echo "A turn around:  $(DEMO)/turntable.png"
	@echo "Browse it:      $(BIN)/ns-viewer --load-config $(DEMO)/config.yml"

test: $(INSTALLED) lint
	@echo "== Tests, the real command lines included (about 25 minutes on two cores)"
	$(BIN)/python -m pytest -m "not cuda and not long" -n 2 --dist loadscope --no-loadscope-reorder

# The longest, which CI leaves out: every photo of the larger sets, every service by its commands, kernels for Arm.
test-long: $(INSTALLED)
	$(BIN)/python -m pytest -m "long and not cuda"

lint: $(INSTALLED)
	@echo "== Lint, format, imports and types"
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/pyright --pythonpath $(BIN)/python

# A static site in build/site, whose pages open from a disk. Any warning (a broken link, say) is an error.
docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --clean

env: $(INSTALLED)

# pip builds those dependencies that come as source only in isolated environments, as their authors expect. What is
# imported is compiled then, and kept: compiling all of it takes minutes.
$(DEPENDENCIES): pyproject.toml constraints.txt tools/requirements.py
	@$(PYTHON) tools/check_system.py
	@echo "== Environment in $(VENV): about 9 GB and 5 minutes the first time"
	$(BIN)/python -m pip --version 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python tools/requirements.py batch dev docs nerfstudio remote studio > $(VENV)/requirements.txt
	$(BIN)/python -m pip install --no-compile -c constraints.txt -r $(VENV)/requirements.txt
	touch $@

# img3d itself is built without isolation: its build folder is reused, and CMake must find the same tools there again.
$(INSTALLED): $(DEPENDENCIES) CMakeLists.txt $(wildcard img3d_kernels/csrc/*.* img3d_kernels/csrc/*/*.* img3d_exporters/web/*.*)
	@echo "== Building img3d's kernels, and its page where npm is installed"
	$(BIN)/python -m pip install --no-deps --no-build-isolation -e .
	touch $@

# What a stranger gets: a wheel, installed into an empty environment and used outside the checkout.
try-wheel:
	@$(PYTHON) tools/check_system.py
	tools/try_wheel.sh $(PYTHON)

# A wheel that other Linux machines can install, in dist/: auditwheel checks the libraries that it links to, and names it
# after the oldest glibc that has their symbols.
wheel: $(INSTALLED)
	rm -rf build/wheel
	$(BIN)/python -m pip wheel --no-deps --no-build-isolation --wheel-dir build/wheel .
	PATH=$(abspath $(BIN)):$$PATH $(BIN)/auditwheel repair --wheel-dir dist build/wheel/img3d-*.whl

# The sources with the built viewer page, in dist/: `pip install` of it needs a C++ compiler, and no npm.
sdist: $(INSTALLED) viewer-page
	mkdir -p dist
	$(BIN)/python -c 'from scikit_build_core.build import build_sdist; print("dist/" + build_sdist("dist"))'

# An image with img3d and all that its commands need, for a CPU.
docker:
	docker build --tag img3d .

# The renderer in the page of `img3d-export viewer`, from npm. Installing builds it too, where there is Node 18 or later.
viewer-page:
	cd img3d_exporters/web && npm ci --silent --ignore-scripts && npm run --silent build

# Nerfstudio writes config.yml before it trains: this file says that it also finished.
$(DEMO)/.trained: $(INSTALLED)
	@echo "== Training on $(SAMPLE): $(DEMO_STEPS) steps, a few minutes on two cores"
	$(BIN)/ns-train img3d-splat --data $(SAMPLE) --output-dir outputs --experiment-name still_life --timestamp demo \
		--vis tensorboard --max-num-iterations $(DEMO_STEPS)
	touch $@

$(DEMO)/eval.json: $(DEMO)/.trained
	@echo "== Measuring the held-out photos"
	$(BIN)/ns-eval --load-config $(DEMO)/config.yml --output-path $@

$(DEMO)/splat.ply: $(DEMO)/.trained
	@echo "== Exporting splats"
	$(BIN)/ns-export gaussian-splat --load-config $(DEMO)/config.yml --output-dir $(DEMO)

$(DEMO)/turntable.png: $(DEMO)/.trained tools/turntable.py
	@echo "== Rendering a turn around the scene"
	$(BIN)/python tools/turntable.py --load-config $(DEMO)/config.yml --output $@

clean:
	rm -rf outputs build

# The kernels' tests with a checked build of them: addresses and undefined behaviour, or `make sanitize SANITIZE=thread` for
# data races. The first finding ends it. Fresh memory is filled with NaN: nothing may depend on its being zero. Tests that
# measure memory are left out, as checks take some, and those that call others' code alone.
SANITIZE ?= address,undefined,float-cast-overflow
comma := ,
CHECKED := build/sanitize-$(subst $(comma),-,$(SANITIZE))
CHECKER := $(if $(findstring thread,$(SANITIZE)),libtsan.so,libasan.so)

.PHONY: sanitize
sanitize: $(INSTALLED)
	$(BIN)/cmake -S . -B $(CHECKED) -G Ninja -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN))/ninja -DCMAKE_CXX_COMPILER=$(CXX) \
		-DCMAKE_BUILD_TYPE=RelWithDebInfo -DIMG3D_SANITIZE=$(SANITIZE) -DPython_EXECUTABLE=$(abspath $(BIN))/python
	$(BIN)/cmake --build $(CHECKED)
	LD_PRELOAD=$$($(CXX) -print-file-name=$(CHECKER)):$$($(CXX) -print-file-name=libstdc++.so) \
	ASAN_OPTIONS=detect_leaks=0:max_malloc_fill_size=1073741824:malloc_fill_byte=255 \
	UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 TSAN_OPTIONS=halt_on_error=1 \
	IMG3D_TEST_EXTENSION=$$(ls $(abspath $(CHECKED))/_C.*.so) OMP_NUM_THREADS=1 \
	CXX=$(CXX) CXXFLAGS="-fsanitize=$(SANITIZE) -fno-sanitize-recover=all" \
	$(BIN)/python -m pytest tests/kernels -m "not cuda" -k "not memory" --capture=sys \
		--ignore-glob "*/test_torch_*" --ignore-glob "*/test_mesh_*"
