# The experiment in a container, for those who would rather not install anything:
#
#   docker build -t differential-lr .
#   docker run --rm -it differential-lr make repro
#   docker run --rm -it differential-lr make test
#
# .git goes in too: experiments, `make compare`, `stages.verify` and some tests need commits, and `core.no_scm` would
# leave DVC with `dvc repro` alone. So build in a clone, not in a worktree, where .git is a file. What a run makes goes
# with --rm; without it, `docker cp` brings out report/ and metrics/. Without Chromium the page's tests are skipped.
# Docker itself has not built this file yet; buildah has, upon a plain Debian 12 in place of the base image, with a
# local build of torch for the CPU in place of the index.
FROM python:3.11.14-slim-bookworm

# Not pinned: Debian keeps only the latest of each in a release, so that a pinned one soon cannot be had.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git make \
    && rm -rf /var/lib/apt/lists/*

RUN useradd --create-home --uid 1000 user \
    && install --directory --owner user /home/user/differential-lr
USER 1000
WORKDIR /home/user/differential-lr

# The requirements first: a change of the code does not install them anew. For a GPU, build with an empty index.
ARG PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
ARG PIP_NO_CACHE_DIR=1
COPY --chown=user Makefile requirements.txt requirements-dev.txt constraints.txt ./
RUN make setup

# touch: the files of this COPY may be newer than the environment, which is theirs all the same.
COPY --chown=user . .
RUN touch .venv/ready
ENV PATH="/home/user/differential-lr/.venv/bin:$PATH"

CMD ["make", "help"]
