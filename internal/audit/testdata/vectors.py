#!/usr/bin/env python3
"""Writes vectors.json: docs/design/format.md section 7, built a second time.

Independent of the Go code on purpose. python3 vectors.py > vectors.json
"""
import hashlib
import json
import struct

OUTCOMES = ["authorized", "denied", "not_found", "not_yet_visible", "expired", "erased", "over_budget", "failed", "copy_used"]
TEXTS = ["RequestID", "Tenant", "Actor", "Authentication", "Action", "Record", "Type", "Subject", "Purpose", "Ticket",
         "Reveal", "Decision", "PolicySet", "Budget", "Region", "DataKey", "Client"]


def uvarint(n):
    out = b""
    while n >= 0x80:
        out += bytes([n & 0x7F | 0x80])
        n >>= 7
    return out + bytes([n])


def text(s):
    b = s.encode()
    return uvarint(len(b)) + b


def texts(items):
    return uvarint(len(items)) + b"".join(text(s) for s in items)


def entry(e):
    b = b"\x01" + struct.pack(">q", e["Time"]) + bytes([OUTCOMES.index(e["Outcome"]) + 1]) + uvarint(e.get("Generation", 0))
    b += b"".join(text(e.get(f, "")) for f in TEXTS)
    b += texts(e.get("Policies", [])) + texts(e.get("Copies", []))
    about = e.get("About")
    return b + (b"\x01" + text(about["Log"]) + uvarint(about["Index"]) if about else b"\x00")


def claim(c):
    return (b"\x81" + text(c["Log"]) + bytes.fromhex(c["Nonce"]) + struct.pack(">qQQ", c["Time"], c["PreviousBlocks"], c["PreviousSize"])
            + bytes.fromhex(c["PreviousRoot"]))


def sha(b):
    return hashlib.sha256(b).digest()


def root(leaves):
    """RFC 6962 section 2.1, MTH, as it is written there."""
    if not leaves:
        return sha(b"")
    if len(leaves) == 1:
        return sha(b"\x00" + leaves[0])
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return sha(b"\x01" + root(leaves[:k]) + root(leaves[k:]))


def edge(leaves):
    """Roots of the complete subtrees, the largest first."""
    out, at = b"", 0
    for bit in reversed(range(len(leaves).bit_length())):
        if len(leaves) >> bit & 1:
            out += root(leaves[at:at + (1 << bit)])
            at += 1 << bit
    return out


def block(log, number, before, leaves):
    b = b"\x01" + bytes([len(log)]) + log.encode() + struct.pack(">QQ", number, len(before)) + edge(before)
    b += struct.pack(">I", len(leaves))
    b += b"".join(struct.pack(">H", len(leaf)) + leaf for leaf in leaves)
    return b + root(before + leaves)


LOG = "eu-west-1/vault-a/2"
FULL = {
    "Time": 1767225600123, "RequestID": "req-0001", "Tenant": "t_4Xv9", "Actor": "key_7Q", "Authentication": "api_key",
    "Action": "detokenize", "Record": "5uE0aK3m1Q0f3l2v8c7b6n5m4k3j2h1g0f9d8s7a6p5", "Generation": 300, "Type": "email",
    "Subject": "c3ViamVjdA", "Purpose": "fraud review \u00e9\u4e2d", "Ticket": "CASE-42", "Reveal": "masked", "Decision": "allow",
    "Policies": ["reader", "support"], "PolicySet": "9f86d081", "Budget": "ok", "Region": "eu-west-1", "DataKey": "ZGF0YWtleQ",
    "Copies": ["eu-west-1", "us-east-1"], "Client": "192.0.2.7", "About": {"Log": "eu-west-1/vault-a/1", "Index": 9007199254740993},
    "Outcome": "copy_used",
}
LEAST = {"Time": 0, "Outcome": "authorized"}
EARLY = {"Time": -1, "Outcome": "denied", "Purpose": "x" * 128}
FIRST = {"Log": "eu-west-1/vault-a/1", "Nonce": "00112233445566778899aabbccddeeff", "Time": 1767225600000, "PreviousBlocks": 0,
         "PreviousSize": 0, "PreviousRoot": sha(b"").hex()}
CLAIM = {"Log": LOG, "Nonce": "ffeeddccbbaa99887766554433221100", "Time": 1767225600001, "PreviousBlocks": 1, "PreviousSize": 1,
         "PreviousRoot": root([claim(FIRST)]).hex()}


