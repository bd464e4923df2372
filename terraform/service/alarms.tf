locals {
  regions = sort(keys(var.ring_key_arns))
  others  = setsubtract(local.regions, [var.region])

  # Tables that replicate.
  replicated = ["records", "audit", "control"]
  lags = {
    for pair in setproduct(local.others, local.replicated) : "${pair[0]}-${pair[1]}" => { region = pair[0], table = pair[1] }
  }
}

# What KMS counts, whoever called, whatever the vault says of itself: mass
# decryption shows here (G5).
resource "aws_cloudwatch_metric_alarm" "decrypts" {
  region              = var.region
  alarm_name          = "${local.prefix}-kms-decrypts"
  alarm_description   = "More KMS Decrypt calls a minute with the ring key than the threshold: a rush of clients, or somebody opens records in bulk."
  namespace           = "AWS/KMS"
  metric_name         = "SuccessfulRequest"
  dimensions          = { KeyArn = var.ring_key_arns[var.region], Operation = "Decrypt" }
  statistic           = "Sum"
  period              = 60
  evaluation_periods  = 3
  datapoints_to_alarm = 2
  comparison_operator = "GreaterThanThreshold"
  threshold           = var.alarm_thresholds.decrypts
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topic_arns
  ok_actions          = var.alarm_topic_arns
  tags                = var.tags
}

# Longer than an outage: what repair ought to have closed (G3).
resource "aws_cloudwatch_metric_alarm" "degraded" {
  for_each = toset(local.regions)

  region              = var.region
  alarm_name          = "${local.prefix}-degraded-${each.key}"
  alarm_description   = "Records without the key copy of ${each.key} for 15 minutes: were every other region lost, they could not be read there."
  namespace           = var.name
  metric_name         = "vault_missing_copies"
  dimensions          = { region = var.region, of = each.key }
  statistic           = "Maximum"
  period              = 60
  evaluation_periods  = 15
  comparison_operator = "GreaterThanThreshold"
  threshold           = var.alarm_thresholds.degraded
  treat_missing_data  = "missing"
  alarm_actions       = var.alarm_topic_arns
  ok_actions          = var.alarm_topic_arns
  tags                = var.tags
}

resource "aws_cloudwatch_metric_alarm" "replication_lag" {
  for_each = local.lags

  region              = var.region
  alarm_name          = "${local.prefix}-lag-${each.key}"
  alarm_description   = "Table ${each.value.table} takes long to reach ${each.value.region}: what a loss of ${var.region} would lose, and how late an erasure is."
  namespace           = "AWS/DynamoDB"
  metric_name         = "ReplicationLatency"
  dimensions          = { TableName = local.table_names[each.value.table], ReceivingRegion = each.value.region }
  statistic           = "Average"
  period              = 60
  evaluation_periods  = 5
  datapoints_to_alarm = 3
  comparison_operator = "GreaterThanThreshold"
  threshold           = var.alarm_thresholds.replication_lag
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topic_arns
  ok_actions          = var.alarm_topic_arns
  tags                = var.tags
}

# Module dns takes the region out of DNS while this is on, where no health
# checker can reach an internal load balancer.
resource "aws_cloudwatch_metric_alarm" "ready" {
  for_each = local.kinds

  region              = var.region
  alarm_name          = "${local.prefix}-${each.key}-ready"
  alarm_description   = "No ${each.key} instance of ${var.region} is ready."
  namespace           = "AWS/ApplicationELB"
  metric_name         = "HealthyHostCount"
  dimensions          = { LoadBalancer = aws_lb.this.arn_suffix, TargetGroup = aws_lb_target_group.this[each.key].arn_suffix }
  statistic           = "Maximum"
  period              = 60
  evaluation_periods  = 1
  comparison_operator = "LessThanThreshold"
  threshold           = 1
  treat_missing_data  = "breaching"
  alarm_actions       = var.alarm_topic_arns
  ok_actions          = var.alarm_topic_arns
  tags                = var.tags
}

resource "aws_cloudwatch_metric_alarm" "failures" {
  for_each = local.kinds

  region              = var.region
  alarm_name          = "${local.prefix}-${each.key}-5xx"
  alarm_description   = "Instances answer with 5xx: a dependency is out, or audit cannot be made durable and nothing is released (G6)."
  namespace           = "AWS/ApplicationELB"
  metric_name         = "HTTPCode_Target_5XX_Count"
  dimensions          = { LoadBalancer = aws_lb.this.arn_suffix, TargetGroup = aws_lb_target_group.this[each.key].arn_suffix }
  statistic           = "Sum"
  period              = 60
  evaluation_periods  = 5
  datapoints_to_alarm = 3
  comparison_operator = "GreaterThanThreshold"
  threshold           = 10
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topic_arns
  ok_actions          = var.alarm_topic_arns
  tags                = var.tags
}
