# A statement's principal is the account and its condition names the roles: so
# a key can be made before its roles, IAM must permit the call as well, and a
# role deleted and made again under its name works as before.

locals {
  service_role_arns = distinct(concat(var.tokenizing_role_arns, var.detokenizing_role_arns))
  user_arns         = distinct(concat(local.service_role_arns, var.bootstrap_role_arns))

  # Actions that administer a key and use it for nothing. CreateGrant is not among them.
  administration = [
    "kms:CancelKeyDeletion", "kms:CreateAlias", "kms:DeleteAlias", "kms:DescribeKey", "kms:DisableKey",
    "kms:DisableKeyRotation", "kms:EnableKey", "kms:EnableKeyRotation", "kms:GetKeyPolicy",
    "kms:GetKeyRotationStatus", "kms:GetPublicKey", "kms:ListAliases", "kms:ListGrants", "kms:ListKeyPolicies",
    "kms:ListKeyRotations", "kms:ListResourceTags", "kms:PutKeyPolicy", "kms:ReplicateKey", "kms:RevokeGrant",
    "kms:RotateKeyOnDemand", "kms:ScheduleKeyDeletion", "kms:TagResource", "kms:UntagResource", "kms:UpdateAlias",
    "kms:UpdateKeyDescription", "kms:UpdatePrimaryRegion",
  ]

  # What each set of roles may do with the ring, by the pv-type of the data key
  # (docs/design/format.md §1): types of values, tenants' secrets, probes.
  # A null type: any.
  uses = {
    WrapDataKeys = {
      roles = var.tokenizing_role_arns, actions = ["kms:GenerateDataKey", "kms:Encrypt"], type = null
    }
    # Repair keeps the data key: it opens one copy and wraps for the missing region.
    OpenAndRepairDataKeys = {
      roles = var.detokenizing_role_arns, actions = ["kms:Decrypt", "kms:Encrypt"], type = null
    }
    # Without the tenant's secret no record id can be computed.
    OpenTenantSecrets = {
      roles = var.tokenizing_role_arns, actions = ["kms:Decrypt"], type = "!tenant-secret"
    }
    MakeTenantSecrets = {
      roles = var.bootstrap_role_arns, actions = ["kms:GenerateDataKey", "kms:Encrypt", "kms:Decrypt"], type = "!tenant-secret"
    }
  }
}

data "aws_iam_policy_document" "administration" {
  #checkov:skip=CKV_AWS_111:a key's policy
  #checkov:skip=CKV_AWS_356:in a key's policy * is the key
  statement {
    sid       = "Administer"
    actions   = local.administration
    resources = ["*"]

    principals {
      type        = "AWS"
      identifiers = length(var.administrator_arns) > 0 ? var.administrator_arns : [local.root]
    }
  }
}

