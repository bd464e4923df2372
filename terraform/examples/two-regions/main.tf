data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

locals {
  home = var.regions[0]

  # Module service makes roles of these names; keys and bucket come before it.
  roles = {
    for kind in ["detokenize", "tokenize"] : kind => [
      for region in var.regions :
      "arn:${data.aws_partition.current.partition}:iam::${data.aws_caller_identity.current.account_id}:role/${var.name}-${region}-${kind}"
    ]
  }

  # vault.yaml, a file for each region. Region, listeners and certificate aside, all say the same.
  configs = {
    for region in var.regions : region => yamlencode(merge(var.settings, {
      env        = var.env
      region     = region
      regions    = module.keys.regions
      tables     = module.tables.names
      durability = var.durability
      ring       = { mode = module.keys.mode, min_copies = var.ring.min_copies, epoch = var.ring.epoch }
    }))
  }
}

module "keys" {
  source = "../../keys"

  name                   = var.name
  regions                = var.regions
  mode                   = var.ring.mode
  tokenizing_role_arns   = local.roles["tokenize"]
  detokenizing_role_arns = local.roles["detokenize"]
  bootstrap_role_arns    = var.bootstrap_role_arns
  administrator_arns     = var.administrator_arns
}

module "tables" {
  source = "../../tables"

  prefix              = "${var.name}-${var.env}-"
  regions             = var.regions
  kms_key_arns        = module.keys.storage_key_arns
  deletion_protection = var.deletion_protection
}

module "audit" {
  source = "../../audit"

  bucket           = var.checkpoint_bucket
  region           = local.home
  kms_key_arn      = module.keys.storage_key_arns[local.home]
  writer_role_arns = concat(local.roles["tokenize"], local.roles["detokenize"])
}

module "service" {
  source   = "../../service"
  for_each = toset(var.regions)

  name            = var.name
  region          = each.key
  image           = var.images[each.key].vault
  init_image      = var.images[each.key].init
  agent_image     = var.images[each.key].agent
  repository_arns = var.images[each.key].repository_arns
  config          = local.configs[each.key]
  two_regions     = var.durability == "two_regions"
  tls_secret_arn  = var.tls_secret_arns[each.key]
  certificate_arn = aws_acm_certificate_validation.this[each.key].certificate_arn

  ring_key_arns         = module.keys.ring_key_arns
  storage_key_arn       = module.keys.storage_key_arns[each.key]
  signing_key_arn       = module.keys.signing_key_arns[each.key]
  table_arns            = module.tables.arns
  checkpoint_bucket_arn = module.audit.arn
  checkpoint_key_arn    = module.keys.storage_key_arns[local.home]

  vpc_id                   = aws_vpc.this[each.key].id
  private_subnet_ids       = [for zone in local.zones : aws_subnet.private["${each.key}/${zone}"].id]
  private_route_table_ids  = [for zone in local.zones : aws_route_table.private["${each.key}/${zone}"].id]
  load_balancer_subnet_ids = [for zone in local.zones : aws_subnet.private["${each.key}/${zone}"].id]
  client_cidrs             = var.client_cidrs
  alarm_topic_arns         = lookup(var.alarm_topic_arns, each.key, [])
  deletion_protection      = var.deletion_protection
}

module "dns" {
  source = "../../dns"

  zone_id = var.zone_id
  name    = var.domain_name
  endpoints = {
    for region, service in module.service : region => {
      dns_name     = service.load_balancer.dns_name
      zone_id      = service.load_balancer.zone_id
      ready_alarms = service.ready_alarms
    }
  }
}

resource "aws_acm_certificate" "this" {
  for_each = toset(var.regions)

  region                    = each.key
  domain_name               = var.domain_name
  subject_alternative_names = ["*.${var.domain_name}"]
  validation_method         = "DNS"

  lifecycle {
    create_before_destroy = true
  }
}

# The proof is the same for every region and for the wildcard.
resource "aws_route53_record" "validation" {
  zone_id         = var.zone_id
  name            = one(distinct([for option in aws_acm_certificate.this[local.home].domain_validation_options : option.resource_record_name]))
  type            = "CNAME"
  ttl             = 300
  records         = distinct([for option in aws_acm_certificate.this[local.home].domain_validation_options : option.resource_record_value])
  allow_overwrite = true
}

resource "aws_acm_certificate_validation" "this" {
  for_each = aws_acm_certificate.this

  region                  = each.key
  certificate_arn         = each.value.arn
  validation_record_fqdns = [aws_route53_record.validation.fqdn]
}
