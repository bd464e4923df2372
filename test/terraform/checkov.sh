#!/bin/sh
# Run checkov over terraform/. Installing it takes a minute and a half, too long
# for `make test`: CI runs this. Exceptions are comments beside what they except.
set -eu
cd "$(dirname "$0")/../.."
venv=.cache/checkov
if ! cmp -s test/requirements-checkov.txt "$venv/requirements.txt"; then
	python3 -m venv --clear "$venv"
	"$venv/bin/pip" install --quiet --require-hashes -r test/requirements-checkov.txt
	cp test/requirements-checkov.txt "$venv/requirements.txt"
fi
exec "$venv/bin/checkov" --directory terraform --framework terraform --skip-download --quiet --compact
