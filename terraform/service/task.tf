locals {
  # The vault's image has no shell and mounts no secret: this one writes the
  # files that it reads, and ends before it starts.
  init = <<-SH
    set -eu
    umask 077
    cd /etc/vault
    printf '%s' "$VAULT_YAML" > vault.yaml
    printf '%s' "$TLS_CERT" > tls.crt
    printf '%s' "$TLS_KEY" > tls.key
    chown -R ${var.user} .
  SH

  agent = { for kind in local.kinds : kind => jsonencode({
    agent = { region = var.region }
    logs = {
      metrics_collected = {
        prometheus = {
          log_group_name         = aws_cloudwatch_log_group.metrics[kind].name
          prometheus_config_path = "env:PROMETHEUS_CONFIG_CONTENT"
          emf_processor = {
            metric_namespace = var.name
            metric_declaration = [{
              source_labels    = ["job"]
              label_matcher    = "^vault$"
              dimensions       = [["region", "of"]]
              metric_selectors = ["^vault_missing_copies$", "^vault_kms_up$"]
            }]
          }
        }
      }
      force_flush_interval = 5
    }
  }) }

  prometheus = {
    global = { scrape_interval = "1m", scrape_timeout = "10s" }
    scrape_configs = [{
      job_name       = "vault"
      static_configs = [{ targets = ["127.0.0.1:9090"] }]
    }]
  }
}

resource "aws_ecs_task_definition" "this" {
  #checkov:skip=CKV_AWS_336:the agent writes its own settings; init and vault are read-only
  for_each = local.kinds

  region                   = var.region
  family                   = "${local.prefix}-${each.key}"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = var.cpu
  memory                   = var.memory
  task_role_arn            = aws_iam_role.task[each.key].arn
  execution_role_arn       = aws_iam_role.execution.arn
  tags                     = var.tags

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = var.cpu_architecture
  }

  volume {
    name = "config"
  }

  container_definitions = jsonencode([
    {
      name                   = "init"
      image                  = var.init_image
      essential              = false
      user                   = "0:0"
      readonlyRootFilesystem = true
      entryPoint             = ["/bin/sh", "-c"]
      command                = [local.init]
      environment            = [{ name = "VAULT_YAML", value = var.config }]
      secrets = [
        { name = "TLS_CERT", valueFrom = "${var.tls_secret_arn}:cert::" },
        { name = "TLS_KEY", valueFrom = "${var.tls_secret_arn}:key::" },
      ]
      mountPoints      = [{ sourceVolume = "config", containerPath = "/etc/vault", readOnly = false }]
      logConfiguration = local.logs[each.key]["init"]
    },
    {
      name                   = "vault"
      image                  = var.image
      essential              = true
      user                   = var.user
      readonlyRootFilesystem = true
      command                = ["serve", "--config", "/etc/vault/vault.yaml", "--can", local.duties[each.key]]
      portMappings           = [{ containerPort = local.port, protocol = "tcp" }]
      environment = [
        { name = "VAULT_LISTEN", value = "0.0.0.0:${local.port}" },
        { name = "VAULT_TLS_CERT", value = "/etc/vault/tls.crt" },
        { name = "VAULT_TLS_KEY", value = "/etc/vault/tls.key" },
        { name = "VAULT_METRICS_LISTEN", value = "127.0.0.1:9090" },
      ]
      mountPoints      = [{ sourceVolume = "config", containerPath = "/etc/vault", readOnly = true }]
      dependsOn        = [{ containerName = "init", condition = "SUCCESS" }]
      linuxParameters  = { initProcessEnabled = false, capabilities = { drop = ["ALL"] } }
      ulimits          = [{ name = "nofile", softLimit = 65536, hardLimit = 65536 }]
      stopTimeout      = 90
      logConfiguration = local.logs[each.key]["vault"]
    },
    {
      name      = "agent"
      image     = var.agent_image
      essential = false
      environment = [
        { name = "CW_CONFIG_CONTENT", value = local.agent[each.key] },
        { name = "PROMETHEUS_CONFIG_CONTENT", value = yamlencode(local.prometheus) },
      ]
      dependsOn        = [{ containerName = "vault", condition = "START" }]
      logConfiguration = local.logs[each.key]["agent"]
    },
  ])
}

locals {
  logs = {
    for kind in local.kinds : kind => {
      for container in ["init", "vault", "agent"] : container => {
        logDriver = "awslogs"
        options = {
          awslogs-group         = aws_cloudwatch_log_group.this[kind].name
          awslogs-region        = var.region
          awslogs-stream-prefix = container
        }
      }
    }
  }
}
