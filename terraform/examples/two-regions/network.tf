# A VPC in each region: instances in private subnets, and a way out, since AWS
# offers no endpoint for another region's KMS and DynamoDB. Bring your own
# network in its place; module service needs ids only.

locals {
  zones = [0, 1]

  subnets = {
    for pair in setproduct(var.regions, local.zones) : "${pair[0]}/${pair[1]}" => { region = pair[0], zone = tonumber(pair[1]) }
  }
}

data "aws_availability_zones" "this" {
  #checkov:skip=CKV_AWS_394:the first two by name; a new zone has a later one
  for_each = toset(var.regions)

  region = each.key
  state  = "available"

  filter {
    name   = "opt-in-status"
    values = ["opt-in-not-required"]
  }
}

resource "aws_vpc" "this" {
  #checkov:skip=CKV2_AWS_12:aws_default_security_group.this, below
  #checkov:skip=CKV2_AWS_11:aws_flow_log.this, below
  for_each = toset(var.regions)

  region               = each.key
  cidr_block           = var.networks[each.key]
  enable_dns_support   = true
  enable_dns_hostnames = true
  tags                 = { Name = var.name }
}

# Without rules: nothing uses it.
resource "aws_default_security_group" "this" {
  for_each = aws_vpc.this

  region = each.key
  vpc_id = each.value.id
}

resource "aws_cloudwatch_log_group" "flows" {
  for_each = aws_vpc.this

  region            = each.key
  name              = "/${var.name}/flows"
  retention_in_days = 365
  kms_key_id        = module.keys.storage_key_arns[each.key]
}

resource "aws_flow_log" "this" {
  for_each = aws_vpc.this

  region               = each.key
  vpc_id               = each.value.id
  traffic_type         = "ALL"
  log_destination_type = "cloud-watch-logs"
  log_destination      = aws_cloudwatch_log_group.flows[each.key].arn
  iam_role_arn         = aws_iam_role.flows.arn
}

resource "aws_iam_role" "flows" {
  name               = "${var.name}-flows"
  description        = "VPC flow logs of all regions"
  assume_role_policy = data.aws_iam_policy_document.assume_flows.json
}

resource "aws_iam_role_policy" "flows" {
  name   = "flows"
  role   = aws_iam_role.flows.name
  policy = data.aws_iam_policy_document.flows.json
}

data "aws_iam_policy_document" "assume_flows" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["vpc-flow-logs.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [data.aws_caller_identity.current.account_id]
    }
  }
}

data "aws_iam_policy_document" "flows" {
  statement {
    actions   = ["logs:CreateLogStream", "logs:DescribeLogGroups", "logs:DescribeLogStreams", "logs:PutLogEvents"]
    resources = [for group in aws_cloudwatch_log_group.flows : "${group.arn}:*"]
  }
}

resource "aws_subnet" "private" {
  for_each = local.subnets

  region            = each.value.region
  vpc_id            = aws_vpc.this[each.value.region].id
  availability_zone = data.aws_availability_zones.this[each.value.region].names[each.value.zone]
  cidr_block        = cidrsubnet(var.networks[each.value.region], 4, each.value.zone)
  tags              = { Name = "${var.name}-private-${each.value.zone}" }
}

resource "aws_subnet" "public" {
  for_each = local.subnets

  region                  = each.value.region
  vpc_id                  = aws_vpc.this[each.value.region].id
  availability_zone       = data.aws_availability_zones.this[each.value.region].names[each.value.zone]
  cidr_block              = cidrsubnet(var.networks[each.value.region], 4, each.value.zone + 4)
  map_public_ip_on_launch = false
  tags                    = { Name = "${var.name}-public-${each.value.zone}" }
}

resource "aws_internet_gateway" "this" {
  for_each = aws_vpc.this

  region = each.key
  vpc_id = each.value.id
  tags   = { Name = var.name }
}

resource "aws_route_table" "public" {
  for_each = aws_vpc.this

  region = each.key
  vpc_id = each.value.id
  tags   = { Name = "${var.name}-public" }

  route {
    cidr_block = "0.0.0.0/0"
    gateway_id = aws_internet_gateway.this[each.key].id
  }
}

resource "aws_route_table_association" "public" {
  for_each = local.subnets

  region         = each.value.region
  subnet_id      = aws_subnet.public[each.key].id
  route_table_id = aws_route_table.public[each.value.region].id
}

resource "aws_eip" "nat" {
  for_each = local.subnets

  region = each.value.region
  domain = "vpc"
  tags   = { Name = "${var.name}-nat-${each.value.zone}" }
}

resource "aws_nat_gateway" "this" {
  for_each = local.subnets

  region        = each.value.region
  subnet_id     = aws_subnet.public[each.key].id
  allocation_id = aws_eip.nat[each.key].allocation_id
  tags          = { Name = "${var.name}-${each.value.zone}" }

  depends_on = [aws_internet_gateway.this]
}

# No routes in the block: the gateway endpoints of module service add theirs.
resource "aws_route_table" "private" {
  for_each = local.subnets

  region = each.value.region
  vpc_id = aws_vpc.this[each.value.region].id
  tags   = { Name = "${var.name}-private-${each.value.zone}" }
}

resource "aws_route" "out" {
  for_each = local.subnets

  region                 = each.value.region
  route_table_id         = aws_route_table.private[each.key].id
  destination_cidr_block = "0.0.0.0/0"
  nat_gateway_id         = aws_nat_gateway.this[each.key].id
}

resource "aws_route_table_association" "private" {
  for_each = local.subnets

  region         = each.value.region
  subnet_id      = aws_subnet.private[each.key].id
  route_table_id = aws_route_table.private[each.key].id
}
