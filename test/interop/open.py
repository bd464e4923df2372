"""python open.py KEY_ARN TENANT RECORDS_TABLE CONTROL_TABLE < tokens > values.jsonl: see docs/recover.md"""
import base64, hashlib, hmac, json, struct, sys, time

import aws_encryption_sdk, boto3
from aws_cryptographic_material_providers.mpl import AwsCryptographicMaterialProviders
from aws_cryptographic_material_providers.mpl.config import MaterialProvidersConfig
from aws_cryptographic_material_providers.mpl.models import CreateAwsKmsMrkKeyringInput
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

def lp(length, part):
    return struct.pack(length, len(part)) + part

def keyring_of(arn):  # for a key of one region this is the strict keyring
    return AwsCryptographicMaterialProviders(MaterialProvidersConfig()).create_aws_kms_mrk_keyring(
        CreateAwsKmsMrkKeyringInput(kms_key_id=arn, kms_client=boto3.client("kms", region_name=arn.split(":")[3])))

def open_outer(message, keyring):  # format.md §1: the stock SDK does all of it
    return aws_encryption_sdk.EncryptionSDKClient().decrypt(source=message, keyring=keyring)[0]

def open_inner(inner, token=""):  # format.md §2
    at = 2
    def take(size):
        nonlocal at
        at += size
        return inner[at - size:at]
    def name():
        return take(*struct.unpack(">H", take(2)))
    if len(inner) < 2 or inner[0] != 1 or inner[1] > 1:
        raise ValueError("not an inner structure of version 1")
    tenant, record, kind, generation, subject = name(), name(), name(), take(4), name()
    created, expires = struct.unpack(">qq", take(16))
    block = inner[at:]
    if inner[1] == 1:  # bound: sealed once more, under the token
        info = b"piivault/bound/v1" + lp(">H", tenant) + lp(">H", record) + lp(">H", kind) + generation
        key = HKDF(SHA256(), 32, take(32), info).derive(token.encode())
        block = AESGCM(key).decrypt(bytes(12), inner[at:], inner[:at])
    length, = struct.unpack(">I", block[:4])
    return {"tenant": tenant.decode(), "record": record.decode(), "type": kind.decode(), "generation": int.from_bytes(generation, "big"),
            "subject": subject.decode(), "created": created, "expires": expires, "value": block[4:4 + length]}

def record_id(tenant, secret, token):  # format.md §3
    key = HKDF(SHA256(), 32, None, b"piivault/tenant/v1" + lp(">I", tenant.encode()) + lp(">I", b"record-id")).derive(secret)
    code = hmac.new(key, lp(">I", b"record-id") + lp(">I", token.encode()), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(code).decode().rstrip("=")

def live_row(table, pk):  # format.md §5: the last R without its X, unless it has expired
    rows = {row["sk"]: row for page in table.meta.client.get_paginator("query").paginate(
        TableName=table.name, KeyConditionExpression="pk = :pk AND sk BETWEEN :r AND :x", ConsistentRead=True,
        ExpressionAttributeValues={":pk": pk, ":r": "R#", ":x": "X#g"}) for row in page["Items"]}
    live = [row for sk, row in sorted(rows.items()) if sk[0] == "R" and "X" + sk[1:] not in rows]
    return live[-1] if live and not 0 < live[-1].get("expires", 0) <= time.time() * 1000 else None

def recover(token, tenant, secret, records, keyring):
    record = record_id(tenant, secret, token)
    row = live_row(records, tenant + "#" + record)
    if not row:
        raise LookupError("unknown, erased or expired")
    got = open_inner(open_outer(row["message"].value, keyring), token)
    if (got["tenant"], got["record"], "R#%08x" % got["generation"]) != (tenant, record, row["sk"]):
        raise LookupError("of another record")
    return got

def main(arn, tenant, records, control):
    keyring, database, failed = keyring_of(arn), boto3.resource("dynamodb", region_name=arn.split(":")[3]), 0
    records, control = database.Table(records), database.Table(control)
    alias = control.get_item(Key={"pk": "alias", "sk": tenant}).get("Item")
    tenant = json.loads(alias["body"].value)["tenant"] if alias else tenant
    secret = open_inner(open_outer(control.get_item(Key={"pk": "secret", "sk": tenant})["Item"]["body"].value, keyring))["value"]
    for token in sys.stdin.read().split():
        try:
            answer = recover(token, tenant, secret, records, keyring)
            answer["value"] = base64.b64encode(answer["value"]).decode()
        except Exception as e:  # the other tokens are still wanted
            failed, answer = 1, {"error": str(e) if isinstance(e, LookupError) else type(e).__name__}
        print(json.dumps(dict(answer, token=token)), flush=True)
    return failed
if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
