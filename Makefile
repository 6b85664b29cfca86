# Set-up and the few commands that a newcomer needs. Everything else is `dvc`.

# The first that runs; not the first that is found, for a shim of pyenv's can stand for a Python that is not there.
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3.14; do \
	$$python -c 0 2> /dev/null && echo $$python && exit; done; echo python3)
VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
PYTEST := python -m pytest -n 2 --dist worksteal

.PHONY: help setup demo repro compare plots experiment experiments search adopt test test-slow test-all test-processors export-requirements ray-requirements s3-requirements postgres-requirements for-every-test browser postgres hosts fuzz lint format benchmark benchmark-peers screenshots clean

help: ## Show this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## (.*)/make \1\t\2/' | expand -t 28

setup: $(VENV)/ready ## Make .venv with the pinned requirements

# torch goes first, by itself: then torchvision and timm find the pinned one and ask for no other.
$(VENV)/ready: requirements.txt requirements-dev.txt constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' || { echo >&2 \
		"$(PYTHON) is no Python 3.11 to 3.14. Install one of these, or name it: make setup PYTHON=/path/to/it"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt $$(grep -o '^torch==[^ ]*' requirements.txt)
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt -r requirements.txt -r requirements-dev.txt
	touch $@

demo: setup ## A first look in two minutes: the pipeline on few images, in a folder of its own, demo/
	@python -m stages.demo

repro: setup ## Run the experiment and print its result
	dvc repro
	@python -m stages.summary

# Two experiments, of each arm's means as they stand under metrics/: `review` alone runs, so nothing is trained. Git keeps
# each as a commit, whose author does not matter here where it knows none.
compare: export GIT_COMMITTER_NAME ?= $(shell git config user.name || echo nobody)
compare: export GIT_COMMITTER_EMAIL ?= $(shell git config user.email || echo nobody@localhost)
compare: setup ## Show uniform against differential rates, from what has been trained
	@stale=$$(dvc repro --dry --allow-missing review 2> /dev/null \
		| sed -n "s/^Running stage '\(.*\)':$$/\1/p" | grep -vx check_params); \
		test -z "$$stale" || echo "warning: metrics/ is compared as it stands; a change since waits for dvc repro" \
			"($$(echo $$stale))" >&2
	@dvc exp run --quiet --temp --force --name uniform --set-param review.arm=baseline --single-item review
	@dvc exp run --quiet --temp --force --name differential --set-param review.arm=differential --single-item review
	dvc metrics diff --all uniform differential --targets metrics/review.json
	@python -m stages.summary --environment

plots: setup ## Draw DVC's plots as a page that asks the network for nothing
	@python -m stages.plots_template
	dvc plots show --html-template .dvc/tmp/plots.html

# What is no terminal, such as a file or `less -S`, has no width of its own, and DVC would hide columns there as in 80.
experiments: setup ## Show in a table how experiments differ, as far as the terminal is wide: rates, accuracy, gap, goal
	@test -t 1 || export COLUMNS=10000; \
	dvc exp show --no-pager --only-changed --precision 3 --drop '^(Created|Executor|val_loss|requirements|params\.yaml$$)|.*/'
	@echo 'Columns that a narrow terminal hides: `make experiments | less -S`. Every column: `dvc exp show --csv`.'

experiment: setup ## Run a preset of experiments/, such as NAME=deitsch-2019, as a DVC experiment beside the workspace
	@test -f "experiments/$(NAME)" || { echo "Name one of them, such as NAME=deitsch-2019: $$(ls experiments)" >&2; exit 1; }
	grep -v '^#' "experiments/$(NAME)" | sed 's/^/--set-param=/' | tr '\n' '\0' \
		| xargs -0 dvc exp run --temp --name "$(NAME)"

STUDY ?= sgd

search: setup ## Tune both arms alike and say which rates to take; STUDY=adam another study, TRIALS=8 a first look
ifdef TRIALS
	dvc repro search/dvc.yaml:split
	@python -m stages.search $(STUDY) --trials $(TRIALS)
else
	dvc repro search/dvc.yaml:report@$(STUDY)
	@python -m stages.recommend $(STUDY)
