output "vault_yaml" {
  description = "Region to its vault.yaml. It holds no secrets; with VAULT_TLS_CERT and VAULT_TLS_KEY, or for a command, it is complete."
  value       = local.configs
}

output "role_arns" {
  description = "Region to the task roles of its instances."
  value       = { for region, service in module.service : region => service.role_arns }
}

output "url" {
  description = "Where clients call."
  value       = "https://${var.domain_name}"
}

output "regional_names" {
  description = "Region to the name that leads to it alone."
  value       = module.dns.names
}

output "checkpoint_bucket" {
  description = "Bucket for audit checkpoints."
  value       = module.audit.bucket
}