data "aws_iam_policy_document" "ring" {
  source_policy_documents = [data.aws_iam_policy_document.administration.json]

  dynamic "statement" {
    for_each = { for sid, use in local.uses : sid => use if length(use.roles) > 0 }

    content {
      sid       = statement.key
      actions   = statement.value.actions
      resources = ["*"]

      principals {
        type        = "AWS"
        identifiers = [local.root]
      }

      condition {
        test     = "ArnEquals"
        variable = "aws:PrincipalArn"
        values   = statement.value.roles
      }

      # Exactly the three pairs: none else, and, since ForAllValues holds of
      # nothing at all, each of them there.
      condition {
        test     = "ForAllValues:StringEquals"
        variable = "kms:EncryptionContextKeys"
        values   = ["pv-key", "pv-tenant", "pv-type"]
      }

      dynamic "condition" {
        for_each = toset(["pv-key", "pv-tenant", "pv-type"])

        content {
          test     = "Null"
          variable = "kms:EncryptionContext:${condition.value}"
          values   = ["false"]
        }
      }

      dynamic "condition" {
        for_each = statement.value.type == null ? [] : [statement.value.type]

        content {
          test     = "StringEquals"
          variable = "kms:EncryptionContext:pv-type"
          values   = [condition.value]
        }
      }

      dynamic "condition" {
        for_each = length(var.tenant_ids) > 0 ? [var.tenant_ids] : []

        content {
          test     = "StringEquals"
          variable = "kms:EncryptionContext:pv-tenant"
          values   = condition.value
        }
      }
    }
  }

  # A probe makes a data key, opens it and forgets it, under a context that no record has.
  statement {
    sid       = "Probe"
    actions   = ["kms:GenerateDataKey", "kms:Decrypt"]
    resources = ["*"]

    principals {
      type        = "AWS"
      identifiers = [local.root]
    }

    condition {
      test     = "ArnEquals"
      variable = "aws:PrincipalArn"
      values   = local.user_arns
    }

    condition {
      test     = "ForAllValues:StringEquals"
      variable = "kms:EncryptionContextKeys"
      values   = ["pv-type"]
    }

    condition {
      test     = "StringEquals"
      variable = "kms:EncryptionContext:pv-type"
      values   = ["!probe"]
    }
  }

  statement {
    sid       = "Describe"
    actions   = ["kms:DescribeKey"]
    resources = ["*"]

    principals {
      type        = "AWS"
      identifiers = [local.root]
    }

    condition {
      test     = "ArnEquals"
      variable = "aws:PrincipalArn"
      values   = local.user_arns
    }
  }

  # Holds against a statement added later, and against grants.
  statement {
    sid       = "NobodyElse"
    effect    = "Deny"
    actions   = ["kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*", "kms:CreateGrant"]
    resources = ["*"]

    principals {
      type        = "AWS"
      identifiers = ["*"]
    }

    condition {
      test     = "ArnNotEquals"
      variable = "aws:PrincipalArn"
      values   = local.user_arns
    }
  }
}

data "aws_iam_policy_document" "signing" {
  #checkov:skip=CKV_AWS_111:a key's policy
  #checkov:skip=CKV_AWS_356:in a key's policy * is the key
  source_policy_documents = [data.aws_iam_policy_document.administration.json]

  # Pure Ed25519 (RFC 8032) over the note's text: message type RAW.
  statement {
    sid       = "Sign"
    actions   = ["kms:Sign"]
    resources = ["*"]

    principals {
      type        = "AWS"
      identifiers = [local.root]
    }

    condition {
      test     = "ArnEquals"
      variable = "aws:PrincipalArn"
      values   = local.service_role_arns
    }

    condition {
      test     = "StringEquals"
      variable = "kms:SigningAlgorithm"
      values   = ["ED25519_SHA_512"]
    }

    condition {
      test     = "StringEquals"
      variable = "kms:MessageType"
      values   = ["RAW"]
    }
  }

  statement {
    sid       = "Verify"
    actions   = ["kms:DescribeKey", "kms:GetPublicKey", "kms:Verify"]
    resources = ["*"]

    principals {
      type        = "AWS"
      identifiers = [local.root]
    }
  }
}

data "aws_iam_policy_document" "storage" {
  for_each = toset(var.regions)

  source_policy_documents = [data.aws_iam_policy_document.administration.json]

  # As AWS's own keys for these services: whoever may use the table or bucket,
  # through it. The role that replicates global tables comes this way too.
  statement {
    sid       = "ThroughDynamoDBAndS3"
    actions   = ["kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*", "kms:CreateGrant"]
    resources = ["*"]

    principals {
      type        = "AWS"
      identifiers = ["*"]
    }

    condition {
      test     = "StringEquals"
      variable = "kms:CallerAccount"
      values   = [local.account]
    }

    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values   = [for service in ["dynamodb", "s3"] : "${service}.${each.key}.amazonaws.com"]
    }
  }

  statement {
    sid       = "Logs"
    actions   = ["kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*"]
    resources = ["*"]

    principals {
      type        = "Service"
      identifiers = ["logs.${each.key}.${data.aws_partition.current.dns_suffix}"]
    }

    condition {
      test     = "ArnLike"
      variable = "kms:EncryptionContext:aws:logs:arn"
      values   = ["arn:${data.aws_partition.current.partition}:logs:${each.key}:${local.account}:log-group:*"]
    }
  }
}
