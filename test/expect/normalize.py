#!/usr/bin/env python3
"""What the vault must give back, computed without any of its code.

  normalize.py PEOPLE.jsonl > EXPECTED.jsonl
      For every person the fields that `vault import` replaces, as `vault
      export` must return them: the values as normalized (docs/design/format.md
      section 4). Absent fields stay absent.

  normalize.py PEOPLE.jsonl --compare EXPORTED.jsonl
      Compares an export with that, matched by customer_id, prints the counts
      and exits with 1 when a field differs, is missing or was not asked for.

Standard library only. Telephone numbers are not parsed: phone_e164 of the
input says what they must be.
"""

import argparse
import ipaddress
import json
import sys
import unicodedata


def nfc(value):
    return unicodedata.normalize("NFC", value)


def email(value):
    local, domain = nfc(value).rsplit("@", 1)
    return local + "@" + domain.lower()


def ip(value):
    address = ipaddress.ip_address(value)
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


def ssn(value):
    digits = value.replace("-", "").replace(" ", "")
    return digits[:3] + "-" + digits[3:5] + "-" + digits[5:]


NORMALIZERS = {
    "name": nfc,
    "email": email,
    "date_of_birth": str,
    "address": nfc,
    "card_number": lambda value: value.replace(" ", "").replace("-", ""),
    "ip": ip,
    "ssn": ssn,
    "iban": lambda value: value.replace(" ", "").upper(),
}

FIELDS = ("name", "email", "phone", "date_of_birth", "address", "card_number", "ip", "ssn", "iban")


def expected(person):
    row = {"customer_id": person["customer_id"]}
    for field in FIELDS:
        if field == "phone" and "phone" in person:
            row["phone"] = person["phone_e164"]
        elif field in person:
            row[field] = NORMALIZERS[field](person[field])
    return row


def read(path):
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines if line.strip()]


def compare(people, exported):
    """Prints customer and field of each difference, never a value."""
    by_id = {row["customer_id"]: row for row in exported}
    fields = mismatches = 0
    if len(by_id) != len(exported) or len(exported) != len(people):
        mismatches += 1
        print(f"rows: {len(exported)} exported ({len(by_id)} distinct), {len(people)} expected")
    for person in people:
        want = expected(person)
        got = by_id.get(want["customer_id"], {})
        for field in FIELDS:
            if field in want:
                fields += 1
            if want.get(field) != got.get(field):
                mismatches += 1
                print(f"mismatch: {want['customer_id']} {field}")
    print(f"fields {fields}, mismatches {mismatches}")
    return mismatches == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("people")
    parser.add_argument("--compare", metavar="EXPORTED")
    args = parser.parse_args()
    people = read(args.people)
    if args.compare:
        return 0 if compare(people, read(args.compare)) else 1
    sys.stdout.reconfigure(encoding="utf-8")
    for person in people:
        print(json.dumps(expected(person), ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
