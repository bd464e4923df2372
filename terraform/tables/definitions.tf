# The same definitions as internal/dynamo/tables.go; test/terraform compares them.

locals {
  hash_key      = "pk"
  range_key     = "sk"
  ttl_attribute = "ttl"

  # Attributes of keys that are numbers; all others are strings.
  numbers = ["due", "expires"]

  # Every index is sparse and holds keys only.
  indexes = {
    records = [
      { name = "by-subject", hash = "subject", range = "pk" },
      { name = "by-gap", hash = "gap", range = "pk" },
      { name = "by-expiry", hash = "expiry", range = "expires" },
      { name = "by-sweep", hash = "sweep", range = "due" },
    ]
  }

  global_tables   = ["audit", "control", "records"]
  regional_tables = ["audit-index", "counters"]
}
