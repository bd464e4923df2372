# Two kinds of instances behind one load balancer: those that tokenize cannot
# open a record, so that a break-in there yields no stored value.

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

locals {
  partition = data.aws_partition.current.partition
  account   = data.aws_caller_identity.current.account_id
  prefix    = "${var.name}-${var.region}"
  port      = 8443
  kinds     = toset(keys(local.duties))

  # What `vault serve --can` starts each kind with. The roles grant no more.
  duties = {
    detokenize = "detokenize,audit,repair"
    tokenize   = "tokenize"
  }

  # Paths that tokenizing instances answer; all others go to the detokenizing.
  tokenizing_paths = ["/v1/tokenize", "/v1/types", "/v1/inspect"]
}

resource "aws_ecs_cluster" "this" {
  region = var.region
  name   = local.prefix
  tags   = var.tags

  setting {
    name  = "containerInsights"
    value = "enabled"
  }
}

resource "aws_cloudwatch_log_group" "this" {
  for_each = local.kinds

  region            = var.region
  name              = "/${var.name}/${each.key}"
  retention_in_days = var.log_retention_in_days
  kms_key_id        = var.storage_key_arn
  tags              = var.tags
}

# The agent turns these into metrics; they are of no use for longer.
resource "aws_cloudwatch_log_group" "metrics" {
  for_each = local.kinds

  region            = var.region
  name              = "/${var.name}/${each.key}/metrics"
  retention_in_days = var.log_retention_in_days
  kms_key_id        = var.storage_key_arn
  tags              = var.tags
}

resource "aws_ecs_service" "this" {
  for_each = local.kinds

  region                             = var.region
  name                               = each.key
  cluster                            = aws_ecs_cluster.this.arn
  task_definition                    = aws_ecs_task_definition.this[each.key].arn
  launch_type                        = "FARGATE"
  desired_count                      = var.tasks.min
  deployment_minimum_healthy_percent = 100
  deployment_maximum_percent         = 200
  health_check_grace_period_seconds  = 60
  enable_execute_command             = false
  availability_zone_rebalancing      = "ENABLED"
  propagate_tags                     = "SERVICE"
  tags                               = var.tags

  network_configuration {
    subnets          = var.private_subnet_ids
    security_groups  = [aws_security_group.instances.id]
    assign_public_ip = false
  }

  load_balancer {
    target_group_arn = aws_lb_target_group.this[each.key].arn
    container_name   = "vault"
    container_port   = local.port
  }

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  # Autoscaling's.
  lifecycle {
    ignore_changes = [desired_count]
  }

  depends_on = [aws_lb_listener.https, aws_iam_role_policy.tables, aws_iam_role_policy.keys, aws_iam_role_policy.execution]
}

resource "aws_appautoscaling_target" "this" {
  for_each = local.kinds

  region             = var.region
  service_namespace  = "ecs"
  scalable_dimension = "ecs:service:DesiredCount"
  resource_id        = "service/${aws_ecs_cluster.this.name}/${aws_ecs_service.this[each.key].name}"
  min_capacity       = var.tasks.min
  max_capacity       = var.tasks.max
  tags               = var.tags
}

resource "aws_appautoscaling_policy" "cpu" {
  for_each = local.kinds

  region             = var.region
  name               = "cpu"
  policy_type        = "TargetTrackingScaling"
  service_namespace  = aws_appautoscaling_target.this[each.key].service_namespace
  scalable_dimension = aws_appautoscaling_target.this[each.key].scalable_dimension
  resource_id        = aws_appautoscaling_target.this[each.key].resource_id

  # Half, so that one region can take another's clients at once.
  target_tracking_scaling_policy_configuration {
    target_value       = 50
    scale_in_cooldown  = 300
    scale_out_cooldown = 30

    predefined_metric_specification {
      predefined_metric_type = "ECSServiceAverageCPUUtilization"
    }
  }
}
