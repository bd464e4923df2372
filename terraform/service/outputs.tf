output "load_balancer" {
  description = "Name and zone of the load balancer, for module dns."
  value       = { dns_name = aws_lb.this.dns_name, zone_id = aws_lb.this.zone_id }
}

output "ready_alarms" {
  description = "Alarms that are on while no instance of a kind is ready, for module dns."
  value       = [for kind in sort(local.kinds) : aws_cloudwatch_metric_alarm.ready[kind].alarm_name]
}

output "role_arns" {
  description = "Task roles: tokenize and detokenize."
  value       = { for kind, role in aws_iam_role.task : kind => role.arn }
}

output "instances_security_group_id" {
  description = "Security group of the instances."
  value       = aws_security_group.instances.id
}
