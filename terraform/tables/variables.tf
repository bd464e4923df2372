variable "prefix" {
  description = "Prefix of every table's name, such as vault-prod-."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9_.-]{1,64}$", var.prefix))
    error_message = "The prefix is 1 to 64 letters, digits, dots, hyphens and underscores."
  }
}

variable "regions" {
  description = "Regions of the tables. The first creates the global tables, the others hold replicas; thereafter all are alike."
  type        = list(string)

  validation {
    condition     = length(var.regions) >= 1 && length(distinct(var.regions)) == length(var.regions)
    error_message = "At least one region, each once."
  }
}

variable "kms_key_arns" {
  description = "Region to the key that encrypts its tables: output storage_key_arns of module keys."
  type        = map(string)

  validation {
    condition     = alltrue([for region in var.regions : startswith(lookup(var.kms_key_arns, region, ""), "arn:")])
    error_message = "Every region needs the ARN of a key."
  }
}

variable "deletion_protection" {
  description = "Whether tables and replicas refuse to be deleted. Turn it off in an apply of its own before a destroy."
  type        = bool
  default     = true
}

variable "recovery_period_in_days" {
  description = "Days to which the home region's tables can be restored to the second. DynamoDB gives replicas its default, 35."
  type        = number
  default     = 35

  validation {
    condition     = var.recovery_period_in_days >= 1 && var.recovery_period_in_days <= 35
    error_message = "DynamoDB keeps 1 to 35 days."
  }
}

variable "tags" {
  description = "Tags of all tables and replicas."
  type        = map(string)
  default     = {}
}
