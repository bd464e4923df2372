"""Answers the questions of this folder's Go tests, a line of JSON each, with
the stock SDK and open.py. A failure is answered by its kind alone."""
import base64
import json
import logging
import struct
import sys

import aws_encryption_sdk
import boto3
from aws_cryptographic_material_providers.mpl import AwsCryptographicMaterialProviders
from aws_cryptographic_material_providers.mpl import models
from aws_cryptographic_material_providers.mpl.config import MaterialProvidersConfig
from aws_encryption_sdk.identifiers import Algorithm, CommitmentPolicy
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

import open as stock

providers = AwsCryptographicMaterialProviders(MaterialProvidersConfig())
keyrings = {}


def region_of(arn):
    return arn.split(":")[3]


def make_keyring(kind, arns):
    if kind == "multi":
        return providers.create_multi_keyring(models.CreateMultiKeyringInput(
            generator=make_keyring("strict", arns[:1]), child_keyrings=[make_keyring("strict", [a]) for a in arns[1:]]))
    if kind == "mrk":
        return stock.keyring_of(arns[0])
    return providers.create_aws_kms_keyring(models.CreateAwsKmsKeyringInput(
        kms_key_id=arns[0], kms_client=boto3.client("kms", region_name=region_of(arns[0]))))


def keyring(q):
    name = (q["keyring"], *q["arns"])
    if name not in keyrings:
        keyrings[name] = make_keyring(q["keyring"], q["arns"])
    return keyrings[name]


def create_key(q):
    return {"arn": boto3.client("kms", region_name=q["region"]).create_key()["KeyMetadata"]["Arn"]}


def rows(q):
    """All rows of the records table, and the tenant secrets of the control table."""
    database = boto3.resource("dynamodb", region_name=q["region"])
    def scan(table):
        pages = database.meta.client.get_paginator("scan").paginate(TableName=table, ConsistentRead=True)
        return [row for page in pages for row in page["Items"]]
    return {
        "records": [{"pk": r["pk"], "sk": r["sk"], "message": b64(r["message"].value), "gap": r.get("gap", "")}
                    for r in scan(q["records"]) if r["sk"][0] == "R"],
        "secrets": [{"pk": r["sk"], "message": b64(r["body"].value)} for r in scan(q["control"]) if r["pk"] == "secret"],
    }


def record_id(q):
    return {"record": stock.record_id(q["tenant"], unb64(q["secret"]), q["token"])}


def decrypt(q):
    """The outer layer; for an encryption context, that of the header."""
    plain, header = aws_encryption_sdk.EncryptionSDKClient().decrypt(source=unb64(q["message"]), keyring=keyring(q))
    return {"plaintext": b64(plain), "context": header.encryption_context, "suite": header.algorithm.algorithm_id,
            "copies": [k.key_provider.key_info.decode() for k in sorted(header.encrypted_data_keys, key=lambda k: k.key_provider.key_info)]}


def open_value(q):
    """Both layers."""
    got = stock.open_inner(stock.open_outer(unb64(q["message"]), keyring(q)), q.get("token", ""))
    got["value"] = b64(got["value"])
    return got


def inner(place, value, token):
    """An inner structure, as format.md §2 has it."""
    def lp(text):
        return stock.lp(">H", text.encode())
    names = lp(place["tenant"]) + lp(place["record"]) + lp(place["type"]) + struct.pack(">I", place["generation"])
    head = lambda flags: bytes([1, flags]) + names + lp(place["subject"]) + struct.pack(">qq", place["created"], place["expires"])
    block = stock.lp(">I", value) + bytes(-len(value) % 32)
    if not token:
        return head(0) + block
    salt = bytes(range(32))
    key = HKDF(SHA256(), 32, salt, b"piivault/bound/v1" + names).derive(token.encode())
    return head(1) + salt + AESGCM(key).encrypt(bytes(12), block, head(1) + salt)


def seal(q):
    """A message by the SDK around a structure made here."""
    commits = q["suite"] in (0x0478, 0x0578)
    policy = CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT if commits else CommitmentPolicy.FORBID_ENCRYPT_ALLOW_DECRYPT
    message, _ = aws_encryption_sdk.EncryptionSDKClient(commitment_policy=policy).encrypt(
        source=inner(q["place"], unb64(q["value"]), q.get("token", "")), keyring=keyring(q), encryption_context=q["context"],
        algorithm=Algorithm.get_by_id(q["suite"]), frame_length=q["frame"])
    return {"message": b64(message)}


def b64(data):
    return base64.b64encode(data).decode()


def unb64(text):
    return base64.b64decode(text)


def main():
    logging.disable()  # the SDK logs each refusal at length
    operations = {f.__name__: f for f in (create_key, rows, record_id, decrypt, open_value, seal)}
    for line in sys.stdin:
        q = json.loads(line)
        try:
            answer = operations[q["op"]](q)
        except Exception as e:
            answer = {"error": type(e).__name__}
        print(json.dumps(answer), flush=True)


main()
