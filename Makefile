# The doors: `make demo`, `make test`, `make check`. Everything else is CMake presets (cmake --list-presets).
.PHONY: demo test check nightly build clean
.NOTPARALLEL:

# The compilers are short of memory before they are short of cores on small machines: one job per core.
JOBS := $(shell getconf _NPROCESSORS_ONLN)
export JOBS

demo: build
	@scripts/demo.sh build/portable/candela

build:
	@scripts/setup.sh
	@cmake --preset portable
	@cmake --build --preset portable --parallel $(JOBS) --target candela_cli

test:
	@scripts/test.sh

check: test
	@scripts/check.sh

nightly:
	@scripts/nightly.sh

clean:
	rm -rf build out