def bad_entries():
    ok = entry(LEAST)
    yield "empty", b""
    yield "unknown version", b"\x02" + ok[1:]
    yield "a claim", claim(FIRST)
    yield "no outcome", ok[:9] + b"\x00" + ok[10:]
    yield "unknown outcome", ok[:9] + b"\x0a" + ok[10:]
    yield "generation beyond 32 bits", ok[:10] + uvarint(1 << 32) + ok[11:]
    yield "number longer than needed", ok[:10] + b"\x80\x00" + ok[11:]
    yield "number beyond 64 bits", ok[:10] + b"\xff" * 9 + b"\x02" + ok[11:]
    yield "truncated", ok[:-1]
    yield "trailing byte", ok + b"\x00"
    yield "unknown presence byte", ok[:-1] + b"\x02"
    yield "about no log", ok[:-1] + b"\x01" + text("nowhere") + b"\x00"
    yield "not UTF-8", ok[:11] + b"\x01\xff" + ok[12:]
    yield "string too long", ok[:11] + text("x" * 1025) + ok[12:]
    yield "list too long", ok[:-3] + texts(["x"] * 65) + ok[-2:]
    yield "string beyond the end", ok[:11] + b"\x7f" + ok[12:]


def bad_claims():
    ok = claim(FIRST)
    yield "empty", b""
    yield "an entry", entry(LEAST)
    yield "unknown version", b"\x82" + ok[1:]
    yield "truncated", ok[:-1]
    yield "trailing byte", ok + b"\x00"
    yield "epoch 0", claim({**FIRST, "Log": "eu-west-1/vault-a/0"})
    yield "epoch with a leading zero", claim({**FIRST, "Log": "eu-west-1/vault-a/01"})
    yield "name without instance", claim({**FIRST, "Log": "eu-west-1/1"})
    yield "name with a space", claim({**FIRST, "Log": "eu west/vault-a/1"})
    yield "first epoch with a predecessor", claim({**CLAIM, "Log": "eu-west-1/vault-a/1"})
    yield "more blocks than leaves", claim({**CLAIM, "PreviousBlocks": 2})
    yield "leaves without blocks", claim({**CLAIM, "PreviousBlocks": 0})
    yield "empty predecessor with a root", claim({**CLAIM, "PreviousBlocks": 0, "PreviousSize": 0})


def bad_blocks():
    leaves = [claim(CLAIM), entry(LEAST)]
    ok = block(LOG, 1, leaves, [entry(FULL)])
    name = 2 + len(LOG)
    yield "empty", b""
    yield "unknown version", b"\x02" + ok[1:]
    yield "truncated", ok[:-1]
    yield "trailing byte", ok + b"\x00"
    yield "header only", ok[:name + 16]
    yield "not a name", ok[:2] + b"!" + ok[3:]
    yield "no leaves", block(LOG, 1, leaves, [])
    yield "an empty leaf", block(LOG, 1, leaves, [b""])
    yield "number above first", ok[:name] + struct.pack(">Q", 3) + ok[name + 8:]
    yield "edge cut", ok[:name + 16] + ok[name + 48:]
    yield "count too large", ok[:name + 48] + struct.pack(">I", 2) + ok[name + 52:]
    yield "leaf too large", block(LOG, 1, leaves, [b"\x01" * 16385])
    yield "first beyond what can be counted", ok[:name + 8] + struct.pack(">Q", 1 << 62) + ok[name + 16:]


def named(pairs):
    return [{"Name": name, "Hex": b.hex()} for name, b in pairs]


def main():
    entries = [FULL, LEAST, EARLY]
    groups = [[claim(CLAIM)], [entry(FULL)], [entry(LEAST), entry(EARLY), entry(FULL)], [entry(LEAST)]]
    blocks, before = [], []
    for number, leaves in enumerate(groups):
        b = block(LOG, number, before, leaves)
        before = before + leaves
        blocks.append({"Hex": b.hex(), "Size": len(before), "Root": root(before).hex()})
    print(json.dumps({
        "Entries": [{"Entry": e, "Hex": entry(e).hex(), "Leaf": root([entry(e)]).hex()} for e in entries],
        "Claims": [{"Claim": c, "Hex": claim(c).hex()} for c in (FIRST, CLAIM)],
        "Log": {"Name": LOG, "Groups": [["claim 1"], ["entry 0"], ["entry 1", "entry 2", "entry 0"], ["entry 1"]], "Blocks": blocks},
        "BadEntries": named(bad_entries()), "BadClaims": named(bad_claims()), "BadBlocks": named(bad_blocks()),
    }, indent=1))


main()
