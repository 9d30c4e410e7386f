# SPDX-License-Identifier: Apache-2.0
# Two commands, each doing its own set-up (Debian packages, a cached environment of PyPI wheels, the
# build). CONTRIBUTING.md has the finer-grained ones.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.PHONY: demo llama test build benchmark
.DEFAULT_GOAL := build

# `export X=$(...)` would hide a failing set-up.
SETUP = KERNELHUB_VENV=$$(tools/setup); export KERNELHUB_VENV

build:
	@$(SETUP); cmake --preset dev && cmake --build --preset dev

demo:
	@$(SETUP); cmake --preset dev >/dev/null && \
	  cmake --build --preset dev --target kernelhub_cli kernelhub_python sentence_embeddings && \
	  "$$KERNELHUB_VENV/bin/python" examples/demo/run.py --build-dir build/dev

llama:
	@$(SETUP); cmake --preset dev >/dev/null && \
	  cmake --build --preset dev --target kernelhub_cli kernelhub_python llama_block && \
	  examples/llama_block/run build/dev

test:
	@$(SETUP); cmake --workflow --preset dev

benchmark:
	@$(SETUP); cmake --preset dev >/dev/null && cmake --build --preset dev && \
	  "$$KERNELHUB_VENV/bin/python" benchmarks/run.py --build-dir build/dev && \
	  benchmarks/cpu/run
