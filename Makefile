# Two doors: `make demo` and `make test`. Everything else is CMake presets (cmake --list-presets).
.PHONY: demo test build clean

# The compilers are short of memory before they are short of cores on small machines: one job per core.
JOBS := $(shell getconf _NPROCESSORS_ONLN)

demo: build
	@scripts/demo.sh build/portable/candela

build:
	@scripts/setup.sh
	@cmake --preset portable
	@cmake --build --preset portable --parallel $(JOBS) --target candela_cli

test:
	@scripts/test.sh $(JOBS)

clean:
	rm -rf build out
