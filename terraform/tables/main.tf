data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

locals {
  home     = var.regions[0]
  replicas = setsubtract(var.regions, [local.home])

  regional = {
    for pair in setproduct(var.regions, local.regional_tables) : join("/", pair) => { region = pair[0], table = pair[1] }
  }
}

resource "aws_dynamodb_table" "global" {
  for_each = toset(local.global_tables)

  region                      = local.home
  name                        = "${var.prefix}${each.key}"
  billing_mode                = "PAY_PER_REQUEST"
  hash_key                    = local.hash_key
  range_key                   = local.range_key
  deletion_protection_enabled = var.deletion_protection
  tags                        = var.tags

  # Replication reads the stream.
  stream_enabled   = true
  stream_view_type = "NEW_AND_OLD_IMAGES"

  dynamic "attribute" {
    for_each = toset(concat(
      [local.hash_key, local.range_key],
      flatten([for index in lookup(local.indexes, each.key, []) : [index.hash, index.range]]),
    ))

    content {
      name = attribute.value
      type = contains(local.numbers, attribute.value) ? "N" : "S"
    }
  }

  dynamic "global_secondary_index" {
    for_each = { for index in lookup(local.indexes, each.key, []) : index.name => index }

    content {
      name            = global_secondary_index.key
      hash_key        = global_secondary_index.value.hash
      range_key       = global_secondary_index.value.range
      projection_type = "KEYS_ONLY"
    }
  }

  # Replicas share the setting.
  ttl {
    attribute_name = local.ttl_attribute
    enabled        = true
  }

  point_in_time_recovery {
    enabled                 = true
    recovery_period_in_days = var.recovery_period_in_days
  }

  server_side_encryption {
    enabled     = true
    kms_key_arn = var.kms_key_arns[local.home]
  }

  # What is not said here, a replica does not have.
  dynamic "replica" {
    for_each = local.replicas

    content {
      region_name                 = replica.value
      kms_key_arn                 = var.kms_key_arns[replica.value]
      point_in_time_recovery      = true
      deletion_protection_enabled = var.deletion_protection
      propagate_tags              = true
    }
  }
}

resource "aws_dynamodb_table" "regional" {
  for_each = local.regional

  region                      = each.value.region
  name                        = "${var.prefix}${each.value.table}"
  billing_mode                = "PAY_PER_REQUEST"
  hash_key                    = local.hash_key
  range_key                   = local.range_key
  deletion_protection_enabled = var.deletion_protection
  tags                        = var.tags

  attribute {
    name = local.hash_key
    type = "S"
  }

  attribute {
    name = local.range_key
    type = "S"
  }

  ttl {
    attribute_name = local.ttl_attribute
    enabled        = true
  }

  point_in_time_recovery {
    enabled                 = true
    recovery_period_in_days = var.recovery_period_in_days
  }

  server_side_encryption {
    enabled     = true
    kms_key_arn = var.kms_key_arns[each.value.region]
  }
}
