# Everything from a fresh clone on Debian 12: `make demo`, `make test`. llama.cpp and the models lie in a cache outside
# the tree (AURORA_CACHE, by default ~/.cache/aurora) and are made or fetched once.
BUILD ?= build
JOBS ?= $(shell nproc)

.PHONY: help setup build programs deb model models nats-server clients watchers test demo demo-cluster clean
.DEFAULT_GOAL := help

help:
	@echo "make demo     set up, build, serve sample traffic, draw the learning curve (demo/report.html)"
	@echo "make demo-cluster  three brokers, two servers, two trainer ranks on this machine"
	@echo "make test     set up, build, run every test"
	@echo "make programs set up and build what is run: $(BUILD)/aurora, $(BUILD)/aurora-train"
	@echo "make build    the same with tests and benches"
	@echo "make deb      a Debian package of these two, for machines with this one's CPU"
	@echo "make setup    install what is missing (apt)"
	@echo "make models   fetch the larger targets, Qwen2.5-Coder 0.5B and 1.5B (1.6 GB)"
	@echo "make clean    remove the build folders and demo/"
	@echo "BUILD=folder and JOBS=n change where and how wide."

setup:
	@scripts/setup.sh

build: setup
	cmake -S . -B $(BUILD) -G Ninja
	ninja -C $(BUILD) -j $(JOBS)

# What a user runs, without tests and benches.
programs: setup
	cmake -S . -B $(BUILD) -G Ninja
	ninja -C $(BUILD) -j $(JOBS) aurora aurora-train

model: setup
	@scripts/fetch_model.py

models: setup
	@scripts/fetch_model.py qwen2.5-coder-0.5b qwen2.5-coder-1.5b

nats-server: setup
	@scripts/fetch_nats_server.py

clients: setup
	@scripts/fetch_clients.py

# What looks at a running server in tests: a browser, Prometheus; and at the man page.
watchers:
	@scripts/setup.sh chromium mandoc
	@scripts/fetch_prometheus.py

test: build model nats-server clients watchers
	@JOBS=$(JOBS) scripts/test.sh $(BUILD)

demo: programs model
	@AURORA_BUILD=$(BUILD) scripts/demo.py

demo-cluster: programs model nats-server
	@AURORA_BUILD=$(BUILD) scripts/demo_cluster.py

deb: programs
	cd $(BUILD) && cpack -G DEB

clean:
	rm -rf $(BUILD) build-address-undefined build-thread demo
