output "ring_key_arns" {
  description = "Region to the ARN of its ring key; in multi_region mode that of its replica."
  value       = local.ring
}

output "storage_key_arns" {
  description = "Region to the ARN of the key for its tables, logs and buckets."
  value       = { for region, key in aws_kms_key.storage : region => key.arn }
}

output "signing_key_arns" {
  description = "Region to the ARN of its checkpoint key; empty without signing_keys."
  value       = { for region, key in aws_kms_key.signing : region => key.arn }
}

output "regions" {
  description = "Regions and their keys as vault.yaml has them, in the ring's order."
  value       = [for region in var.regions : { name = region, kms = { key_arn = local.ring[region] } }]
}

output "mode" {
  description = "The ring's mode, as vault.yaml has it."
  value       = var.mode
}
