// Keeps a signup form's fields as tokens in one region and shows them, masked, in another.
import createClient from "openapi-fetch";
import type { paths } from "./generated/vault.js";

const { VAULT_ADDR: one, VAULT_ADDR2: other = one, VAULT_KEY } = process.env;
const vault = (baseUrl = "http://127.0.0.1:8201") => createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${VAULT_KEY}` } });

const form = [
  { type: "email", value: "ann@example.com" },
  { type: "phone", value: "01 234 5678", country: "IE" },
  { type: "name", value: "Ann Example" },
];
const kept = await vault(one).POST("/v1/tokenize", { body: { items: form } });
if (!kept.data) throw new Error(`tokenize: ${kept.error.code}`);
const items = kept.data.items.map(({ token = "" }) => ({ token, reveal: "masked" as const }));
const shown = await vault(other).POST("/v1/detokenize", { body: { items, purpose: "signup" } });
if (!shown.data) throw new Error(`detokenize: ${shown.error.code}`);
for (const { type, value } of shown.data.items) console.log(`${type}: ${value}`);