endif

adopt: setup ## Write the rates that a search found into params.yaml; STUDY=adam those of another study
	@python -m stages.adopt $(STUDY)

test: setup ## Run the tests that every change needs
	$(PYTEST) -m "not slow"

test-slow: for-every-test ## Run the tests that `make test` leaves out
	$(PYTEST) -m slow --durations 25

PROFILE := thorough

test-all: for-every-test ## Run every test, with more examples of each law; PROFILE=quick with as many as `make test`
	$(PYTEST) --hypothesis-profile $(PROFILE) --durations 25

# As the machine is, without AVX-512, and with the arithmetic that every processor has.
test-processors: setup ## Run `make test` under other instruction sets of the processor
	@for setting in \
		"" \
		"ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2" \
		"ATEN_CPU_CAPABILITY=default" \
		"ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41"; \
	do \
		echo "== tests with $${setting:-the processor as it is}"; \
		env $$setting $(PYTEST) -m "not slow" || { echo "failed with $${setting:-the processor as it is}"; exit 1; }; \
	done

export-requirements: $(VENV)/ready-export ## Install what ONNX needs; without it `make test` skips its tests

s3-requirements: $(VENV)/ready-s3 ## Install what a remote on S3 needs, or on what speaks its protocol

ray-requirements: $(VENV)/ready-ray ## Install Ray, for train.engine: ray; without it its tests are skipped

postgres-requirements: $(VENV)/ready-postgres ## Install what a shared search needs; without it its tests are skipped

for-every-test: export-requirements ray-requirements s3-requirements $(VENV)/ready-s3-server postgres-requirements browser postgres hosts ## Install everything that some test needs

$(VENV)/ready-%: requirements-%.txt $(VENV)/ready
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt -r $<
	touch $@

browser: ## Get the browser for the tests of the report page, where Debian's packages have it
	@if command -v chromium > /dev/null || command -v google-chrome > /dev/null; then :; \
	elif command -v apt-get > /dev/null && [ "$$(id -u)" = 0 ]; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes chromium > /dev/null \
			|| echo "Chromium could not be installed: the tests of the report page will be skipped"; \
	else echo "There is no Chromium: the tests of the report page will be skipped"; \
	fi

postgres: ## Get PostgreSQL's server for the tests of a shared search, where Debian's packages have it
	@if command -v initdb > /dev/null || ls /usr/lib/postgresql/*/bin/initdb > /dev/null 2>&1; then :; \
	elif command -v apt-get > /dev/null && [ "$$(id -u)" = 0 ]; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes postgresql > /dev/null \
			|| echo "PostgreSQL could not be installed: the tests of a shared search will be skipped"; \
	else echo "There is no PostgreSQL: the tests of a shared search will be skipped"; \
	fi

hosts: ## Get what tests of a network need, which stands in for several hosts, where Debian's packages have it
	@if command -v ip > /dev/null && command -v nft > /dev/null; then :; \
	elif command -v apt-get > /dev/null && [ "$$(id -u)" = 0 ]; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes iproute2 nftables > /dev/null \
			|| echo "iproute2 and nftables could not be installed: the tests of a network will be skipped"; \
	else echo "There is no ip or no nft: the tests of a network will be skipped"; \
	fi

fuzz: setup ## Feed 10,000 broken files to everything that reads files from outside
	python -m pytest -n 2 --hypothesis-profile nightly tests/test_fuzz.py

lint: setup ## Check style, types and the GitHub workflows
	ruff check .
	ruff format --check .
	mypy
	actionlint

format: setup ## Put the code into its one format
	ruff check --fix .
	ruff format .

benchmark: setup ## Measure the speed of training against the bare network
	python -m benchmarks.training_speed

benchmark-peers: setup ## Measure the exercise's script, timm, Lightning, fastai and this pipeline on the same images
	python -m benchmarks.peers

screenshots: setup ## Photograph the report page for the README (needs Chromium)
	python docs/screenshots.py

clean: ## Remove .venv; data, models and DVC's cache stay
	rm -rf $(VENV)
