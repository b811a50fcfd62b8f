# `make demo` runs the main job, `make test` the tests; `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

FEATURES := rocksdb,memory,s3,hdfs,job,timely,kafka,cli,test-support
# Everything a build needs: see scripts/setup. It installs what is missing, or says how.
READY = eval "$$(scripts/setup)"
CACHE := $(or $(ICECORE_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/icecore)
BUILDING = echo "building icecore and its dependencies: about 10 minutes on 2 cores the first time, seconds later" >&2

.PHONY: help demo demo-job test test-long test-quick examples lint doc fuzz bench release services

help: ## This list.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: ## NEXMark on RocksDB: checkpoints, kill -9, restore at another parallelism, compare, collect. STORE=s3 or hdfs: on a server.
	@$(READY); $(BUILDING); exec scripts/demo $(FEATURES) "$(STORE)" $(ARGS)

demo-job: ## A job on Kafka: workers, kill -9, more workers, the page, and each result exactly once. ARGS=--no-wait: ends by itself.
	@$(READY); $(BUILDING); exec scripts/demo-job $(FEATURES) $(ARGS)

test: ## All tests, against the real RocksDB, S3, HDFS and Kafka.
	@$(READY); $(BUILDING); exec scripts/test $(FEATURES)

test-long: ## All tests in their long forms (docs/building.md): about 20 minutes more.
	@$(READY); $(BUILDING); export ICECORE_LONG=1; exec scripts/test $(FEATURES)

test-quick: ## The tests that need no RocksDB; nothing is installed, RocksDB is neither built nor fetched.
	CARGO_TARGET_DIR=$(CACHE)/target cargo test --features memory,test-support

services: ## A real S3 server and a real HDFS to play with, and the lines to paste; Ctrl-C stops them.
	@exec scripts/services start $(ARGS)

lint: ## rustfmt, clippy and rustdoc with warnings denied; the rules of the house.
	@$(READY); scripts/lint $(FEATURES)

doc: ## The API's documentation, in your browser.
	@$(READY); cargo doc --no-deps --features $(FEATURES) --open

examples: ## Every example, to its end.
	@$(READY); $(BUILDING); scripts/examples $(FEATURES)

fuzz: ## Fuzzes what is read from a store, 60 seconds a target.
	scripts/fuzz 60

bench: ## All benches, with ratios against plain alternatives (docs/performance.md).
	@$(READY); cargo bench --features $(FEATURES)

release: ## The command, RocksDB linked statically: about 20 minutes the first time.
	@export ROCKSDB_BUILD=static; $(READY); cargo build --release --features rocksdb,cli
