# SPDX-License-Identifier: MIT
# The front door: `make help` lists what it opens. The build itself is meson.build.

PREFIX ?= /usr/local
BUILD ?= build
CC ?= cc
WERROR ?= false
JOBS ?=
DESTDIR ?=
MESON = meson
NINJA = ninja $(if $(JOBS),-j$(JOBS))

export CC DESTDIR

# Configures $(1) with the options $(2), again when a source came or went, and builds it.
define build
scripts/configure $(1) $(2)
@$(NINJA) -C $(1)
endef

.PHONY: all demo check check-long bench lint asan tsan fuzz soak arm64 install clean help

all: ## build build/gnezdo and build/libgnezdo.so
	@scripts/deps build
	@$(call build,$(BUILD),--prefix $(PREFIX) -Dwerror=$(WERROR))

demo: all ## redis and nginx on the kernel and under gnezdo, side by side
	@scripts/deps demo
	@BUILD=$(abspath $(BUILD)) scripts/demo

check: all ## every test
	@scripts/deps check
	@BUILD=$(abspath $(BUILD)) tests/run $(SUITES)

check-long: all ## every test, and the slow ones: hours
	@scripts/deps check check-long
	@BUILD=$(abspath $(BUILD)) tests/run --long $(SUITES)

bench: all ## measure against the kernel: ratios
	@scripts/deps bench
	@BUILD=$(abspath $(BUILD)) bench/run

lint: ## forbidden includes, warnings of two compilers, static analysis
	@scripts/deps build lint
	@scripts/lint

asan: ## unit tests and the tests of programs under AddressSanitizer and UndefinedBehaviorSanitizer
	@scripts/deps build check
	@scripts/sanitize asan

tsan: ## ring and lane under ThreadSanitizer
	@scripts/deps build
	@scripts/sanitize tsan

fuzz: ## feed garbage to what reads a peer's words; TIME=60 seconds each
	@scripts/deps build lint
	@TIME=$(or $(TIME),60) scripts/fuzz

soak: all ## half an hour of random load with random kills; TIME=1800 seconds
	@scripts/deps check
	@BUILD=$(abspath $(BUILD)) tests/soak/run --seconds $(or $(TIME),1800)

arm64: ## build for ARM64 and run differential programs there under qemu-user
	@scripts/deps build arm64
	@scripts/arm64

install: all ## put it under PREFIX (/usr/local), with DESTDIR in front
	@$(MESON) install -C $(BUILD) --no-rebuild --quiet

clean: ## remove what was built
	rm -rf build build-*

help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):.* ## \(.*\)/make \1\t\2/p' Makefile | expand -t 20
