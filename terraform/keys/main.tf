# Keys of three uses, apart: the ring wraps data keys, storage encrypts tables,
# logs and buckets, signing signs checkpoints. Who may read a table cannot
# thereby open a record.

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

locals {
  account = data.aws_caller_identity.current.account_id
  root    = "arn:${data.aws_partition.current.partition}:iam::${local.account}:root"

  primary  = var.regions[0]
  per_key  = var.mode == "copies" ? toset(var.regions) : toset([local.primary])
  replicas = var.mode == "copies" ? toset([]) : toset(slice(var.regions, 1, length(var.regions)))
}

resource "aws_kms_key" "ring" {
  for_each = local.per_key

  region                  = each.key
  description             = "${var.name}: wraps data keys"
  key_usage               = "ENCRYPT_DECRYPT"
  multi_region            = var.mode == "multi_region"
  enable_key_rotation     = true
  rotation_period_in_days = var.rotation_period_in_days
  deletion_window_in_days = var.deletion_window_in_days
  policy                  = data.aws_iam_policy_document.ring.json
  tags                    = var.tags
}

resource "aws_kms_replica_key" "ring" {
  for_each = local.replicas

  region                  = each.key
  description             = "${var.name}: wraps data keys"
  primary_key_arn         = aws_kms_key.ring[local.primary].arn
  deletion_window_in_days = var.deletion_window_in_days
  policy                  = data.aws_iam_policy_document.ring.json
  tags                    = var.tags
}

locals {
  ring = merge(
    { for region, key in aws_kms_key.ring : region => key.arn },
    { for region, key in aws_kms_replica_key.ring : region => key.arn },
  )
}

resource "aws_kms_alias" "ring" {
  for_each = toset(var.regions)

  region        = each.key
  name          = "alias/${var.name}-ring"
  target_key_id = local.ring[each.key]
}

resource "aws_kms_key" "storage" {
  for_each = toset(var.regions)

  region                  = each.key
  description             = "${var.name}: encrypts tables, logs and buckets"
  key_usage               = "ENCRYPT_DECRYPT"
  enable_key_rotation     = true
  rotation_period_in_days = var.rotation_period_in_days
  deletion_window_in_days = var.deletion_window_in_days
  policy                  = data.aws_iam_policy_document.storage[each.key].json
  tags                    = var.tags
}

resource "aws_kms_alias" "storage" {
  for_each = toset(var.regions)

  region        = each.key
  name          = "alias/${var.name}-storage"
  target_key_id = aws_kms_key.storage[each.key].arn
}

# KMS rotates no asymmetric key: a new one is a new verifier key, announced in the log.
resource "aws_kms_key" "signing" {
  for_each = var.signing_keys ? toset(var.regions) : toset([])

  region                   = each.key
  description              = "${var.name}: signs audit checkpoints"
  key_usage                = "SIGN_VERIFY"
  customer_master_key_spec = "ECC_NIST_EDWARDS25519"
  deletion_window_in_days  = var.deletion_window_in_days
  policy                   = data.aws_iam_policy_document.signing.json
  tags                     = var.tags
}

resource "aws_kms_alias" "signing" {
  for_each = aws_kms_key.signing

  region        = each.key
  name          = "alias/${var.name}-signing"
  target_key_id = each.value.arn
}
