variable "bucket" {
  description = "Name of the bucket."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", var.bucket))
    error_message = "3 to 63 lower-case letters, digits and hyphens."
  }
}

variable "region" {
  description = "Region of the bucket."
  type        = string

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "The region is named as AWS names it, such as eu-west-1."
  }
}

variable "kms_key_arn" {
  description = "Key of that region that encrypts checkpoints."
  type        = string

  validation {
    condition     = startswith(var.kms_key_arn, "arn:")
    error_message = "The ARN of a key."
  }
}

variable "writer_role_arns" {
  description = "Roles that put checkpoints, and may do nothing else here: the task roles. They need not exist yet."
  type        = list(string)

  validation {
    condition     = length(var.writer_role_arns) > 0 && alltrue([for arn in var.writer_role_arns : can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:role/[^*?]+$", arn))])
    error_message = "At least one role's ARN, none with a wildcard."
  }
}

variable "retention_in_days" {
  description = "Days for which nobody, the account's root included, can remove a checkpoint. It can be made longer, never shorter, for what is there."
  type        = number
  default     = 2557

  validation {
    condition     = var.retention_in_days >= 1 && var.retention_in_days <= 36500
    error_message = "1 to 36500 days."
  }
}

variable "log_bucket" {
  description = "Bucket for access logs; null for none."
  type        = string
  default     = null
}

variable "tags" {
  description = "Tags of the bucket."
  type        = map(string)
  default     = {}
}
