resource "aws_lb" "this" {
  region                     = var.region
  name                       = local.prefix
  internal                   = var.internal
  load_balancer_type         = "application"
  subnets                    = var.load_balancer_subnet_ids
  security_groups            = [aws_security_group.load_balancer.id]
  enable_deletion_protection = var.deletion_protection
  drop_invalid_header_fields = true
  desync_mitigation_mode     = "strictest"
  idle_timeout               = 60
  tags                       = var.tags

  dynamic "access_logs" {
    for_each = var.access_log_bucket == null ? [] : [var.access_log_bucket]

    content {
      bucket  = access_logs.value
      prefix  = local.prefix
      enabled = true
    }
  }

  lifecycle {
    precondition {
      condition     = length(local.prefix) <= 32
      error_message = "A load balancer's name has at most 32 characters: shorten name."
    }
  }
}

resource "aws_lb_target_group" "this" {
  for_each = local.kinds

  region               = var.region
  name_prefix          = substr(each.key, 0, 5)
  vpc_id               = var.vpc_id
  target_type          = "ip"
  protocol             = "HTTPS"
  port                 = local.port
  deregistration_delay = 60
  tags                 = var.tags

  load_balancing_algorithm_type = "least_outstanding_requests"

  health_check {
    protocol            = "HTTPS"
    path                = "/readyz"
    matcher             = "200"
    interval            = 10
    timeout             = 5
    healthy_threshold   = 2
    unhealthy_threshold = 2
  }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_lb_listener" "https" {
  region            = var.region
  load_balancer_arn = aws_lb.this.arn
  protocol          = "HTTPS"
  port              = 443
  ssl_policy        = "ELBSecurityPolicy-TLS13-1-2-2021-06"
  certificate_arn   = var.certificate_arn
  tags              = var.tags

  routing_http_response_strict_transport_security_header_value = "max-age=31536000"

  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.this["detokenize"].arn
  }
}

resource "aws_lb_listener_rule" "tokenize" {
  region       = var.region
  listener_arn = aws_lb_listener.https.arn
  priority     = 10
  tags         = var.tags

  action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.this["tokenize"].arn
  }

  condition {
    path_pattern {
      values = local.tokenizing_paths
    }
  }
}

# Metrics tell of tenants' use: not for clients. Instances serve them on loopback only; this holds if one does not.
resource "aws_lb_listener_rule" "metrics" {
  region       = var.region
  listener_arn = aws_lb_listener.https.arn
  priority     = 5
  tags         = var.tags

  action {
    type = "fixed-response"

    fixed_response {
      content_type = "text/plain"
      status_code  = "404"
    }
  }

  condition {
    path_pattern {
      values = ["/metrics", "/debug/*"]
    }
  }
}
