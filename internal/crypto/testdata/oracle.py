"""Writes golden.json here and in ../localkms/testdata from docs/design/format.md
alone, with the `cryptography` package, and holds it against the stock AWS
Encryption SDK: the SDK opens our message, and writes one of its own.

    python3 -m venv V && V/bin/pip install aws-encryption-sdk && V/bin/python oracle.py
"""
import base64
import hashlib
import hmac
import json
import os
import struct

import aws_encryption_sdk
from aws_encryption_sdk.identifiers import Algorithm, CommitmentPolicy
from aws_encryption_sdk.key_providers.base import MasterKey, MasterKeyConfig, MasterKeyProvider, MasterKeyProviderConfig
from aws_encryption_sdk.structures import DataKey, EncryptedDataKey
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

HERE = os.path.dirname(os.path.abspath(__file__))
ARNS = ["arn:aws:kms:eu-west-1:000000000000:key/11111111-1111-4111-8111-111111111111",
        "arn:aws:kms:us-east-1:000000000000:key/22222222-2222-4222-8222-222222222222"]
ZERO = bytes(12)


def counter(start, n):
    return bytes((start + i) % 256 for i in range(n))


def f16(b):
    b = b.encode() if isinstance(b, str) else b
    return struct.pack(">H", len(b)) + b


def f32(b):
    b = b.encode() if isinstance(b, str) else b
    return struct.pack(">I", len(b)) + b


def hkdf(algorithm, key, salt, info):
    return HKDF(algorithm, 32, salt, info).derive(key)


# 1. Message

def pairs(*kv):
    return struct.pack(">H", len(kv)) + b"".join(f16(k) + f16(v) for k, v in kv)


def edk(arn, blob, provider="aws-kms"):
    return f16(provider) + f16(arn) + f16(blob)


def message(key, context, edks, content, message_id=counter(0, 32), version=2, suite=0x0478, content_type=2,
            frame_length=131072, sequence=1, nonce=None, flip_commitment=False, tail=b"", end=0xffffffff, copies=None):
    derived = hkdf(hashes.SHA512(), key, message_id, struct.pack(">H", suite) + b"DERIVEKEY")
    commitment = hkdf(hashes.SHA512(), key, message_id, b"COMMITKEY")
    if flip_commitment:
        commitment = bytes([commitment[0] ^ 1]) + commitment[1:]
    header = (struct.pack(">BH", version, suite) + message_id + f16(context) +
              struct.pack(">H", len(edks) if copies is None else copies) + b"".join(edks) +
              struct.pack(">BI", content_type, frame_length) + commitment)
    tag = AESGCM(derived).encrypt(ZERO, b"", header)
    iv = nonce or struct.pack(">8xI", sequence)
    aad = message_id + b"AWSKMSEncryptionClient Final Frame" + struct.pack(">IQ", sequence, len(content))
    body = struct.pack(">II", end, sequence) + iv + struct.pack(">I", len(content)) + AESGCM(derived).encrypt(iv, content, aad)
    return header + tag + body + tail


# 2. Inner structure

def head(place, flags, version=1):
    return (bytes([version, flags]) + f16(place["tenant"]) + f16(place["record"]) + f16(place["type"]) +
            struct.pack(">I", place["generation"]) + f16(place["subject"]) + struct.pack(">qq", place["created"], place["expires"]))


def block(value):
    return struct.pack(">I", len(value)) + value + bytes(-len(value) % 32)


def inner(place, value, token=None, salt=counter(0, 32)):
    if token is None:
        return head(place, 0) + block(value)
    info = (b"piivault/bound/v1" + f16(place["tenant"]) + f16(place["record"]) + f16(place["type"]) +
            struct.pack(">I", place["generation"]))
    aad = head(place, 1) + salt
    return aad + AESGCM(hkdf(hashes.SHA256(), token.encode(), salt, info)).encrypt(ZERO, block(value), aad)


# 3. Key derivation

