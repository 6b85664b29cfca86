# Set-up and the few commands that a newcomer needs. Everything else is `dvc`.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: help setup repro compare test fuzz lint format benchmark screenshots clean

help: ## Show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/make \1\t\2/' | expand -t 20

setup: $(VENV)/ready ## Make .venv with the pinned requirements

# torch goes first, by itself: then torchvision and timm find the pinned one and ask for no other.
$(VENV)/ready: requirements.txt requirements-dev.txt constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt $$(grep -o '^torch==[^ ]*' requirements.txt)
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt -r requirements.txt -r requirements-dev.txt
	touch $@

repro: setup ## Run the experiment and print its result
	dvc repro
	@python -m stages.summary

compare: setup ## Show uniform against differential rates, from what has been trained
	@dvc exp remove --quiet uniform 2> /dev/null || true
	dvc exp run --temp --name uniform --set-param review.arm=baseline --allow-missing
	dvc metrics diff uniform HEAD --targets metrics/review.json

test: setup ## Run every test
	python -m pytest -n 2 --dist loadfile

fuzz: setup ## Feed 10,000 broken files to everything that reads files from outside
	python -m pytest -n 2 --hypothesis-profile nightly tests/test_fuzz.py

lint: setup ## Check style, types and the GitHub workflow
	ruff check .
	ruff format --check .
	mypy
	actionlint

format: setup ## Put the code into its one format
	ruff check --fix .
	ruff format .

benchmark: setup ## Measure the speed of training against the bare network
	python -m benchmarks.training_speed

screenshots: setup ## Photograph the report page for the README (needs Chromium)
	python docs/screenshots.py

clean: ## Remove .venv; data, models and DVC's cache stay
	rm -rf $(VENV)
