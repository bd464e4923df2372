#!/usr/bin/env bash
# The drill of docs/resilience.md that tests cannot do without root: the remote
# KMS runs in a network namespace of its own, and its packets are dropped. What
# do the first writes wait, and those after them; what are the records told, and
# when are they whole again? In CI the same is done without a network, by a
# server whose queue is full (internal/crypto/kms, TestBlackHole).
#
#   make test    # once: fetches DynamoDB Local into .cache
#   sudo test/drills/blackhole.sh [WRITES]
#
# Needs iproute2, Go, Java, curl and jq. It ends what it started.
set -euo pipefail
cd "$(dirname "$0")/../.."
writes=${1:-200}
lib=$PWD/.cache/dynamodb-local/lib
work=$(mktemp -d)
ns=pv-hole-$$
here=10.249.7.1 there=10.249.7.2
pids=()

finish() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  wait
  ip netns del "$ns" 2>/dev/null || true # and with it the pair of devices
  rm -rf "$work"
}
trap finish EXIT

# line FILE FILTER: the first line of JSON that the filter finds something in, within a minute.
line() {
  for _ in $(seq 300); do
    jq -er "$2 // empty" "$1" 2>/dev/null | head -n 1 | grep . && return
    sleep 0.2
  done
  echo "nothing in $1" >&2
  cat "$1" >&2
  return 1
}

# Two addresses that know the way to each other; the namespace may forget its.
ip netns add "$ns"
ip link add pv-hole type veth peer name pv-kms netns "$ns"
ip addr add "$here/32" dev pv-hole
ip link set pv-hole up
ip -n "$ns" addr add "$there/32" dev pv-kms
ip -n "$ns" link set lo up
ip -n "$ns" link set pv-kms up
ip route add "$there/32" dev pv-hole src "$here"
mac() { jq -r '.[0].address'; }
ip neigh replace "$there" lladdr "$(ip -n "$ns" -j link show pv-kms | mac)" dev pv-hole nud permanent
ip -n "$ns" neigh replace "$here" lladdr "$(ip -j link show pv-hole | mac)" dev pv-kms nud permanent
heal() { ip -n "$ns" route replace "$here/32" dev pv-kms src "$there"; }
drop() { ip -n "$ns" route del "$here/32"; } # what arrives there is answered nowhere
heal

go build -o "$work/vault" ./cmd/vault
export AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY AWS_EC2_METADATA_DISABLED=true
port=${DYNAMODB_PORT:-18407}
(cd "$lib" && exec java -Xmx1g -XX:+UseSerialGC "-Dsqlite4java.library.path=$lib" -cp "$lib/*" \
  software.amazon.dynamodb.services.local.main.ServerRunner -inMemory -disableTelemetry -port "$port" >"$work/dynamodb.log" 2>&1) &
pids+=($!)
"$work/vault" dev-kms --addr 127.0.0.1:0 --json >"$work/near.json" & pids+=($!)
ip netns exec "$ns" "$work/vault" dev-kms --addr "$there:8203" --listen-any --json >"$work/far.json" & pids+=($!)
near=$(line "$work/near.json" .endpoint)
key() { line "$work/near.json" ".regions[] | select(.name == \"$1\") | .keys[0].arn"; }

cat >"$work/vault.yaml" <<YAML
env: drill
region: eu-west-1
instance: blackhole
listen: 127.0.0.1:0
metrics: {listen: "off"}
prefetch: {max_keys: 0} # a key made ahead waits for nobody
regions:
  - {name: eu-west-1, dynamodb: {endpoint: "http://127.0.0.1:$port"}, kms: {key_arn: "$(key eu-west-1)", endpoint: "$near"}}
  - {name: us-east-1, dynamodb: {endpoint: "http://127.0.0.1:$port"}, kms: {key_arn: "$(key us-east-1)", endpoint: "http://$there:8203"}}
YAML
until curl -so /dev/null "http://127.0.0.1:$port/"; do sleep 0.2; done
"$work/vault" dev-init --config "$work/vault.yaml" --key-file "$work/key"
"$work/vault" serve --config "$work/vault.yaml" 2>"$work/serve.log" & pids+=($!)
VAULT_ADDR=http://$(line "$work/serve.log" 'select(.message == "serving" and .listener == "api") | .addr')
export VAULT_ADDR VAULT_KEY_FILE=$work/key

# write NAME: one value; its latency in seconds, the status, and how many copies its record lacks.
write() {
  curl -s "$VAULT_ADDR/v1/tokenize" -H "Authorization: Bearer $(cat "$work/key")" -H 'Content-Type: application/json' \
    -d "{\"items\":[{\"type\":\"email\",\"value\":\"$1@example.com\"}]}" -o "$work/answer-$1" -w '%{time_total} %{http_code} '
  jq '.items[0].key_copies.missing | length' "$work/answer-$1"
}

# many NAME: so many writes, one after the other.
many() {
  for i in $(seq "$writes"); do write "$1$i"; done | sort -n >"$work/took"
  awk -v name="$1" '{ took[NR] = $1; if ($2 != 200) refused++; if ($3 > 0) lacking++ }
    END { printf "%-8s %d writes: p50 %.1f ms, p99 %.1f ms; %d refused, %d lack a copy\n", name, NR,
      1000 * took[int((NR - 1) * 0.50) + 1], 1000 * took[int((NR - 1) * 0.99) + 1], refused, lacking }' "$work/took"
}

write warm >/dev/null
many healthy
drop
echo "packets dropped; the first writes, 8 at once: seconds, status, missing copies"
first=()
for i in $(seq 8); do write "first$i" >"$work/first-$i" & first+=($!); done
wait "${first[@]}"
sort -n "$work"/first-[1-8]
many dropped
"$work/vault" regions
heal
began=$(date +%s%N)
until [ "$(curl -s "$VAULT_ADDR/v1/regions" -H "Authorization: Bearer $(cat "$work/key")" | jq .degraded_records)" = 0 ]; do sleep 0.1; done
echo "packets pass; all records whole after $((($(date +%s%N) - began) / 1000000)) ms"
"$work/vault" regions
