# Rights by design §3 and §5, and no more. Key policies of module keys say the
# same again for KMS, with the encryption context.

locals {
  tables      = var.table_arns[var.region]
  table_names = { for table, arn in local.tables : table => split("/", arn)[1] }
  remote      = [for region in local.others : var.table_arns[region]]
  indexes     = [for table in ["records"] : "${local.tables[table]}/index/*"]

  wrapping_keys = concat(values(var.ring_key_arns), var.tenant_key_arns)
}

data "aws_iam_policy_document" "assume" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ecs-tasks.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account]
    }

    condition {
      test     = "ArnLike"
      variable = "aws:SourceArn"
      values   = ["arn:${local.partition}:ecs:${var.region}:${local.account}:*"]
    }
  }
}

resource "aws_iam_role" "task" {
  for_each = local.kinds

  name               = "${local.prefix}-${each.key}"
  description        = "Vault instances of ${var.region} that ${each.key}"
  assume_role_policy = data.aws_iam_policy_document.assume.json
  tags               = var.tags
}

resource "aws_iam_role_policy" "tables" {
  for_each = local.kinds

  name   = "tables"
  role   = aws_iam_role.task[each.key].name
  policy = data.aws_iam_policy_document.tables[each.key].json
}

resource "aws_iam_role_policy" "keys" {
  for_each = local.kinds

  name   = "keys"
  role   = aws_iam_role.task[each.key].name
  policy = data.aws_iam_policy_document.keys[each.key].json
}

resource "aws_iam_role_policy" "metrics" {
  for_each = local.kinds

  name   = "metrics"
  role   = aws_iam_role.task[each.key].name
  policy = data.aws_iam_policy_document.metrics[each.key].json
}

data "aws_iam_policy_document" "tables" {
  for_each = local.kinds

  statement {
    sid       = "Records"
    actions   = ["dynamodb:BatchGetItem", "dynamodb:BatchWriteItem", "dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Query"]
    resources = [local.tables["records"]]
  }

  # regions and coverage count degraded records by the sparse index.
  statement {
    sid       = "RecordIndexes"
    actions   = ["dynamodb:Query", "dynamodb:Scan"]
    resources = local.indexes
  }

  # Repair, erasure and the sweeper change rows and delete them.
  dynamic "statement" {
    for_each = each.key == "detokenize" ? [local.tables["records"]] : []

    content {
      sid       = "MaintainRecords"
      actions   = ["dynamodb:ConditionCheckItem", "dynamodb:DeleteItem", "dynamodb:Scan", "dynamodb:UpdateItem"]
      resources = [statement.value]
    }
  }

  # A token not seen here yet is looked for where its hint says (§3).
  dynamic "statement" {
    for_each = length(local.remote) > 0 ? [[for tables in local.remote : tables["records"]]] : []

    content {
      sid       = "LookUpElsewhere"
      actions   = ["dynamodb:BatchGetItem", "dynamodb:GetItem", "dynamodb:Query"]
      resources = statement.value
    }
  }

  dynamic "statement" {
    for_each = var.two_regions && each.key == "tokenize" && length(local.remote) > 0 ? [[for tables in local.remote : tables["records"]]] : []

    content {
      sid       = "SecondRegion"
      actions   = ["dynamodb:BatchWriteItem", "dynamodb:PutItem"]
      resources = statement.value
    }
  }

  # Create-only items: a log is never changed, and no role here may delete from it.
  statement {
    sid       = "AppendAudit"
    actions   = ["dynamodb:BatchGetItem", "dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Query"]
    resources = [local.tables["audit"]]
  }

  statement {
    sid       = "IndexAudit"
    actions   = ["dynamodb:BatchWriteItem", "dynamodb:PutItem", "dynamodb:Query"]
    resources = [local.tables["audit_index"]]
  }

  statement {
    sid       = "ReadControl"
    actions   = ["dynamodb:GetItem", "dynamodb:Query"]
    resources = [local.tables["control"]]
  }

  # Control writes go to every region's table and are read back (§5). Tokenizing
  # instances make known their ring's epoch and when a key was last used, and no
  # key, tenant, job, stop or resume.
  statement {
    sid       = "WriteControl"
    actions   = ["dynamodb:GetItem", "dynamodb:PutItem"]
    resources = [for tables in concat([local.tables], local.remote) : tables["control"]]

    dynamic "condition" {
      for_each = each.key == "tokenize" ? [["ring", "lastuse"]] : []

      content {
        test     = "ForAllValues:StringEquals"
        variable = "dynamodb:LeadingKeys"
        values   = condition.value
      }
    }
  }

  statement {
    sid       = "SpendBudgets"
    actions   = ["dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem"]
    resources = [local.tables["counters"]]
  }

  # doctor and readiness.
  statement {
    sid       = "Describe"
    actions   = ["dynamodb:DescribeContinuousBackups", "dynamodb:DescribeTable", "dynamodb:DescribeTimeToLive"]
    resources = flatten([for tables in concat([local.tables], local.remote) : values(tables)])
  }
}

