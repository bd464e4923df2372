# Clients go to the nearest region that is ready. A region with no KMS of its
# own stays: others open its records (G2).

locals {
  alarms = merge([
    for region, endpoint in var.endpoints : { for alarm in endpoint.ready_alarms : "${region}/${alarm}" => { region = region, alarm = alarm } }
  ]...)
}

resource "aws_route53_health_check" "alarm" {
  for_each = local.alarms

  type                            = "CLOUDWATCH_METRIC"
  cloudwatch_alarm_name           = each.value.alarm
  cloudwatch_alarm_region         = each.value.region
  insufficient_data_health_status = "LastKnownStatus"
  tags                            = merge(var.tags, { Name = each.key })
}

resource "aws_route53_health_check" "ready" {
  for_each = var.public ? var.endpoints : {}

  type              = "HTTPS"
  fqdn              = each.value.dns_name
  port              = 443
  resource_path     = "/readyz"
  request_interval  = 10
  failure_threshold = 2
  # The load balancer's name is not the certificate's; the checkers do not compare.
  enable_sni = true
  tags       = merge(var.tags, { Name = "${var.name} in ${each.key}" })
}

resource "aws_route53_health_check" "region" {
  for_each = var.endpoints

  type = "CALCULATED"
  child_healthchecks = concat(
    [for key, alarm in local.alarms : aws_route53_health_check.alarm[key].id if alarm.region == each.key],
    [for region, check in aws_route53_health_check.ready : check.id if region == each.key],
  )
  child_health_threshold = length(each.value.ready_alarms) + (var.public ? 1 : 0)
  tags                   = merge(var.tags, { Name = "${var.name} in ${each.key}" })
}

resource "aws_route53_record" "this" {
  #checkov:skip=CKV2_AWS_23:the load balancer is another module's
  for_each = var.endpoints

  zone_id         = var.zone_id
  name            = var.name
  type            = "A"
  set_identifier  = each.key
  health_check_id = aws_route53_health_check.region[each.key].id

  latency_routing_policy {
    region = each.key
  }

  alias {
    name                   = each.value.dns_name
    zone_id                = each.value.zone_id
    evaluate_target_health = true
  }
}

# One region alone, for probes and for clients that choose.
resource "aws_route53_record" "regional" {
  #checkov:skip=CKV2_AWS_23:the load balancer is another module's
  for_each = var.endpoints

  zone_id = var.zone_id
  name    = "${each.key}.${var.name}"
  type    = "A"

  alias {
    name                   = each.value.dns_name
    zone_id                = each.value.zone_id
    evaluate_target_health = false
  }
}