def tenant_hash(tenant, secret, use, *fields):
    key = hkdf(hashes.SHA256(), secret, None, b"piivault/tenant/v1" + f32(tenant) + f32(use))
    return hmac.new(key, f32(use) + b"".join(f32(x) for x in fields), hashlib.sha256).digest()


def b64url(b):
    return base64.urlsafe_b64encode(b).rstrip(b"=").decode()


# The stock SDK, with a provider that knows the data key.

class StaticKey(MasterKey):
    provider_id = "aws-kms"
    _config_class = MasterKeyConfig

    def __init__(self, *args, **kwargs):
        self.data_key, self.blob = None, b"blob"

    def _generate_data_key(self, algorithm, encryption_context):
        return DataKey(key_provider=self.key_provider, data_key=self.data_key, encrypted_data_key=self.blob)

    def _encrypt_data_key(self, data_key, algorithm, encryption_context):
        return EncryptedDataKey(key_provider=self.key_provider, encrypted_data_key=self.blob)

    def _decrypt_data_key(self, encrypted_data_key, algorithm, encryption_context):
        return DataKey(key_provider=self.key_provider, data_key=self.data_key,
                       encrypted_data_key=encrypted_data_key.encrypted_data_key)


class StaticConfig(MasterKeyConfig):
    provider_id = "aws-kms"


StaticKey._config_class = StaticConfig


class StaticProvider(MasterKeyProvider):
    provider_id = "aws-kms"
    _config_class = MasterKeyProviderConfig

    def __init__(self, *args, **kwargs):
        self.keys = {}

    def _new_master_key(self, key_id):
        return self.keys[key_id]


def static_key(arn, data_key, blob):
    key = StaticKey(config=StaticConfig(key_id=arn.encode()))
    key.data_key, key.blob = data_key, blob
    return key


def sdk():
    return aws_encryption_sdk.EncryptionSDKClient(commitment_policy=CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT,
                                                  max_encrypted_data_keys=8)


