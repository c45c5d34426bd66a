# `make demo` and `make test` are all that a fresh machine needs (Debian 12, Python 3.10 to 3.12, g++, make).
# Both create the environment first, where it is missing or out of date.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

SAMPLE := sample/still_life
DEMO := outputs/still_life/img3d-splat/demo
DEMO_STEPS ?= 3000

export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Nerfstudio 1.1.5 calls what torch has deprecated; nothing that a user could act on.
export PYTHONWARNINGS := ignore::FutureWarning,ignore::DeprecationWarning

.PHONY: demo test lint env viewer-page clean
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
	$(BIN)/python -m pytest -m "not cuda" -n 2 --dist loadscope

lint: $(INSTALLED)
	@echo "== Lint, format and types"
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

env: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt CMakeLists.txt $(wildcard img3d_kernels/csrc/* img3d_exporters/web/*.*)
	@echo "== Environment in $(VENV): about 8 GB and 4 minutes the first time, seconds to bring it up to date"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt cmake nanobind ninja scikit-build-core
	$(BIN)/python -m pip install -c constraints.txt --no-build-isolation -e '.[dev]' | grep -v "already satisfied"
	touch $@

# The renderer in the page of `img3d-export viewer`, from npm. Installing builds it too, where there is Node 18 or later.
viewer-page:
	cd img3d_exporters/web && npm install --silent && npm run --silent build

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
