#!/usr/bin/env bash
# The main job in full: all people of a file in through one region of a fresh
# `vault dev`, out through the other, compared with what Python says must come
# out, and a look for every value and token through all that was stored.
#
#   test/e2e/people.sh [PEOPLE.jsonl]      default: ../shared/data/people.jsonl
#
# Prints fields, mismatches, seconds and hits; exits with 1 unless both are 0.
set -euo pipefail
cd "$(dirname "$0")/../.."

people=$(realpath "${1:-../shared/data/people.jsonl}")
fields=name,email,phone,date_of_birth,address,card_number,ip,ssn,iban
map=name=name,email=email,phone=phone:country,date_of_birth=date_of_birth,address=address,card_number=card_number,ip=ip,ssn=ssn,iban=iban

work=$(mktemp -d)
dev=
cleanup() {
	[[ -z $dev ]] || kill "$dev" 2>/dev/null || true
	rm -rf "$work"
}
trap cleanup EXIT

go build -o "$work/" ./cmd/vault
"$work/vault" dev --addr 127.0.0.1:0 --addr2 127.0.0.1:0 --data "$work/data" >"$work/screen" 2>"$work/log" &
dev=$!
until grep -q '^Ctrl-C' "$work/screen"; do
	kill -0 "$dev" 2>/dev/null || { cat "$work/log" >&2; exit 1; }
	sleep 0.1
done
a=$(awk '$1 == "region" && $2 == "eu-west-1" { print $3 }' "$work/screen")
b=$(awk '$1 == "region" && $2 == "us-east-1" { print $3 }' "$work/screen")
VAULT_KEY=$(cat "$work/data/dev.key")
export VAULT_KEY

seconds() { # runs a command; its wall time to standard output
	local start=$EPOCHREALTIME
	"$@" >&2
	awk -v a="$start" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f", b - a }'
}

import=$(VAULT_ADDR=$a seconds "$work/vault" import "$people" --map "$map" --subject customer_id --out "$work/tokens.jsonl")
export_=$(VAULT_ADDR=$b seconds "$work/vault" export "$work/tokens.jsonl" --fields "$fields" --purpose "the main job" --out "$work/plain.jsonl")
compared=$(python3 test/expect/normalize.py "$people" --compare "$work/plain.jsonl") || true

kill -INT "$dev"
wait "$dev"
dev=
rm "$work/data/dev.key" # the client's, not the vault's

# Needles: every value as sent and as it comes back, and every token.
python3 - "$fields" "$people" "$work/tokens.jsonl" "$work/plain.jsonl" >"$work/needles" <<'PYTHON'
import json, sys
fields, needles = sys.argv[1].split(","), set()
for path in sys.argv[2:]:
    for line in open(path, encoding="utf-8"):
        row = json.loads(line)
        needles.update(row[f] for f in fields if len(row.get(f, "").encode()) >= 6)
sys.stdout.reconfigure(encoding="utf-8")
for needle in sorted(needles):
    for part in needle.split("\n"):
        if len(part.encode()) >= 6:
            print(part)
PYTHON
cp "$work/log" "$work/data/"
hits=$(go run ./test/scan/cmd --dir "$work/data" --needles "$work/needles") || true

echo "people:  $(wc -l <"$people")"
echo "compare: ${compared##*$'\n'}"
echo "import:  $import s in eu-west-1"
echo "export:  $export_ s in us-east-1"
echo "scan:    ${hits##*$'\n'}, for $(wc -l <"$work/needles") values and tokens"
[[ $compared == *"mismatches 0" && ${hits##*$'\n'} == "0 hits "* ]] || { echo "$compared"; echo "$hits"; exit 1; } >&2