def main():
    place = {"tenant": "tn_1", "record": "r" * 43, "type": "email", "generation": 0, "subject": "s" * 43,
             "created": 1700000000000, "expires": 1800000000000}
    bare = {"tenant": "tn_1", "record": "r" * 43, "type": "note", "generation": 7, "subject": "",
            "created": 1700000000000, "expires": 0}
    token, value = "tok_test_email_eu_0123456789abcdef", b"jane@example.com"
    key, blobs = counter(100, 32), [b"blob of eu-west-1", b"blob of us-east-1"]
    context = pairs(("pv-key", "AAECAwQFBgcICQoLDA0ODw"), ("pv-tenant", "tn_1"), ("pv-type", "email"))
    edks = [edk(a, b) for a, b in zip(ARNS, blobs)]
    bound = inner(place, value, token, counter(32, 32))
    good = message(key, context, edks, bound)

    plain, header = sdk().decrypt(source=good, key_provider=static_key(ARNS[1], key, None))
    assert plain == bound and header.encryption_context["pv-type"] == "email"
    provider = StaticProvider()
    provider.keys = {a.encode(): static_key(a, key, b) for a, b in zip(ARNS, blobs)}
    for arn in ARNS:
        provider.add_master_key(arn)
    theirs, _ = sdk().encrypt(source=bound, key_provider=provider, frame_length=4096,
                              algorithm=Algorithm.AES_256_GCM_HKDF_SHA512_COMMIT_KEY,
                              encryption_context={"pv-key": "AAECAwQFBgcICQoLDA0ODw", "pv-tenant": "tn_1", "pv-type": "email"})

    unsorted = pairs(("pv-tenant", "tn_1"), ("pv-key", "k"), ("pv-type", "email"))
    twice = pairs(("pv-key", "k"), ("pv-key", "k"))
    bad = {
        "version 1": ("malformed", message(key, context, edks, bound, version=1)),
        "version 3": ("malformed", message(key, context, edks, bound, version=3)),
        "suite without commitment": ("malformed", message(key, context, edks, bound, suite=0x0178)),
        "suite with signature": ("malformed", message(key, context, edks, bound, suite=0x0578)),
        "context unsorted": ("authentication", message(key, unsorted, edks, bound)),
        "context key twice": ("malformed", message(key, twice, edks, bound)),
        "context of no pairs": ("malformed", message(key, pairs(), edks, bound)),
        "context with a tail": ("malformed", message(key, context + b"\0", edks, bound)),
        "context not UTF-8": ("malformed", message(key, pairs((b"\xff", "v")), edks, bound)),
        "no key copies": ("malformed", message(key, context, [], bound)),
        "nine key copies": ("malformed", message(key, context, edks[:1] * 9, bound)),
        "one copy too few": ("malformed", message(key, context, edks, bound, copies=3)),
        "unknown content type": ("malformed", message(key, context, edks, bound, content_type=3)),
        "frame length zero": ("malformed", message(key, context, edks, bound, frame_length=0)),
        "frame longer than the frame length": ("malformed", message(key, context, edks, bound, frame_length=len(bound) - 1)),
        "final frame is number two": ("malformed", message(key, context, edks, bound, sequence=2)),
        "sequence is not the nonce": ("malformed", message(key, context, edks, bound, sequence=2, nonce=struct.pack(">8xI", 1))),
        "no final frame": ("malformed", message(key, context, edks, bound, end=1)),
        "nonce is not the sequence": ("malformed", message(key, context, edks, bound, nonce=counter(1, 12))),
        "trailing byte": ("malformed", message(key, context, edks, bound, tail=b"\0")),
        "truncated": ("malformed", good[:-1]),
        "empty": ("malformed", b""),
        "another commitment": ("authentication", message(key, context, edks, bound, flip_commitment=True)),
        "another key": ("authentication", message(counter(101, 32), context, edks, bound)),
        "another tenant in the context": ("authentication", message(key, context.replace(b"tn_1", b"tn_2"), edks, bound)),
        "more context": ("authentication", message(key, pairs(("pv-key", "k"), ("pv-tenant", "tn_1"), ("pv-type", "email"), ("x", "y")), edks, bound)),
        "no context": ("authentication", message(key, b"", edks, bound)),
    }

    b = inner(place, value, token)
    bad_inner = {
        "empty": b"", "version 0": b"\0" + b[1:], "version 2": b"\2" + b[1:], "unknown flag": b[:1] + b"\3" + b[2:],
        "not said to be bound": b[:1] + b"\0" + b[2:], "truncated": b[:-1], "without its tag": b[:-16], "with a tail": b + b"\0",
        "another salt": inner(place, value, token, counter(1, 32))[:len(head(place, 1)) + 32] + b[len(head(place, 1)) + 32:],
        "padding too long": head(place, 0) + block(value) + bytes(32),
        "padding too short": head(place, 0) + block(value)[:-1],
        "padding not zero": head(place, 0) + block(value)[:-1] + b"\1",
        "length past the end": head(place, 0) + struct.pack(">I", 33) + block(value)[4:],
        "no block": head(place, 0),
        "another generation": inner(dict(place, generation=1), value),
        "another subject": inner(dict(place, subject="t" * 43), value),
        "another creation": inner(dict(place, created=1), value),
        "another expiry": inner(dict(place, expires=0), value),
        "fields shifted": inner(dict(place, tenant="tn_", record="1" + place["record"]), value),
    }
    for change in ({"tenant": "tn_2"}, {"record": "q" * 43}, {"type": "phone"}, {"generation": 1}):
        moved = dict(place, **change)
        sealed = inner(moved, value, token)
        bad_inner["sealed for another " + list(change)[0]] = head(place, 1) + sealed[len(head(moved, 1)):]

    secret = counter(200, 32)
    hashes_of = lambda use, *fields: tenant_hash("tn_1", secret, use, *fields)

    def ring_of(arns):
        return b64url(hashlib.sha256(b"piivault/ring/v1" + f16("copies") +
                                     b"".join(f16(r) + f16(a) for r, a in zip(["eu-west-1", "us-east-1"], arns))).digest())

    own = {tenant: ["arn:aws:kms:%s:111122223333:key/%s" % (region, tenant) for region in ["eu-west-1", "us-east-1"]]
           for tenant in ["tn_b", "tn_a"]}
    tenant_place = {"tenant": "tn_1", "record": "", "type": "!tenant-secret", "generation": 0, "subject": "", "created": 0, "expires": 0}
    json.dump({
        "place": place, "token": token, "value": value.decode(), "key": key.hex(),
        "copies": [{"arn": a, "blob": x.decode()} for a, x in zip(ARNS, blobs)],
        "message": good.hex(), "sdk_message": theirs.hex(),
        "bad_messages": {k: {"error": e, "message": m.hex()} for k, (e, m) in bad.items()},
        "inner": [
            {"place": place, "token": token, "value": value.decode(), "structure": inner(place, value, token).hex()},
            {"place": place, "token": "", "value": value.decode(), "structure": inner(place, value).hex()},
            {"place": bare, "token": "", "value": "", "structure": inner(bare, b"").hex()},
            {"place": bare, "token": "", "value": "x" * 32, "structure": inner(bare, b"x" * 32).hex()},
            {"place": bare, "token": token, "value": "x" * 33, "structure": inner(bare, b"x" * 33, token).hex()},
            {"place": tenant_place, "token": "", "value": "s" * 32, "structure": inner(tenant_place, b"s" * 32).hex()},
        ],
        "bad_inner": {k: v.hex() for k, v in bad_inner.items()},
        "tenant": {
            "tenant": "tn_1", "secret": secret.hex(),
            "record_id": b64url(hashes_of("record-id", token)),
            "subject_id": b64url(hashes_of("subject-id", "customer 42")),
            "deterministic": hashes_of("deterministic-token", "email", value)[:24].hex(),
            "idempotent": hashes_of("idempotent-token", "idempotency-key-0123456789", struct.pack(">I", 3), "email", value,
                                    "customer 42", "2030-01-01T00:00:00Z")[:24].hex(),
        },
        "ring_hash": ring_of(ARNS),
        "tenant_arns": own,
        "tenants_ring_hash": "\n".join([ring_of(ARNS)] + [tenant + " " + ring_of(own[tenant]) for tenant in sorted(own)]),
    }, open(os.path.join(HERE, "golden.json"), "w"), indent=1)

    # 9. Local KMS
    master = counter(50, 32)
    entry = {"arn": ARNS[0], "key": base64.b64encode(master).decode(), "disabled": False}
    checksum = hashlib.sha256(f32("1") + f32("eu-west-1") + f32(entry["arn"]) + f32(entry["key"]) + f32("false")).digest()
    file = json.dumps({"version": 1, "region": "eu-west-1", "keys": [entry], "checksum": base64.b64encode(checksum).decode()}, indent=2) + "\n"
    key_id = ARNS[0].rsplit("/", 1)[1].encode()
    blob_head = bytes([1, len(key_id)]) + key_id
    aad = f32("piivault/localkms/v1") + blob_head + f32("pv-key") + f32("k") + f32("pv-tenant") + f32("t")
    blob = blob_head + counter(0, 12) + AESGCM(master).encrypt(counter(0, 12), counter(100, 32), aad)
    other = bytes([1, len(key_id)]) + b"2" + key_id[1:]
    json.dump({
        "file": file, "arn": ARNS[0], "context": {"pv-tenant": "t", "pv-key": "k"}, "blob": blob.hex(), "key": counter(100, 32).hex(),
        "bad": {
            "empty": "", "version": "02" + blob[1:].hex(), "another key": (other + blob[len(other):]).hex(),
            "without AAD": (blob_head + counter(0, 12) + AESGCM(master).encrypt(counter(0, 12), counter(100, 32), b"")).hex(),
            "a short key": (blob_head + counter(0, 12) + AESGCM(master).encrypt(counter(0, 12), counter(100, 31), aad)).hex(),
            "truncated": blob[:-1].hex(), "with a tail": blob.hex() + "00",
        },
    }, open(os.path.join(HERE, "..", "localkms", "testdata", "golden.json"), "w"), indent=1)


main()
