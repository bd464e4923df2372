"""Keeps a signup form's fields as tokens in one region and shows them, masked, in another."""

import os

from vault_client import AuthenticatedClient
from vault_client.api.values import detokenize, tokenize
from vault_client.models import (
    DetokenizeItem, DetokenizeRequest, DetokenizeResponse, Reveal, TokenizeItem, TokenizeRequest, TokenizeResponse,
)

one, key = os.environ["VAULT_ADDR"], os.environ["VAULT_KEY"]
other = os.environ.get("VAULT_ADDR2", one)

form = [
    TokenizeItem("email", "ann@example.com"),
    TokenizeItem("phone", "01 234 5678", country="IE"),
    TokenizeItem("name", "Ann Example"),
]
kept = tokenize.sync(client=AuthenticatedClient(one, key), body=TokenizeRequest(form))
if not isinstance(kept, TokenizeResponse):
    raise SystemExit(f"tokenize: {kept.code if kept else 'no answer'}")
items = [DetokenizeItem(item.token, reveal=Reveal.MASKED) for item in kept.items]
shown = detokenize.sync(client=AuthenticatedClient(other, key), body=DetokenizeRequest(items, "signup"))
if not isinstance(shown, DetokenizeResponse):
    raise SystemExit(f"detokenize: {shown.code if shown else 'no answer'}")
for item in shown.items:
    print(f"{item.type_}: {item.value}")
