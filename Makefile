# `make check` before a commit, `make test` before a pull request, `make docs` after a change of pages or docstrings.
.PHONY: check test docs

check:
	bash .ci/check

test:
	python -m pytest

docs:
	python docs/reference.py
	mkdocs build --strict
