resource "aws_security_group" "load_balancer" {
  region      = var.region
  name        = "${local.prefix}-load-balancer"
  description = "Clients to the load balancer"
  vpc_id      = var.vpc_id
  tags        = var.tags
}

resource "aws_security_group" "instances" {
  region      = var.region
  name        = "${local.prefix}-instances"
  description = "The load balancer to instances, instances to AWS"
  vpc_id      = var.vpc_id
  tags        = var.tags
}

resource "aws_security_group" "endpoints" {
  region      = var.region
  name        = "${local.prefix}-endpoints"
  description = "Instances to endpoints"
  vpc_id      = var.vpc_id
  tags        = var.tags
}

resource "aws_vpc_security_group_ingress_rule" "clients" {
  for_each = toset(var.client_cidrs)

  region            = var.region
  security_group_id = aws_security_group.load_balancer.id
  description       = "Clients"
  cidr_ipv4         = each.key
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}

resource "aws_vpc_security_group_egress_rule" "load_balancer" {
  region                       = var.region
  security_group_id            = aws_security_group.load_balancer.id
  description                  = "Instances"
  referenced_security_group_id = aws_security_group.instances.id
  ip_protocol                  = "tcp"
  from_port                    = local.port
  to_port                      = local.port
}

resource "aws_vpc_security_group_ingress_rule" "instances" {
  region                       = var.region
  security_group_id            = aws_security_group.instances.id
  description                  = "Load balancer"
  referenced_security_group_id = aws_security_group.load_balancer.id
  ip_protocol                  = "tcp"
  from_port                    = local.port
  to_port                      = local.port
}

resource "aws_vpc_security_group_egress_rule" "endpoints" {
  region                       = var.region
  security_group_id            = aws_security_group.instances.id
  description                  = "KMS, ECR, logs and secrets of this region"
  referenced_security_group_id = aws_security_group.endpoints.id
  ip_protocol                  = "tcp"
  from_port                    = 443
  to_port                      = 443
}

resource "aws_vpc_security_group_egress_rule" "gateways" {
  for_each = aws_vpc_endpoint.gateway

  region            = var.region
  security_group_id = aws_security_group.instances.id
  description       = "${each.key} of this region"
  prefix_list_id    = each.value.prefix_list_id
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}

resource "aws_vpc_security_group_egress_rule" "remote" {
  for_each = toset(var.remote_cidrs)

  region            = var.region
  security_group_id = aws_security_group.instances.id
  description       = "KMS and DynamoDB of the other regions"
  cidr_ipv4         = each.key
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}

resource "aws_vpc_security_group_ingress_rule" "endpoints" {
  region                       = var.region
  security_group_id            = aws_security_group.endpoints.id
  description                  = "Instances"
  referenced_security_group_id = aws_security_group.instances.id
  ip_protocol                  = "tcp"
  from_port                    = 443
  to_port                      = 443
}

resource "aws_vpc_endpoint" "gateway" {
  for_each = toset(["dynamodb", "s3"])

  region            = var.region
  vpc_id            = var.vpc_id
  service_name      = "com.amazonaws.${var.region}.${each.key}"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = var.private_route_table_ids
  policy            = each.key == "dynamodb" ? data.aws_iam_policy_document.endpoint["dynamodb"].json : null
  tags              = merge(var.tags, { Name = "${local.prefix}-${each.key}" })
}

resource "aws_vpc_endpoint" "interface" {
  for_each = toset(["ecr.api", "ecr.dkr", "kms", "logs", "secretsmanager"])

  region              = var.region
  vpc_id              = var.vpc_id
  service_name        = "com.amazonaws.${var.region}.${each.key}"
  vpc_endpoint_type   = "Interface"
  subnet_ids          = var.private_subnet_ids
  security_group_ids  = [aws_security_group.endpoints.id]
  private_dns_enabled = true
  policy              = each.key == "kms" ? data.aws_iam_policy_document.endpoint["kms"].json : null
  tags                = merge(var.tags, { Name = "${local.prefix}-${each.key}" })
}

# Keys and tables of this account only: stolen credentials of another account
# carry nothing out this way.
data "aws_iam_policy_document" "endpoint" {
  for_each = toset(["dynamodb", "kms"])

  statement {
    actions   = ["${each.key}:*"]
    resources = ["*"]

    principals {
      type        = "AWS"
      identifiers = ["*"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:PrincipalAccount"
      values   = [local.account]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceAccount"
      values   = [local.account]
    }
  }
}
