output "names" {
  description = "Region to the name that leads to it alone."
  value       = { for region, record in aws_route53_record.regional : region => record.fqdn }
}

output "health_check_ids" {
  description = "Region to the health check that takes it out of DNS."
  value       = { for region, check in aws_route53_health_check.region : region => check.id }
}