data "aws_iam_policy_document" "keys" {
  for_each = local.kinds

  statement {
    sid       = each.key == "tokenize" ? "WrapDataKeys" : "OpenAndRepairDataKeys"
    actions   = each.key == "tokenize" ? ["kms:GenerateDataKey", "kms:Encrypt"] : ["kms:Decrypt", "kms:Encrypt"]
    resources = local.wrapping_keys

    condition {
      test     = "Null"
      variable = "kms:EncryptionContext:pv-tenant"
      values   = ["false"]
    }
  }

  dynamic "statement" {
    for_each = each.key == "tokenize" ? ["!tenant-secret"] : []

    content {
      sid       = "OpenTenantSecrets"
      actions   = ["kms:Decrypt"]
      resources = local.wrapping_keys

      condition {
        test     = "StringEquals"
        variable = "kms:EncryptionContext:pv-type"
        values   = [statement.value]
      }
    }
  }

  statement {
    sid       = "Probe"
    actions   = ["kms:GenerateDataKey", "kms:Decrypt"]
    resources = local.wrapping_keys

    condition {
      test     = "StringEquals"
      variable = "kms:EncryptionContext:pv-type"
      values   = ["!probe"]
    }
  }

  statement {
    sid       = "Describe"
    actions   = ["kms:DescribeKey"]
    resources = local.wrapping_keys
  }

  dynamic "statement" {
    for_each = var.signing_key_arn == null ? [] : [var.signing_key_arn]

    content {
      sid       = "SignCheckpoints"
      actions   = ["kms:DescribeKey", "kms:GetPublicKey", "kms:Sign"]
      resources = [statement.value]
    }
  }

  dynamic "statement" {
    for_each = var.checkpoint_bucket_arn == null ? [] : [var.checkpoint_bucket_arn]

    content {
      sid       = "PutCheckpoints"
      actions   = ["s3:PutObject"]
      resources = ["${statement.value}/*"]
    }
  }

  dynamic "statement" {
    for_each = var.checkpoint_key_arn == null ? [] : [var.checkpoint_key_arn]

    content {
      sid       = "EncryptCheckpoints"
      actions   = ["kms:GenerateDataKey"]
      resources = [statement.value]
    }
  }
}

data "aws_iam_policy_document" "metrics" {
  for_each = local.kinds

  statement {
    sid       = "PublishMetrics"
    actions   = ["logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.metrics[each.key].arn}:*"]
  }
}

# What Fargate does before the containers run.
resource "aws_iam_role" "execution" {
  name               = "${local.prefix}-execution"
  description        = "Fargate: pulls images, reads the certificate, writes logs"
  assume_role_policy = data.aws_iam_policy_document.assume.json
  tags               = var.tags
}

resource "aws_iam_role_policy" "execution" {
  name   = "execution"
  role   = aws_iam_role.execution.name
  policy = data.aws_iam_policy_document.execution.json
}

data "aws_iam_policy_document" "execution" {
  statement {
    sid       = "Login"
    actions   = ["ecr:GetAuthorizationToken"]
    resources = ["*"]
  }

  statement {
    sid       = "Pull"
    actions   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
    resources = var.repository_arns
  }

  statement {
    sid       = "Log"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = [for group in aws_cloudwatch_log_group.this : "${group.arn}:*"]
  }

  statement {
    sid       = "Certificate"
    actions   = ["secretsmanager:GetSecretValue"]
    resources = [var.tls_secret_arn]
  }

  dynamic "statement" {
    for_each = var.tls_secret_key_arn == null ? [] : [var.tls_secret_key_arn]

    content {
      sid       = "CertificateKey"
      actions   = ["kms:Decrypt"]
      resources = [statement.value]
    }
  }
}
